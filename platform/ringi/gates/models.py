"""Decisions of the gate: sealed rows, each bound to the two measurements that it was made from."""

from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ringi.db.base import Base, Identified, OwnedByProject
from ringi.measurements.models import Measurement
from ringi.suites.models import SuiteVersion


class GateDecision(Identified, OwnedByProject, Base):
    """`document` holds the decision and what it is bound to, `digest` is of its canonical JSON. `asked` is the baseline in the caller's words."""

    __tablename__ = "gate_decisions"
    __table_args__ = (Index("ix_gate_decisions_together_id", "together_id", postgresql_where=text("together_id IS NOT NULL")),)

    suite_version_id: Mapped[UUID] = mapped_column(ForeignKey("suite_versions.id"), index=True)
    candidate_id: Mapped[UUID] = mapped_column(ForeignKey("measurements.id"), index=True)
    baseline_id: Mapped[UUID] = mapped_column(ForeignKey("measurements.id"))
    asked: Mapped[str] = mapped_column(String(160))
    verdict: Mapped[str] = mapped_column(String(16))
    imported: Mapped[bool]
    document: Mapped[dict[str, Any]]
    digest: Mapped[str] = mapped_column(String(71), index=True)
    # The same of all decisions that were made together.
    together_id: Mapped[UUID | None]
    decided_by: Mapped[UUID]
    audit_event_id: Mapped[UUID]

    suite_version: Mapped[SuiteVersion] = relationship(lazy="raise")
    candidate: Mapped[Measurement] = relationship(foreign_keys=[candidate_id], lazy="raise")
    baseline: Mapped[Measurement] = relationship(foreign_keys=[baseline_id], lazy="raise")
