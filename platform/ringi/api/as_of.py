"""What was approved and live at a time, by whom, on which evidence. Every sentence of the answer names the entry that says it.

The time is that of the entries, by the database's clock, and not that of the rows: a release counts from its entry on, a vote is shown if its
entry stands before the time, and a version is in the state that its last entry until then gave it. A row without an entry is not shown.
"""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from sqlalchemy import Select, exists, func, select
from sqlalchemy.orm import Session, aliased, joinedload

from ringi.adapters.models import Adapter, AdapterVersion
from ringi.api.as_of_answers import Answers
from ringi.api.as_of_schemas import ApprovedOut, LiveThenOut
from ringi.approvals.models import ApprovalGrant, ApprovalRequest
from ringi.audit.models import AuditEvent
from ringi.identity import service as identity
from ringi.identity.dependencies import allowed
from ringi.identity.permissions import Permission, visible
from ringi.kit.actor import Actor
from ringi.kit.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from ringi.releases.models import Channel, Release
from ringi.web.as_of import BadAsOf, past
from ringi.web.errors import responses
from ringi.web.listing import Listing, column
from ringi.web.paging import Ask, asking, rows_of
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(route_class=ApiRoute, prefix="/audit", tags=["audit"], responses=responses(Unauthenticated, Forbidden, NotFound))
Auditor = Annotated[Actor, allowed(Permission.AUDIT_READ)]
Time = Annotated[str, Query(max_length=40, description="When: 2026-11-01T09:30Z, or a day, which is its beginning in UTC.")]
Named = Annotated[str, Query(max_length=64)]

LIVE_THEN = Listing(
    "live-then", key=Release.id, also=("time", "project", "adapter", "channel"),
    fields={"sequence": column(Release.sequence, "Which move of the channel for the adapter it was.")},
)  # fmt: skip
APPROVED_THEN = Listing(
    "approved-then", key=ApprovalGrant.id, also=("time", "project", "adapter"),
    fields={
        "environment": column(ApprovalGrant.environment, "What the approval is for."),
        "expires_at": column(ApprovalGrant.expires_at, "When it ends."),
    },
)  # fmt: skip


class BeforeTheLog(InvalidInput):
    """The time lies before the organisation's first entry."""

    code, status = "as_of_before_log", 422

    def __init__(self, first: datetime | None) -> None:
        began = f"at {first:%Y-%m-%dT%H:%M:%SZ}" if first else "not yet"
        super().__init__(
            f"The log knows nothing of that time: its first entry about this organisation was written {began}.",
            next_step="Ask for a later time; of what was before, only other records can tell.",
        )


def _at(session: Session, actor: Actor, text: str) -> datetime:
    """The time that is asked for. Raises BadAsOf for none and for one that has not come, BeforeTheLog."""
    at = past(text, of="time")
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    if at > now:
        raise BadAsOf(f"time={text}", "the time has not come yet")
    first = session.scalar(select(func.min(AuditEvent.ts)).where(AuditEvent.organization_id == actor.organization_id))
    if first is None or at < first:
        raise BeforeTheLog(first)
    return at


def _of_adapter(session: Session, actor: Actor, project_id: UUID, name: str | None) -> Select[UUID]:
    """The ids of the adapters that are asked for; raises NotFound for one that is not there."""
    query = visible(actor, Adapter).where(Adapter.project_id == project_id)
    if name is not None:
        query = query.where(Adapter.name == name)
        if session.scalars(query).one_or_none() is None:
            raise NotFound("adapter", name)
    return query.with_only_columns(Adapter.id)


_VERSION = joinedload(AdapterVersion.adapter).joinedload(Adapter.project)
# What telling of an approval needs, behind its request.
_APPROVAL = (
    joinedload(ApprovalRequest.requester), joinedload(ApprovalRequest.policy), joinedload(ApprovalRequest.version).options(_VERSION),
)  # fmt: skip


@router.get("/as-of", responses=responses(BadAsOf, BeforeTheLog))
def live_then(
    session: SessionDep, actor: Auditor, ask: Annotated[Ask, asking(LIVE_THEN)], time: Time, project: Named, adapter: Named | None = None,
    channel: Named | None = None,
) -> Page[LiveThenOut]:  # fmt: skip
    """What every channel of a project served at a time, with the approval behind it and the entries that prove it."""
    at, place = _at(session, actor, time), identity.find_project(session, actor, project)
    entry, later, after = aliased(AuditEvent), aliased(Release), aliased(AuditEvent)
    # unscoped: only whether a later move of the same pointer was written by then.
    moved_on = (
        select(later.id)
        .join(after, after.event_id == later.audit_event_id)
        .where(
            later.channel_id == Release.channel_id, later.adapter_id == Release.adapter_id, later.sequence > Release.sequence, after.ts <= at
        )
    )  # fmt: skip
    query = (
        visible(actor, Release)
        .join(entry, entry.event_id == Release.audit_event_id)
        .where(Release.project_id == place.id, entry.ts <= at, ~moved_on.exists())
        .where(Release.adapter_id.in_(_of_adapter(session, actor, place.id, adapter)))
        .options(
            joinedload(Release.channel), joinedload(Release.releaser), joinedload(Release.version).options(_VERSION),
            joinedload(Release.grant).joinedload(ApprovalGrant.request).options(*_APPROVAL),
        )
    )  # fmt: skip
    if channel is not None:
        found = session.scalars(visible(actor, Channel).where(Channel.project_id == place.id, Channel.name == channel)).one_or_none()
        if found is None:
            raise NotFound("channel", f"{project}:{channel}")
        query = query.where(Release.channel_id == found.id)
    page = rows_of(session, query, ask)
    releases = [row[0] for row in page.rows]
    answers = Answers.about(session, actor, at, grants=[one.grant for one in releases], releases=releases)
    items = [answers.live(one) for one in releases]
    return Page(items=items, next_cursor=page.next_cursor, total=page.total, total_exact=page.total_exact)


@router.get("/as-of/approvals", responses=responses(BadAsOf, BeforeTheLog))
def approved_then(
    session: SessionDep,
    actor: Auditor,
    ask: Annotated[Ask, asking(APPROVED_THEN)],
    time: Time,
    project: Named,
    adapter: Named | None = None,
) -> Page[ApprovedOut]:
    """Every approval of a project that was in force at a time, released or not. Whether the version was usable then stands in its state."""
    at, place = _at(session, actor, time), identity.find_project(session, actor, project)
    # unscoped: ids of the versions of adapters that the caller may see.
    versions = select(AdapterVersion.id).where(AdapterVersion.adapter_id.in_(_of_adapter(session, actor, place.id, adapter)))
    known = exists().where(AuditEvent.event_id == ApprovalGrant.audit_event_id, AuditEvent.ts <= at)
    query = (
        visible(actor, ApprovalGrant)
        .where(ApprovalGrant.project_id == place.id, ApprovalGrant.version_id.in_(versions), known)
        .where(ApprovalGrant.valid_from <= at, ApprovalGrant.expires_at > at)
        .options(joinedload(ApprovalGrant.request).options(*_APPROVAL))
    )
    page = rows_of(session, query, ask)
    grants = [row[0] for row in page.rows]
    answers = Answers.about(session, actor, at, grants=grants)
    items = [answers.approved(one) for one in grants]
    return Page(items=items, next_cursor=page.next_cursor, total=page.total, total_exact=page.total_exact)
