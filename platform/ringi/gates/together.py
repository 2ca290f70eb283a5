"""Decide about many adapters at once: each gets a decision of its own, which says among how many it was judged."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from ringi.gates import refusals, service
from ringi.gates.arms import Arms, Pair, name_of
from ringi.gates.models import GateDecision
from ringi.gates.schemas import DecideTogether
from ringi.gates.service import Answers
from ringi.gating.schemas import Together, Verdict
from ringi.gating.sweeps import judged_together
from ringi.identity.models import Project
from ringi.kit.actor import Actor
from ringi.kit.errors import NotFound
from ringi.kit.ids import uuid7
from ringi.measurements import service as measurements
from ringi.measurements.models import Measurement
from ringi.measurements.schemas import MeasurementState
from ringi.suites import service as suites
from ringi.suites.models import SuiteVersion

_WORST = (Verdict.NO_GO, Verdict.INCONCLUSIVE, Verdict.GO)
_JUDGED = frozenset({MeasurementState.MEASURED, MeasurementState.STOPPED})


class NotJudged(NamedTuple):
    """An arm of the sweep, and why it was left out."""

    measurement: Measurement
    name: str
    code: str


class Judged(NamedTuple):
    """What was decided together; `said` is the same in all of it but for the p-values."""

    together_id: UUID
    verdict: Verdict
    said: Together
    gates: Sequence[GateDecision]
    left_out: Sequence[NotJudged]


def decide_together(session: Session, actor: Actor, *, project: Project, body: DecideTogether) -> Judged:
    """One decision for each candidate, all in the caller's transaction. Raises the refusals of `refusals.py`, and those of the pure gate."""
    suite, pairs, left_out = _pairs(session, actor, project, body)
    service.must_require(suite)
    if not pairs:
        raise refusals.NothingToJudge
    dependent = body.dependent
    if dependent is None:
        dependent = any(one.safety for one in suites.document_of(suite).requirements)
    # Candidates mostly have one baseline, which is read once; of several no more than one is held.
    read: dict[UUID, Answers] = {}
    alone = {}
    for pair in pairs:
        if pair.baseline.id not in read:
            read = {pair.baseline.id: service.answers_of(pair.baseline, suite)}
        alone[str(pair.candidate.id)] = service.judged(pair, suite, against=read[pair.baseline.id])
    decisions = judged_together(alone, share=body.q, dependent=dependent)
    together_id = uuid7()
    kept = [
        service.keep(
            session, actor, project=project, suite=suite, pair=pair, asked=body.baseline, decision=decisions[str(pair.candidate.id)],
            together=together_id,
        )
        for pair in pairs
    ]  # fmt: skip
    session.flush()  # created_at goes into the answer
    gates = [service.find(session, actor, project=project, gate_id=one) for one in kept]
    said = next(one.together for one in decisions.values() if one.together is not None)
    worst = next(verdict for verdict in _WORST if any(one.verdict is verdict for one in decisions.values()))
    return Judged(together_id, worst, said, gates, left_out)


def _pairs(session: Session, actor: Actor, project: Project, body: DecideTogether) -> tuple[SuiteVersion, list[Pair], list[NotJudged]]:
    if body.sweep is not None:
        return _of_sweep(session, actor, project, body.sweep, body.baseline)
    suite = suites.named(session, actor, project=project, reference=str(body.suite))
    arms = Arms(session, actor, project, suite)
    pairs = [arms.pair(one, body.baseline, base_revision=body.base_revision) for one in body.candidates]
    # Two names of one version are one candidate: it is no two tests.
    return suite, list({pair.candidate.id: pair for pair in pairs}.values()), []


def _of_sweep(
    session: Session, actor: Actor, project: Project, job_id: UUID, baseline: str
) -> tuple[SuiteVersion, list[Pair], list[NotJudged]]:
    arms = measurements.of_job(session, actor, project=project, job_id=job_id)
    if not arms:
        raise NotFound("sweep", job_id)
    suite = arms[0].suite_version
    states = {one.id: measurements.state_of(one) for one in arms}
    if pending := sum(state is MeasurementState.PENDING for state in states.values()):
        raise refusals.SweepOpen(job_id, pending)
    finder, pairs, left_out = Arms(session, actor, project, suite), list[Pair](), list[NotJudged]()
    for one in arms:
        name = name_of(one)
        if one.version is None:
            left_out.append(NotJudged(one, name, "bare_base"))
        elif states[one.id] not in _JUDGED:
            code = str((one.problem or {}).get("code", states[one.id].value))
            left_out.append(NotJudged(one, name, code))
        elif _is_baseline(one, finder.baselines(baseline, one.version, one.base_revision)):
            left_out.append(NotJudged(one, name, "is_baseline"))
        else:
            pairs.append(finder.paired([one], baseline))
    return suite, pairs, left_out


def _is_baseline(one: Measurement, baselines: Sequence[Measurement]) -> bool:
    return any(
        other.id == one.id or (other.version_id == one.version_id and other.base_revision_id == one.base_revision_id) for other in baselines
    )
