"""HTTP for limits: what a project may use and uses, and what a token has used of its requests."""

from typing import Annotated

from fastapi import APIRouter, Request

from ringi.identity.dependencies import CurrentActor, InProject, allowed_in_project
from ringi.identity.permissions import Permission
from ringi.jobs import admission
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.quotas import service
from ringi.quotas.models import ProjectQuota
from ringi.quotas.schemas import CountUse, HoursUse, ProjectUsage, QuotasOut, RequestsUse, SetQuotas, TokenUsage
from ringi.web.errors import responses
from ringi.web.preconditions import IfMatch, PreconditionFailed
from ringi.web.rate import Rate
from ringi.web.route import ApiRoute
from ringi.web.session import SessionDep

router = APIRouter(route_class=ApiRoute, tags=["limits"], responses=responses(Unauthenticated, Forbidden, NotFound))
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
Setter = Annotated[InProject, allowed_in_project(Permission.QUOTA_SET)]


def quotas_out(project: str, quota: ProjectQuota | None) -> QuotasOut:
    """Limits with the project's name."""
    limits = {name: getattr(quota, name, None) for name in SetQuotas.model_fields}
    return QuotasOut(project=project, row_version=quota.row_version if quota else 0, **limits)


def _counted(used: int, limit: int | None) -> CountUse:
    return CountUse(used=used, limit=limit, remaining=None if limit is None else max(0, limit - used))


@router.get("/projects/{project}/quotas")  # noqa: FAST003  # a dependency takes the project
def get_quotas(session: SessionDep, caller: Reader) -> QuotasOut:
    """The limits of a project."""
    return quotas_out(caller.project.name, service.of(session, caller.project.id))


@router.put("/projects/{project}/quotas", responses=responses(PreconditionFailed))  # noqa: FAST003  # a dependency takes the project
def set_quotas(session: SessionDep, caller: Setter, body: SetQuotas, match: IfMatch) -> QuotasOut:
    """Replace the limits of a project; what is left out has none. Jobs that are open already go on."""
    return quotas_out(caller.project.name, service.set_limits(session, caller.actor, project=caller.project, limits=body, match=match))


@router.get("/projects/{project}/usage")  # noqa: FAST003  # a dependency takes the project
def project_usage(request: Request, session: SessionDep, caller: Reader) -> ProjectUsage:
    """What a project uses of its limits now."""
    quota, used = service.of(session, caller.project.id), admission.usage_of(session, caller.project.id)
    hours, limits = round(used.gpu_hours, 6), quotas_out(caller.project.name, quota)
    limit = limits.gpu_hours_per_month
    rate: Rate | None = request.state.project_rate
    return ProjectUsage(
        project=caller.project.name,
        requests_per_minute=RequestsUse(limit=rate and rate.limit, remaining=rate and rate.remaining, reset_s=rate and rate.reset_s),
        open_jobs=_counted(used.open_jobs, limits.open_jobs),
        jobs_per_day=_counted(used.jobs_today, limits.jobs_per_day),
        gpu_hours_per_month=HoursUse(used=hours, limit=limit, remaining=None if limit is None else max(0.0, limit - hours)),
        stored_bytes=_counted(used.stored_bytes + used.reserved_bytes, limits.stored_bytes),
    )


@router.get("/usage")
def token_usage(request: Request, actor: CurrentActor) -> TokenUsage:
    """What the caller's token has used of its requests a minute, this one included."""
    rate: Rate | None = request.state.rate
    if rate is None:
        return TokenUsage(token_id=actor.token_id, requests_per_minute=None, remaining=None, reset_s=None, shared=None)
    return TokenUsage(
        token_id=actor.token_id, requests_per_minute=rate.limit, remaining=rate.remaining, reset_s=rate.reset_s, shared=rate.shared
    )
