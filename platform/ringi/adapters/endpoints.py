"""HTTP for adapters and their versions; their lists, which look across domains, are in api/catalogue.py.

A `selector` is `v3`, `latest`, a channel's name, a manifest digest or a commit; `latest@TIME` and `channel@TIME` are what these meant then.
"""

import json
from typing import Annotated

from fastapi import APIRouter

from ringi.adapters import lifecycle, service
from ringi.adapters.admission import AdapterRefused
from ringi.adapters.models import Adapter, AdapterVersion
from ringi.adapters.schemas import (
    AdapterOut,
    ChangeState,
    CreateAdapter,
    ManifestOut,
    RegisterVersion,
    VersionAccepted,
    VersionOut,
    VersionState,
)
from ringi.base_models import service as base_models
from ringi.base_models.service import RevisionNotSealed
from ringi.identity.dependencies import InProject, allowed_in_project
from ringi.identity.permissions import Permission
from ringi.jobs.contracts.adapters import AdapterFacts, EffectFacts
from ringi.jobs.contracts.parts import FileRef
from ringi.jobs.service import AlreadyRunning
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.quotas.refusals import QUOTAS
from ringi.tags.lists import with_tags
from ringi.uploads.service import NotUploaded
from ringi.web.errors import responses
from ringi.web.preconditions import IfMatch, Match, PreconditionFailed
from ringi.web.route import ApiRoute
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute,
    prefix="/projects/{project}/adapters",
    tags=["adapters"],
    responses=responses(Unauthenticated, Forbidden, NotFound),
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
Writer = Annotated[InProject, allowed_in_project(Permission.ADAPTER_WRITE)]
Retirer = Annotated[InProject, allowed_in_project(Permission.VERSION_RETIRE)]
Revoker = Annotated[InProject, allowed_in_project(Permission.VERSION_REVOKE)]


def adapter_out(adapter: Adapter) -> AdapterOut:
    """An adapter with its reference."""
    return AdapterOut(
        id=adapter.id, reference=adapter.reference, project=adapter.project.name, name=adapter.name, base=adapter.base_model.name,
        description=adapter.description, created_at=adapter.created_at, row_version=adapter.row_version,
    )  # fmt: skip


def version_out(version: AdapterVersion) -> VersionOut:
    """A version with its reference."""
    return VersionOut(
        id=version.id, reference=f"{version.adapter.reference}:v{version.number}", number=version.number, kind=version.kind, state=version.state,
        state_reason=version.state_reason, source=version.source, manifest_digest=version.manifest_digest, commit=version.commit,
        base=version.adapter.base_model.name, base_revision=version.base_revision.number, files=[FileRef.model_validate(file) for file in version.files],
        facts=AdapterFacts.model_validate(version.facts), effect=EffectFacts.model_validate(version.effect), created_by=version.created_by,
        created_at=version.created_at, row_version=version.row_version,
    )  # fmt: skip


@router.post("", status_code=201, responses=responses(service.AdapterExists))
def create_adapter(session: SessionDep, caller: Writer, body: CreateAdapter) -> AdapterOut:
    """A new adapter without versions."""
    base = base_models.find(session, caller.actor, body.base)
    return adapter_out(
        service.create(session, caller.actor, project=caller.project, name=body.name, base=base, description=body.description)
    )


@router.get("/{adapter}")
def get_adapter(session: SessionDep, caller: Reader, adapter: str) -> AdapterOut:
    """One adapter."""
    return with_tags(session, adapter_out(service.find(session, caller.actor, project=caller.project, name=adapter)))


@router.post(
    "/{adapter}/versions", status_code=202, responses=responses(NotUploaded, AlreadyRunning, RevisionNotSealed, AdapterRefused, *QUOTAS)
)
def register_version(session: SessionDep, caller: Writer, adapter: str, body: RegisterVersion) -> VersionAccepted:
    """Register a PEFT folder trained elsewhere: the job inspects it and seals a version, or fails with the reasons."""
    found = service.find(session, caller.actor, project=caller.project, name=adapter)
    return VersionAccepted(
        job_id=service.register(session, caller.actor, adapter=found, files=body.files, base_revision=body.base_revision).id
    )


@router.get("/{adapter}/versions/{selector}")
def get_version(session: SessionDep, caller: Reader, adapter: str, selector: str) -> VersionOut:
    """One version."""
    found = service.find(session, caller.actor, project=caller.project, name=adapter)
    return with_tags(session, version_out(service.find_version(session, caller.actor, adapter=found, selector=selector)))


@router.get("/{adapter}/versions/{selector}/manifest")
def get_manifest(session: SessionDep, caller: Reader, adapter: str, selector: str) -> ManifestOut:
    """The canonical manifest of a version."""
    found = service.find(session, caller.actor, project=caller.project, name=adapter)
    version = service.find_version(session, caller.actor, adapter=found, selector=selector)
    return ManifestOut(manifest_digest=version.manifest_digest, manifest=json.loads(version.manifest))


def _advance(
    session: SessionDep, caller: InProject, adapter: str, selector: str, to: VersionState, body: ChangeState, match: Match
) -> VersionOut:
    found = service.find(session, caller.actor, project=caller.project, name=adapter)
    version = service.find_version(session, caller.actor, adapter=found, selector=selector)
    match.check(session, version)
    return with_tags(session, version_out(lifecycle.advance(session, caller.actor, version, to=to, reason=body.reason)))


@router.post("/{adapter}/versions/{selector}/deprecate", responses=responses(lifecycle.VersionMoved, PreconditionFailed))
def deprecate_version(session: SessionDep, caller: Retirer, adapter: str, selector: str, body: ChangeState, match: IfMatch) -> VersionOut:
    """Warn whoever pulls it; it goes on serving."""
    return _advance(session, caller, adapter, selector, VersionState.DEPRECATED, body, match)


@router.post("/{adapter}/versions/{selector}/retire", responses=responses(lifecycle.VersionMoved, PreconditionFailed))
def retire_version(session: SessionDep, caller: Retirer, adapter: str, selector: str, body: ChangeState, match: IfMatch) -> VersionOut:
    """End its service in good order."""
    return _advance(session, caller, adapter, selector, VersionState.RETIRED, body, match)


@router.post("/{adapter}/versions/{selector}/revoke", responses=responses(lifecycle.VersionMoved, PreconditionFailed))
def revoke_version(session: SessionDep, caller: Revoker, adapter: str, selector: str, body: ChangeState, match: IfMatch) -> VersionOut:
    """The kill switch: one person, one reason, at once, for ever."""
    return _advance(session, caller, adapter, selector, VersionState.REVOKED, body, match)
