"""Read and export the audit log. It sits up here because an export gathers the state rows of every domain.

The export streams the organisation's part of the log and its live rows under the newest signed checkpoint; `ringi audit verify` checks the
file without a server.
"""

import tempfile
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, PlainTextResponse
from sqlalchemy import Select, cast, or_, select, union_all
from sqlalchemy import String as SqlString
from sqlalchemy.orm import Session
from starlette.background import BackgroundTask

from ringi.adapters import service as adapters
from ringi.adapters.models import AdapterVersion
from ringi.api import audit_parts
from ringi.api.audit_lists import EVENTS, TRAIL
from ringi.api.audit_parts import BadTime, NoSuchPart, read_bound
from ringi.api.audit_schemas import AuditEntryOut, AuditKeyOut
from ringi.api.live_records import RECORD_TYPES, live_records
from ringi.approvals.models import ApprovalGrant, ApprovalRequest, ApprovalVote
from ringi.audit import export, personal, sampling, signing
from ringi.audit import service as audit
from ringi.audit.generations import Log, log_named
from ringi.audit.models import AuditEvent, AuditLeaf
from ringi.audit.published import AuditNotSigned, published
from ringi.audit.schemas import AuditAction, Event
from ringi.compatibility.models import CompatibilityAssessment
from ringi.db.session import platform_transaction
from ringi.evaluation.models import Evaluation
from ringi.gates.models import GateDecision
from ringi.identity import service as identity
from ringi.identity.dependencies import InProject, allowed, allowed_in_project
from ringi.identity.models import User
from ringi.identity.permissions import Permission
from ringi.kit.actor import Actor
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.kit.ids import uuid_in
from ringi.measurements.models import Measurement
from ringi.releases.models import Release
from ringi.settings import get_settings
from ringi.training.models import TrainingRun
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, rows_of
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(route_class=ApiRoute, tags=["audit"], responses=responses(Unauthenticated, Forbidden, NotFound))
Auditor = Annotated[Actor, allowed(Permission.AUDIT_READ)]


def _page(session: Session, query: Select[AuditEvent, int], ask: Ask) -> Page[AuditEntryOut]:
    found = rows_of(session, query, ask)
    items = entries_out(session, found.rows)
    return Page(items=items, next_cursor=found.next_cursor, total=found.total, total_exact=found.total_exact)


def entries_out(session: Session, rows: Sequence[tuple[AuditEvent, int | None]]) -> list[AuditEntryOut]:
    """Entries that the caller may read, with the names of who acted."""
    # What is shown is what the bytes say: the columns have led to the rows, and prove nothing.
    events = [audit.read_event(row) for row, _ in rows]
    people = {event.actor.id for event in events if event.actor.type != "system"}
    # unscoped: names of the actors of entries that the caller may read.
    names = {
        str(user_id): name for user_id, name in session.execute(select(User.id, User.name).where(cast(User.id, SqlString).in_(people)))
    }
    texts = personal.texts(session, {row.id: row.event_id for row, _ in rows})
    return [
        _entry_out(event, index, names.get(event.actor.id, event.actor.id), texts.get(row.id))
        for event, (row, index) in zip(events, rows, strict=True)
    ]


def _entry_out(event: Event, index: int | None, actor: str, text: str | None) -> AuditEntryOut:
    return AuditEntryOut(
        event_id=UUID(event.id), index=index, ts=datetime.fromisoformat(event.ts), actor=actor, actor_type=event.actor.type, action=event.action,
        outcome=event.outcome, object_type=event.object.type, object_id=event.object.id, digest=event.object.digest, after=event.after,
        details=event.details, text=text, text_erased=text is None and event.payload_commit is not None,
    )  # fmt: skip


def _entries() -> Select[AuditEvent, int]:
    return select(AuditEvent, AuditLeaf.leaf_index).outerjoin(AuditLeaf, AuditLeaf.event_id == AuditEvent.id)


@router.get("/audit/events")
def list_events(
    session: SessionDep,
    actor: Auditor,
    ask: Annotated[Ask, asking(EVENTS)],
    object_id: Annotated[str | None, Query(max_length=256)] = None,
    action: Annotated[AuditAction | None, Query()] = None,
    user: Annotated[str | None, Query(max_length=64)] = None,
) -> Page[AuditEntryOut]:
    """Entries of the organisation, newest first, by object, action or user."""
    query = _entries().where(AuditEvent.organization_id == actor.organization_id)
    if object_id is not None:
        query = query.where(AuditEvent.object_id == object_id)
    if action is not None:
        query = query.where(AuditEvent.action == action.value)
    if user is not None:
        # unscoped: the query names the caller's organisation itself.
        called = User.name == user if (user_id := uuid_in(user)) is None else User.id == user_id
        named = select(cast(User.id, SqlString)).where(User.organization_id == actor.organization_id, called)
        query = query.where(AuditEvent.actor_id.in_(named))
    return _page(session, query, ask)


@router.get("/projects/{project}/adapters/{adapter}/trail")  # noqa: FAST003  # a dependency takes the project
def adapter_trail(
    session: SessionDep,
    caller: Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)],
    adapter: str,
    ask: Annotated[Ask, asking(TRAIL)],
) -> Page[AuditEntryOut]:
    """Who did what to an adapter, when, on which digest: everything from its creation to its last release."""
    found = adapters.find(session, caller.actor, project=caller.project, name=adapter)
    # unscoped: ids of what belongs to an adapter that the caller may see.
    versions = select(AdapterVersion.id).where(AdapterVersion.adapter_id == found.id)
    requests = select(ApprovalRequest.id).where(ApprovalRequest.version_id.in_(versions))
    parts: tuple[Select[UUID], ...] = (
        versions,
        requests,
        select(TrainingRun.id).where(TrainingRun.adapter_id == found.id),
        select(Evaluation.id).where(Evaluation.version_id.in_(versions)),
        select(Measurement.id).where(Measurement.version_id.in_(versions)),
        select(GateDecision.id).where(GateDecision.candidate_id.in_(select(Measurement.id).where(Measurement.version_id.in_(versions)))),
        select(ApprovalVote.id).where(ApprovalVote.request_id.in_(requests)),
        select(ApprovalGrant.id).where(ApprovalGrant.version_id.in_(versions)),
        select(CompatibilityAssessment.id).where(CompatibilityAssessment.version_id.in_(versions)),
        select(Release.id).where(Release.adapter_id == found.id),
    )
    # One statement, however many versions there are: ids passed as parameters would end at PostgreSQL's 65,535.
    ids = union_all(*(select(cast(part.subquery().c[0], SqlString)) for part in parts))
    related = or_(AuditEvent.object_id == str(found.id), AuditEvent.object_id.in_(ids))
    return _page(session, _entries().where(related), ask)


@router.get("/audit/key")
def audit_key(actor: Annotated[Actor, allowed(Permission.ORGANIZATION_READ)]) -> AuditKeyOut:  # noqa: ARG001  # the declared permission
    """The verifier key. Pin it once, over another way than this server."""
    settings = get_settings()
    newest, *older = signing.load_signers(settings.audit_key_path, settings.audit_origin)
    return AuditKeyOut(origin=settings.audit_origin, vkey=str(newest.verifier), also=[str(one.verifier) for one in older])


@router.get("/audit/checkpoint", response_class=PlainTextResponse)
def checkpoint(session: SessionDep, actor: Annotated[Actor, allowed(Permission.ORGANIZATION_READ)]) -> str:  # noqa: ARG001  # the declared permission
    """The newest signed checkpoint (C2SP tlog-checkpoint) that enough witnesses have cosigned, with their cosignatures."""
    return published(session).note.decode()


def _vkey(actor: Actor, log: Log | None) -> str | None:
    if log is not None and log.origin != get_settings().audit_origin:
        return log.vkey
    # While a key is being replaced an auditor may know either: the bundle names none.
    key = audit_key(actor)
    return None if key.also else key.vkey


ZIP: dict[int | str, dict[str, Any]] = {200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}}


@router.post("/audit/export", response_class=FileResponse, responses=responses(AuditNotSigned, BadTime, NoSuchPart) | ZIP)
def export_log(
    session: SessionDep,
    actor: Annotated[Actor, allowed(Permission.AUDIT_EXPORT)],
    since: Annotated[str | None, Query(alias="from", max_length=40, description="Only entries at or after this time.")] = None,
    until: Annotated[str | None, Query(alias="to", max_length=40, description="Only entries before this time.")] = None,
    project: Annotated[str | None, Query(max_length=64, description="With `adapter`: only what belongs to it.")] = None,
    adapter: Annotated[str | None, Query(max_length=64)] = None,
    origin: Annotated[str | None, Query(max_length=512, description="Of a log that has ended; else the one that grows.")] = None,
) -> FileResponse:
    """The organisation's entries and state rows with the signed checkpoint of the whole log, as one file that verifies offline.

    Of entries of other organisations and of none, and of those outside of a chosen part, it holds only the hashes that the checkpoint's
    proof needs.
    """
    begin, end = read_bound("from", since), read_bound("to", until)
    audit_parts.check(since=begin, until=end, project=project, adapter=adapter)
    # Without this, an actor of no organisation would be an operator, who exports the whole log.
    if actor.organization_id is None:
        raise Forbidden(Permission.AUDIT_EXPORT, where="this organisation")
    records = partial(live_records, organization_id=actor.organization_id)
    log = log_named(session, origin) if origin is not None else None
    generation = log.generation if log is not None else None
    chosen = None
    if project is not None and adapter is not None:
        place = identity.find_project(session, actor, project)
        chosen = audit_parts.of_adapter(adapters.find(session, actor, project=place, name=adapter), generation)
    elif begin or end:
        chosen = export.period(sampling.written(begin), sampling.written(end), actor.organization_id, generation)
    # Built on disk first: a bundle that fails half-way must not look like a download that ended well.
    with tempfile.NamedTemporaryFile(prefix="ringi-audit-", suffix=".zip", delete=False) as out:
        path = Path(out.name)
        try:
            # A session of its own: an export reads one consistent snapshot, which must begin before anything else was read. It sees the whole log:
            # what is withheld is told from what is missing.
            with platform_transaction() as snapshot:
                export.write_bundle(
                    snapshot, path, records, organization_id=actor.organization_id, record_types=RECORD_TYPES,
                    vkey=_vkey(actor, log), chosen=chosen, log=log,
                )  # fmt: skip
        except BaseException:
            path.unlink()
            raise
    part = {
        "origin": origin,
        "from": sampling.written(begin),
        "to": sampling.written(end),
        "adapter": chosen and adapter and f"{project}/{adapter}",
    }
    audit.record(
        session, actor, AuditAction.AUDIT_EXPORT, object_type="audit_log", object_id=get_settings().audit_origin,
        details={name: value for name, value in part.items() if value} or None,
    )  # fmt: skip
    return FileResponse(path, media_type="application/zip", filename="ringi-audit.zip", background=BackgroundTask(path.unlink))
