"""A denial leaves an audit event: who was refused what, and why.

A caller without the role gets 403, and one who may not know of the thing gets 404: both are written down, the second without a look whether
the thing exists, so that neither the log nor the time that it takes tells more than the answer. Inside a project that the caller sees, 404
means that there is no such thing, and is no denial.

Each caller has so many a minute; what goes beyond is refused like the rest and only counted, so that nobody fills the log by knocking. The
last one that is written in a minute says so.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

from fastapi import Request
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.db.session import get_sessionmaker
from ringi.kit.actor import Actor, ActorKind
from ringi.kit.digests import Digest
from ringi.kit.errors import RingiError
from ringi.observe import metrics
from ringi.web.rate import get_counter

PER_MINUTE = 60
_DENIALS = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND})
_LONGEST = 256


def note(
    session: Session | None,
    actor: Actor,
    action: AuditAction,
    *,
    object_type: str,
    object_id: UUID | str,
    object_digest: Digest | None = None,
    project_id: UUID | None = None,
    details: Mapping[str, str | int | bool | None] | None = None,
) -> None:
    """Record a denial in a transaction of its own. `session` is the request's: it is rolled back, so what it loaded has expired."""
    if session is not None:
        session.rollback()  # gives the connection back: a denial that waited for a second one could starve the pool
    rate = get_counter().take(f"denied:{actor.id}", PER_MINUTE)
    metrics.DENIALS.labels("yes" if rate.allowed else "no").inc()
    if not rate.allowed:
        return
    more = {"last_of_minute": True} if rate.remaining == 0 else {}
    audit.record_denied(
        get_sessionmaker(), actor, action, object_type=object_type, object_id=object_id, object_digest=object_digest, project_id=project_id,
        details={**(details or {}), **more},
    )  # fmt: skip


def note_refusal(request: Request, error: RingiError, *, status: int | None = None, code: str | None = None) -> None:
    """Record a refusal that is a denial and that nobody has recorded yet. The hub names `status` and `code` of its answer."""
    actor: Actor | None = getattr(request.state, "actor", None)
    if actor is None or actor.kind is ActorKind.SYSTEM or error.noted or (status or error.status) not in _DENIALS:
        return
    project_id: UUID | None = getattr(request.state, "project_id", None)
    unseen = (status or error.status) == HTTPStatus.NOT_FOUND
    if unseen and project_id is not None:
        return
    details: dict[str, Any] = {"code": code or error.code, "route": _route(request)}
    if unseen and "kind" in error.details:
        details["kind"] = str(error.details["kind"])
    note(
        None, actor, AuditAction.ACCESS_DENY, object_type="project" if project_id else "organization",
        object_id=project_id or str(actor.organization_id), project_id=project_id, details=details,
    )  # fmt: skip


def _route(request: Request) -> str:
    """The template, not the path: a path holds what the caller wrote."""
    return f"{request.method} {getattr(request.scope.get('route'), 'path', '')}"[:_LONGEST]
