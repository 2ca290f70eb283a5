"""The live rows, read straight from the database in one snapshot, and as far as the log speaks of them.

Not through the platform's own export: the platform is what is being watched, its export shows one organisation at a time and holds neither
roles nor tokens, and what a superuser edits is what the platform will act upon, so that is what is read. A role that may only SELECT is enough;
a table that it may not read, or rows that row-level security keeps from it, are reported as missing and never taken as good.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Engine, ScalarResult, create_engine, select
from sqlalchemy.orm import Session

from ringi.adapters.models import AdapterVersion, ChannelHead
from ringi.adapters.service import version_record
from ringi.approvals.models import ApprovalGrant, ApprovalPolicy, ApprovalRequest, ApprovalVote
from ringi.approvals.records import grant_record, request_record, vote_record
from ringi.audit.copies import ChangedColumns, changed_columns
from ringi.audit.models import AuditEvent, AuditHead, AuditOrigin, AuditPending
from ringi.base_models.models import BaseRevision
from ringi.compatibility.models import CompatibilityAssessment
from ringi.db.base import Identified
from ringi.evaluation.models import Evaluation
from ringi.gates.models import GateDecision
from ringi.identity.models import Membership, Organization, Project, Token, User
from ringi.identity.records import membership_record, token_record
from ringi.kit.digests import canonical_json, sha256_bytes
from ringi.measurements.models import Measurement
from ringi.origins.models import VersionOrigin
from ringi.origins.service import origin_record
from ringi.releases.models import Channel, Release
from ringi.releases.service import release_record

_ROWS = 1000


class LiveRow(NamedTuple):
    """A row under the names that the log uses. `record` is the digest of its record as it is now, None where the log tells of none."""

    kind: str
    id: str
    organization: str | None
    fields: dict[str, Any]
    record: str | None = None


@dataclass(frozen=True)
class Snapshot:
    """One moment of the database: its rows, and which entries had been written by then: leaves below `head`, and `pending` ones.

    `origin` is the name of the log that grows, where another one went before it.
    """

    origin: str | None
    head: int
    pending: frozenset[str]
    rows: dict[tuple[str, str], LiveRow] = field(default_factory=dict)


def engine_of(url: str) -> Engine:
    """An engine whose every transaction is read-only, whatever its role may do."""
    options = "-c timezone=UTC -c default_transaction_read_only=on"
    return create_engine(
        url, hide_parameters=True, pool_pre_ping=True, connect_args={"application_name": "ringi-monitor", "options": options}
    )


@contextmanager
def _reading(engine: Engine) -> Iterator[Session]:
    with Session(engine) as session:
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
        yield session
        session.rollback()


def snapshot(engine: Engine) -> Snapshot:
    """Everything in one REPEATABLE READ transaction, so that rows and entries belong together."""
    with _reading(engine) as session:
        head = session.scalar(select(AuditHead.size)) or 0
        growing = select(AuditOrigin.origin).join(AuditHead, AuditHead.generation == AuditOrigin.generation)
        waiting = select(AuditEvent.event_id).join(AuditPending, AuditPending.event_id == AuditEvent.id)
        pending = frozenset(str(one) for one in session.scalars(waiting))
        return Snapshot(session.scalar(growing), head, pending, {(row.kind, row.id): row for row in live_rows(session)})


def columns_of(engine: Engine) -> list[ChangedColumns]:
    """The entries whose search columns are not what the bytes beside them say; whether those bytes are the signed ones the platform itself looks."""
    with _reading(engine) as session:
        return list(changed_columns(session))


def live_rows(session: Session) -> Iterator[LiveRow]:
    """Every row that the log speaks of."""
    # unscoped: the monitor watches every organisation.
    projects = {project.id: project.organization_id for project in session.scalars(select(Project))}
    yield from _people(session)
    yield from _bases(session)
    for part in (_versions, _evidence, _approvals, _channels):
        yield from part(session, projects)


def _all(session: Session, model: type[Identified]) -> ScalarResult[Any]:
    # unscoped: as above.
    return session.scalars(select(model).execution_options(yield_per=_ROWS))


def _digest(record: Any) -> str:
    return sha256_bytes(canonical_json(record))


def _people(session: Session) -> Iterator[LiveRow]:
    for one in _all(session, Organization):
        yield LiveRow("organization", str(one.id), str(one.id), {})
    for one in _all(session, Project):
        yield LiveRow("project", str(one.id), str(one.organization_id), {})
    for one in _all(session, User):
        fields = {
            "kind": str(one.kind),
            "disabled": one.disabled_at is not None,
            "linked": one.subject is not None,
            "erased": one.erased_at is not None,
        }
        yield LiveRow("user", str(one.id), str(one.organization_id), fields)
    for one in _all(session, Membership):
        fields = {"user": str(one.user_id), "role": str(one.role), "project": _text(one.project_id), "revoked": one.revoked_at is not None}
        yield LiveRow("membership", str(one.id), str(one.organization_id), fields, _digest(membership_record(one)))
    for one in _all(session, Token):
        fields = {"user": str(one.user_id), "revoked": one.revoked_at is not None, "requests_per_minute": one.requests_per_minute}
        yield LiveRow("token", str(one.id), str(one.organization_id), fields, _digest(token_record(one)))


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def _bases(session: Session) -> Iterator[LiveRow]:
    for one in _all(session, BaseRevision):
        parts = one.parts or {}
        fields = {"digest": one.digest, "state": str(one.state), "F1": parts.get("F1"), "F2": parts.get("F2")}
        yield LiveRow("base_revision", str(one.id), str(one.organization_id), fields)


def _versions(session: Session, projects: dict[UUID, UUID]) -> Iterator[LiveRow]:
    for one in _all(session, AdapterVersion):
        fields = {"state": str(one.state), "manifest": sha256_bytes(one.manifest), "files": _manifest_of_files(one)}
        yield LiveRow("adapter_version", str(one.id), _text(projects.get(one.project_id)), fields, _digest(version_record(one)))
    for one in _all(session, VersionOrigin):
        yield LiveRow("adapter_version_origin", str(one.id), _text(projects.get(one.project_id)), {}, _digest(origin_record(one)))


def _manifest_of_files(version: AdapterVersion) -> str | None:
    """The manifest's digest if the files were those that the row names beside it: the hub serves those."""
    try:
        document = json.loads(version.manifest)
        document["files"] = [
            {"path": file["path"], "size": file["size"], "sha256": file["digest"].removeprefix("sha256:")} for file in version.files
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return _digest(document)


def _evidence(session: Session, projects: dict[UUID, UUID]) -> Iterator[LiveRow]:
    for one in _all(session, Evaluation):
        # Until it is complete, an evaluation is a job's plan and evidence of nothing.
        if one.evidence_digest is not None or one.evidence is not None:
            fields = {"evidence_digest": one.evidence_digest, "verdict": (one.summary or {}).get("verdict")}
            yield LiveRow("evaluation", str(one.id), _text(projects.get(one.project_id)), fields, _digest(one.evidence))
    for one in _all(session, Measurement):
        if one.evidence_digest is not None or one.evidence is not None:
            fields = {"evidence_digest": one.evidence_digest}
            yield LiveRow("measurement", str(one.id), _text(projects.get(one.project_id)), fields, _digest(one.evidence))
    for one in _all(session, GateDecision):
        fields = {"digest": one.digest, "verdict": one.verdict, "imported": one.imported}
        yield LiveRow("gate_decision", str(one.id), _text(projects.get(one.project_id)), fields, _digest(one.document))
    for one in _all(session, CompatibilityAssessment):
        yield LiveRow("compatibility_assessment", str(one.id), _text(projects.get(one.project_id)), {}, _digest(one.report))


def _approvals(session: Session, projects: dict[UUID, UUID]) -> Iterator[LiveRow]:
    for one in _all(session, ApprovalPolicy):
        fields = {"digest": one.digest, "number": one.number, "environment": one.environment}
        yield LiveRow("approval_policy", str(one.id), _text(projects.get(one.project_id)), fields, _digest(one.document))
    for one in _all(session, ApprovalRequest):
        names = ("environment", "manifest_digest", "policy_digest", "evidence_digest")
        fields = {name: getattr(one, name) for name in names} | {"version": str(one.version_id), "state": str(one.state)}
        yield LiveRow("approval_request", str(one.id), _text(projects.get(one.project_id)), fields, _digest(request_record(one)))
    for one in _all(session, ApprovalVote):
        fields = {
            "request": str(one.request_id), "voter": str(one.voter_id), "role": str(one.role), "decision": str(one.decision), "stage": one.stage,
            "manifest_digest": one.manifest_digest,
        }  # fmt: skip
        yield LiveRow("approval_vote", str(one.id), _text(projects.get(one.project_id)), fields, _digest(vote_record(one)))
    for one in _all(session, ApprovalGrant):
        fields = {name: getattr(one, name) for name in ("environment", "manifest_digest", "policy_digest")} | {
            "request": str(one.request_id),
            "version": str(one.version_id),
        }
        yield LiveRow("approval_grant", str(one.id), _text(projects.get(one.project_id)), fields, _digest(grant_record(one)))


def _channels(session: Session, projects: dict[UUID, UUID]) -> Iterator[LiveRow]:
    for one in _all(session, Channel):
        fields = {"name": one.name, "environment": one.environment}
        yield LiveRow("channel", str(one.id), _text(projects.get(one.project_id)), fields)
    for one in _all(session, Release):
        fields = {"version": str(one.version_id), "sequence": one.sequence}
        yield LiveRow("release", str(one.id), _text(projects.get(one.project_id)), fields, _digest(release_record(one)))
    for one in _all(session, ChannelHead):
        fields = {"version": str(one.version_id), "sequence": one.sequence}
        name = f"{one.project_id}/{one.channel}/{one.adapter_id}"
        yield LiveRow("channel_head", name, _text(projects.get(one.project_id)), fields)
