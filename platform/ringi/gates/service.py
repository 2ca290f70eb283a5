"""Decide from stored records, and keep the decision: no GPU, and the same decision whenever it is asked for again."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload

from ringi.adapters.models import AdapterVersion
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.events.catalogue import work as work_events
from ringi.events.emission import emit
from ringi.gates import refusals
from ringi.gates.arms import Arms, Pair, name_of
from ringi.gates.models import GateDecision
from ringi.gates.schemas import Bound, DecideGate, GateDocument
from ringi.gating import stopping
from ringi.gating.decision import decide
from ringi.gating.schemas import Decision, Measured
from ringi.identity.models import Project
from ringi.identity.permissions import visible
from ringi.jobs.contracts.sweeps import Stop
from ringi.kit.actor import Actor
from ringi.kit.digests import sha256_json
from ringi.kit.errors import NotFound
from ringi.kit.ids import uuid7
from ringi.measurements import records, summaries
from ringi.measurements.models import Measurement
from ringi.suites import service as suites
from ringi.suites.models import Suite, SuiteVersion

Answers = Mapping[str, Sequence[Measured]]


def decide_gate(session: Session, actor: Actor, *, project: Project, body: DecideGate) -> GateDecision:
    """Judge, and keep it. Raises the refusals of `refusals.py`, and those of the pure gate (ItemsChanged, DuplicateItem)."""
    suite = suites.named(session, actor, project=project, reference=body.suite)
    must_require(suite)
    pair = Arms(session, actor, project, suite).pair(body.candidate, body.baseline, base_revision=body.base_revision)
    decision = judged(pair, suite, against=None)
    kept = keep(session, actor, project=project, suite=suite, pair=pair, asked=body.baseline, decision=decision)
    session.flush()  # created_at goes into the answer
    return find(session, actor, project=project, gate_id=kept)


def must_require(suite: SuiteVersion) -> None:
    """Raises NothingRequired for a suite that nothing could fail."""
    if not suites.document_of(suite).requirements:
        raise refusals.NothingRequired(f"{suite.suite.project.name}/{suite.suite.name}:v{suite.number}")


def judged(pair: Pair, suite: SuiteVersion, *, against: Answers | None) -> Decision:
    """The pure decision about a pair; `against` are the baseline's answers where they were read already."""
    if pair.candidate.stopped is not None:
        return stopping.decided(Stop.model_validate(pair.candidate.stopped))
    return decide(suites.document_of(suite).requirements, answers_of(pair.candidate, suite), against or answers_of(pair.baseline, suite))


def keep(
    session: Session, actor: Actor, *, project: Project, suite: SuiteVersion, pair: Pair, asked: str, decision: Decision, together: UUID | None = None
) -> UUID:  # fmt: skip
    """Write a decision down, with its entry in the log and its event; returns its id."""
    candidate, baseline = pair
    made = GateDocument(
        suite=suite.digest, candidate=_bound(candidate), baseline=_bound(baseline), asked=asked,
        imported=any(one.imported_from is not None for one in pair), decision=decision,
    )  # fmt: skip
    record = made.model_dump(mode="json")
    gate_id, digest = uuid7(), sha256_json(record)
    details: dict[str, str | int | bool | None] = {
        "verdict": decision.verdict.value, "suite": suite.digest, "candidate": made.candidate.evidence, "baseline": made.baseline.evidence,
        "imported": made.imported,
    }  # fmt: skip
    if together is not None and decision.together is not None:
        details |= {"together": str(together), "adapters": decision.together.adapters}
    event = audit.record(
        session, actor, AuditAction.GATE_DECIDE, object_type="gate_decision", object_id=gate_id, object_digest=digest, project_id=project.id,
        record=record, details=details,
    )  # fmt: skip
    session.add(
        GateDecision(
            id=gate_id, project_id=project.id, suite_version_id=suite.id, candidate_id=candidate.id, baseline_id=baseline.id, asked=asked,
            verdict=decision.verdict.value, imported=made.imported, together_id=together, document=record, digest=digest, decided_by=actor.id,
            audit_event_id=event,
        )
    )  # fmt: skip
    told = work_events.GateDecided(
        gate_id=gate_id, candidate=made.candidate.name, baseline=made.baseline.name, asked=asked,
        suite=f"{project.name}/{suite.suite.name}:v{suite.number}", verdict=decision.verdict.value, decision_digest=digest,
    )  # fmt: skip
    emit(session, told, project_id=project.id)
    return gate_id


def answers_of(one: Measurement, suite: SuiteVersion) -> Answers:
    """The measurement's records by task, as the gate pairs them."""
    tasks = suites.document_of(suite).tasks
    if one.records_digest is None:
        raise refusals.NotMeasured("candidate", str(one.state))
    found = summaries.by_task(records.read(one.records_digest), tasks, complete=False)
    return {task: [summaries.measured(record) for record in some] for task, some in found.items()}


def _bound(one: Measurement) -> Bound:
    return Bound.model_validate(
        {
            "measurement": one.id, "name": name_of(one), "manifest": one.version.manifest_digest if one.version else None,
            "base": one.base_revision.digest, "records": one.records_digest, "evidence": one.evidence_digest, "runtime": one.runtime_digest,
        }
    )  # fmt: skip


def listed(actor: Actor) -> Select[GateDecision]:
    """Decisions in sight with what rendering them needs."""
    return visible(actor, GateDecision).options(
        joinedload(GateDecision.suite_version).joinedload(SuiteVersion.suite).joinedload(Suite.project)
    )


def find(session: Session, actor: Actor, *, project: Project, gate_id: UUID) -> GateDecision:
    """One decision of the project."""
    found = session.scalars(listed(actor).where(GateDecision.project_id == project.id, GateDecision.id == gate_id)).one_or_none()
    if found is None:
        raise NotFound("gate decision", gate_id)
    return found


def evidence_of(session: Session, version: AdapterVersion) -> list[GateDecision]:
    """Decisions about exactly this version on exactly the base revision that it was trained on, oldest first: what an approval can rest on."""
    # unscoped: the caller holds the version already.
    about = select(Measurement.id).where(Measurement.version_id == version.id, Measurement.base_revision_id == version.base_revision_id)
    query = (
        select(GateDecision)
        .where(GateDecision.candidate_id.in_(about))
        .options(joinedload(GateDecision.baseline), joinedload(GateDecision.suite_version).joinedload(SuiteVersion.suite))
    )
    return list(session.scalars(query.order_by(GateDecision.id)))


def measured_gates(session: Session, version: AdapterVersion) -> int:
    """How many of these were made from what was measured here."""
    return sum(not one.imported for one in evidence_of(session, version))
