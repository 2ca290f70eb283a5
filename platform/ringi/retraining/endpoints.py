"""HTTP for retraining: the policy of a project, and what came of it."""

from typing import Annotated

from fastapi import APIRouter

from ringi.identity.dependencies import InProject, allowed_in_project
from ringi.identity.permissions import Permission
from ringi.jobs.schemas import JobError
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.retraining import service
from ringi.retraining.lists import RETRAININGS
from ringi.retraining.models import Retraining, RetrainingPolicy
from ringi.retraining.schemas import RetrainingOut, RetrainingPolicyOut, SetRetrainingPolicy
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, page_of
from ringi.web.preconditions import IfMatch, PreconditionFailed
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute, prefix="/projects/{project}", tags=["training"], responses=responses(Unauthenticated, Forbidden, NotFound)
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
PolicyWriter = Annotated[InProject, allowed_in_project(Permission.POLICY_WRITE)]


def policy_out(project: str, policy: RetrainingPolicy | None) -> RetrainingPolicyOut:
    """The policy; without one nothing is retrained by itself."""
    if policy is None:
        return RetrainingPolicyOut(project=project, enabled=False, row_version=0)
    return RetrainingPolicyOut(project=project, enabled=policy.enabled, environment=policy.environment, row_version=policy.row_version)


def retraining_out(one: Retraining) -> RetrainingOut:
    """A retraining with the names of what it is about."""
    dataset, before = one.dataset_version, one.source_run.dataset_version
    project, version = one.adapter.project.name, one.run.version if one.run is not None else None
    return RetrainingOut(
        id=one.id, adapter=one.adapter.reference, dataset=f"{project}/{dataset.dataset.name}:v{dataset.number}",
        trained_before=f"{project}/{before.dataset.name}:v{before.number}", environment=one.environment, state=one.state, run_id=one.run_id,
        version=f"{one.adapter.reference}:v{version.number}" if version is not None else None, evaluation_id=one.evaluation_id,
        request_id=one.request_id, problem=JobError.model_validate(one.problem) if one.problem else None, on_behalf_of=one.on_behalf_of,
        created_at=one.created_at, completed_at=one.completed_at,
    )  # fmt: skip


@router.get("/retraining-policy")  # a dependency takes the project
def get_retraining_policy(session: SessionDep, caller: Reader) -> RetrainingPolicyOut:
    """Whether new rows start the retraining of the adapters that depend on them."""
    return policy_out(caller.project.name, service.policy_of(session, caller.project.id))


@router.put("/retraining-policy", responses=responses(PreconditionFailed))  # a dependency takes the project
def set_retraining_policy(session: SessionDep, caller: PolicyWriter, body: SetRetrainingPolicy, match: IfMatch) -> RetrainingPolicyOut:
    """Set it for dataset versions that are sealed from now on."""
    return policy_out(caller.project.name, service.set_policy(session, caller.actor, project=caller.project, wanted=body, match=match))


@router.get("/retrainings")
def list_retrainings(session: SessionDep, caller: Reader, ask: Annotated[Ask, asking(RETRAININGS)]) -> Page[RetrainingOut]:
    """Retrainings of the project, newest first: how far each is, and what ended it."""
    return page_of(session, service.listed(caller.actor, project=caller.project), ask, retraining_out)
