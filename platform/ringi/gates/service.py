"""Decide from stored records, and keep the decision: no GPU, and the same decision whenever it is asked for again."""

from collections.abc import Mapping, Sequence
from typing import Literal
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload

from ringi.adapters import service as adapters
from ringi.adapters.models import AdapterVersion, ChannelHead
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.base_models.models import BaseRevision
from ringi.events.catalogue import work as work_events
from ringi.events.emission import emit
from ringi.gates import refusals
from ringi.gates.models import GateDecision
from ringi.gates.schemas import Bound, DecideGate, GateDocument, MissingMeasurement
from ringi.gating.decision import decide
from ringi.gating.schemas import Measured
from ringi.identity.models import Project
from ringi.identity.permissions import visible
from ringi.kit.actor import Actor
from ringi.kit.digests import sha256_json
from ringi.kit.errors import NotFound
from ringi.kit.ids import uuid7
from ringi.measurements import records, summaries
from ringi.measurements import service as measurements
from ringi.measurements.models import Measurement
from ringi.measurements.schemas import MeasurementState
from ringi.suites import service as suites
from ringi.suites.models import Suite, SuiteVersion

Which = Literal["candidate", "baseline"]


def decide_gate(session: Session, actor: Actor, *, project: Project, body: DecideGate) -> GateDecision:
    """Judge, and keep it. Raises the refusals of `refusals.py`, and those of the pure gate (ItemsChanged, DuplicateItem)."""
    suite = suites.named(session, actor, project=project, reference=body.suite)
    name = f"{project.name}/{suite.suite.name}:v{suite.number}"
    document = suites.document_of(suite)
    if not document.requirements:
        raise refusals.NothingRequired(name)
    candidate, baseline = _Arms(session, actor, project, suite, name).found(body)
    if candidate.id == baseline.id:
        raise refusals.BaselineIsCandidate(name_of(candidate))
    arms = [_read(one, suite) for one in (candidate, baseline)]
    decision = decide(document.requirements, *arms)
    made = GateDocument(
        suite=suite.digest, candidate=_bound(candidate), baseline=_bound(baseline), asked=body.baseline,
        imported=any(one.imported_from is not None for one in (candidate, baseline)), decision=decision,
    )  # fmt: skip
    record = made.model_dump(mode="json")
    gate_id, digest = uuid7(), sha256_json(record)
    event = audit.record(
        session, actor, AuditAction.GATE_DECIDE, object_type="gate_decision", object_id=gate_id, object_digest=digest, project_id=project.id,
        record=record,
        details={
            "verdict": decision.verdict.value, "suite": suite.digest, "candidate": made.candidate.evidence, "baseline": made.baseline.evidence,
            "imported": made.imported,
        },
    )  # fmt: skip
    session.add(
        GateDecision(
            id=gate_id, project_id=project.id, suite_version_id=suite.id, candidate_id=candidate.id, baseline_id=baseline.id, asked=body.baseline,
            verdict=decision.verdict.value, imported=made.imported, document=record, digest=digest, decided_by=actor.id, audit_event_id=event,
        )
    )  # fmt: skip
    told = work_events.GateDecided(
        gate_id=gate_id, candidate=made.candidate.name, baseline=made.baseline.name, asked=body.baseline, suite=name,
        verdict=decision.verdict.value, decision_digest=digest,
    )  # fmt: skip
    emit(session, told, project_id=project.id)
    session.flush()  # created_at goes into the answer
    return find(session, actor, project=project, gate_id=gate_id)


class _Arms:
    """Finds the two measurements that a request means."""

    def __init__(self, session: Session, actor: Actor, project: Project, suite: SuiteVersion, suite_name: str) -> None:
        self.session, self.actor, self.project, self.suite, self.suite_name = session, actor, project, suite, suite_name

    def found(self, body: DecideGate) -> tuple[Measurement, Measurement]:
        """Candidate and baseline, of one runtime."""
        candidates = self._candidates(body)
        baselines = self._baselines(body, candidates[0])
        # The newest pair of one runtime; without any, the newest of each tells what differs.
        for one in candidates:
            for other in baselines:
                if one.runtime_digest == other.runtime_digest:
                    return one, other
        one, other = candidates[0], baselines[0]
        mine, theirs = one.runtime or {}, other.runtime or {}
        differing = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        raise refusals.RuntimeDiffers(name_of(one), name_of(other), differing)

    def _candidates(self, body: DecideGate) -> Sequence[Measurement]:
        if (named := self._by_id(body.candidate, "candidate")) is not None:
            return [named]
        version = measurements.version_named(self.session, self.actor, project=self.project, name=body.candidate)
        revision = version.base_revision
        if body.base_revision is not None:
            revision = measurements.revision_named(self.session, self.actor, body.base_revision)
        return self._measured("candidate", version, revision)

    def _baselines(self, body: DecideGate, candidate: Measurement) -> Sequence[Measurement]:
        if (named := self._by_id(body.baseline, "baseline")) is not None:
            return [named]
        if body.baseline == "base":
            return self._measured("baseline", None, candidate.base_revision)
        word, _, channel = body.baseline.partition(":")
        if word == "channel" and channel:
            version = self._served(channel, candidate)
        else:
            version = measurements.version_named(self.session, self.actor, project=self.project, name=body.baseline)
        # What is compared with was measured where it runs: on the base that it was trained on, or on the candidate's.
        own = self._known(version, version.base_revision)
        found = own or self._known(version, candidate.base_revision)
        return found or self._measured("baseline", version, version.base_revision)

    def _by_id(self, text: str, which: Which) -> Measurement | None:
        try:
            wanted = UUID(text)
        except ValueError:
            return None
        one = measurements.find(self.session, self.actor, project=self.project, measurement_id=wanted)
        if one.suite_version_id != self.suite.id:
            other = one.suite_version
            raise refusals.SuitesDiffer(which, self.suite_name, f"{self.project.name}/{other.suite.name}:v{other.number}")
        if one.state != MeasurementState.MEASURED:
            raise refusals.NotMeasured(which, str(one.state))
        return one

    def _served(self, channel: str, candidate: Measurement) -> AdapterVersion:
        if candidate.version is None:
            raise refusals.NothingServed(channel, "a bare base")
        adapter = candidate.version.adapter
        # unscoped: the caller holds the candidate already.
        head = select(ChannelHead.version_id).where(ChannelHead.adapter_id == adapter.id, ChannelHead.channel == channel)
        # By its id and not by `adapter:channel`: a channel may be called like a version.
        served = visible(self.actor, AdapterVersion).where(AdapterVersion.id == head.scalar_subquery()).options(*adapters.loads())
        version = self.session.scalars(served).one_or_none()
        if version is None:
            raise refusals.NothingServed(channel, adapter.reference)
        return version

    def _measured(self, which: Which, version: AdapterVersion | None, revision: BaseRevision) -> Sequence[Measurement]:
        """The same, or a refusal that says what to measure."""
        found = self._known(version, revision)
        if not found:
            base = f"{revision.base_model.name}:r{revision.number}"
            named = f"{version.adapter.reference}:v{version.number}" if version else None
            raise refusals.MeasurementMissing(
                MissingMeasurement(which=which, version=named, base=base, suite=self.suite_name, include_base=version is None)
            )
        return found

    def _known(self, version: AdapterVersion | None, revision: BaseRevision) -> Sequence[Measurement]:
        """What was measured here, newest first; what was brought in is named by its id alone."""
        query = measurements.listed(self.actor).where(
            Measurement.project_id == self.project.id, Measurement.suite_version_id == self.suite.id,
            Measurement.base_revision_id == revision.id, Measurement.version_id.is_not_distinct_from(version.id if version else None),
            Measurement.state == MeasurementState.MEASURED, Measurement.imported_from.is_(None),
        )  # fmt: skip
        return self.session.scalars(query.order_by(Measurement.id.desc()).limit(20)).all()


def _read(one: Measurement, suite: SuiteVersion) -> Mapping[str, Sequence[Measured]]:
    tasks = suites.document_of(suite).tasks
    if one.records_digest is None:
        raise refusals.NotMeasured("candidate", str(one.state))
    found = summaries.by_task(records.read(one.records_digest), tasks, complete=False)
    return {task: [summaries.measured(record) for record in some] for task, some in found.items()}


def name_of(one: Measurement) -> str:
    """What was measured: a version, or a bare base; with the base where it is not the one that the version was trained on."""
    base = f"{one.base_revision.base_model.name}:r{one.base_revision.number}"
    if one.version is None:
        return base
    name = f"{one.version.adapter.reference}:v{one.version.number}"
    return name if one.version.base_revision_id == one.base_revision_id else f"{name} on {base}"


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
