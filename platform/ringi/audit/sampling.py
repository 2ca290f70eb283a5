"""A population of entries and a sample of it for an audit, so that completeness is provable: count, first and last leaf, and a seeded draw.

The draw is that of `ringi_verify.draw`, made by the database: an auditor who holds the export draws it again (`ringi-verify --sample`).
"""

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import String, Text, cast, func, select
from sqlalchemy.orm import Session

from ringi.audit.generations import GROWING
from ringi.audit.models import AuditEvent, AuditLeaf
from ringi.audit.published import Signed, published
from ringi.audit.ringi_verify import Drawn, SampleRule, sample_prefix
from ringi.audit.schemas import AuditAction


class Sample(NamedTuple):
    """What was drawn under which checkpoint; `rows` are the events and their leaves, in the order of the log."""

    signed: Signed
    rule: SampleRule
    drawn: Drawn
    rows: list[tuple[AuditEvent, int]]


def written(time: datetime | None) -> str | None:
    """A time as events write it: RFC 3339 in UTC with microseconds."""
    return None if time is None else time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def sample(
    session: Session, organization_id: UUID | None, *, seed: str, size: int, action: AuditAction | None, since: datetime | None,
    until: datetime | None,
) -> Sample:  # fmt: skip
    """Draw `size` of the organisation's signed entries, of `action`, at or after `since` and before `until`. Raises AuditNotSigned."""
    signed = published(session)
    covered = [
        AuditEvent.organization_id == organization_id,
        AuditLeaf.generation == GROWING,
        AuditLeaf.leaf_index < signed.checkpoint.size,
    ]
    covered += [AuditEvent.action == action.value] if action is not None else []
    covered += [AuditEvent.ts >= since] if since is not None else []
    covered += [AuditEvent.ts < until] if until is not None else []
    leaf = AuditLeaf.leaf_index
    joined = AuditLeaf.event_id == AuditEvent.id
    counted = select(func.count(), func.min(leaf), func.max(leaf)).select_from(AuditEvent).join(AuditLeaf, joined).where(*covered)
    population, first, last = session.execute(counted).one()
    text = func.concat(sample_prefix(seed, signed.checkpoint.root), cast(leaf, String), "\n", type_=Text)
    order = func.sha256(func.convert_to(text, "UTF8"))
    found = session.execute(select(AuditEvent, leaf).join(AuditLeaf, joined).where(*covered).order_by(order).limit(size)).all()
    rows = sorted(((row[0], row[1]) for row in found), key=lambda row: row[1])
    rule = SampleRule(seed, size, action.value if action else None, written(since), written(until))
    return Sample(signed, rule, Drawn(population, first, last, [index for _, index in rows]), rows)
