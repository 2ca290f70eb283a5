"""What an approval rests on: evaluations of the version, and decisions of the gate where the policy asks for them.

Only what is bound to exactly this version on exactly the base revision that it was trained on is looked at; suite and runtime are part of
what a decision is bound to (gates/service.py).
"""

from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ringi.adapters.models import AdapterVersion, ChannelHead
from ringi.approvals.policy import EvidenceFact, GateFact, GateRule, PolicyDocument
from ringi.evaluation.models import Evaluation
from ringi.evaluation.service import evidence_of as evaluations_of
from ringi.gates.models import GateDecision
from ringi.gates.service import evidence_of as gates_of
from ringi.suites.models import SuiteVersion

_CHANNEL = "channel:"


class Evidence(NamedTuple):
    """`named`: what a request names: type, digest, producer and time of every piece. `facts`: the same as the policy judges it."""

    named: list[dict[str, str]]
    facts: list[EvidenceFact | GateFact]


def gathered(session: Session, version: AdapterVersion, document: PolicyDocument) -> Evidence:
    """The evidence that there is now. Decisions of the gate count from when a policy asks for them, so that others make no request stale."""
    evaluations = evaluations_of(session, version)
    rules = [rule for rule in document.evidence if isinstance(rule, GateRule)]
    gates = gates_of(session, version) if rules else []
    named = [_evaluation(one) for one in evaluations] + [_gate(one) for one in gates]
    facts: list[EvidenceFact | GateFact] = [
        EvidenceFact("evaluation", one.baseline == "base", str((one.summary or {}).get("verdict")), one.completed_at)
        for one in evaluations
        if one.completed_at is not None
    ]
    wanted = {rule.baseline for rule in rules if rule.baseline is not None}
    return Evidence(named, facts + [_fact(session, version, one, wanted) for one in gates])


def _evaluation(one: Evaluation) -> dict[str, str]:
    return {
        "type": "evaluation", "digest": str(one.evidence_digest), "producer": str(one.requested_by),
        "time": f"{one.completed_at:%Y-%m-%dT%H:%M:%S.%fZ}",
    }  # fmt: skip


def _gate(one: GateDecision) -> dict[str, str]:
    return {"type": "gate", "digest": one.digest, "producer": str(one.decided_by), "time": f"{one.created_at:%Y-%m-%dT%H:%M:%S.%fZ}"}


def _fact(session: Session, version: AdapterVersion, one: GateDecision, wanted: set[str]) -> GateFact:
    suite, baseline = one.suite_version, one.baseline
    # unscoped: the caller holds the version already.
    newest = session.scalar(select(func.max(SuiteVersion.number)).where(SuiteVersion.suite_id == suite.suite_id))
    stands_for = {word for word in wanted if _stands_for(session, version, one, word)}
    return GateFact(
        suite=suite.suite.name, number=suite.number, newest=suite.number == newest, stands_for=frozenset(stands_for), verdict=one.verdict,
        imported=one.imported or baseline.imported_from is not None, decided_at=one.created_at,
    )  # fmt: skip


def _stands_for(session: Session, version: AdapterVersion, one: GateDecision, word: str) -> bool:
    """Whether the decision's baseline is what `word` means now."""
    own_base = one.baseline.version_id is None and one.baseline.base_revision_id == version.base_revision_id
    if not word.startswith(_CHANNEL):
        return own_base
    # unscoped: as above.
    head = select(ChannelHead.version_id).where(
        ChannelHead.adapter_id == version.adapter_id, ChannelHead.channel == word.removeprefix(_CHANNEL)
    )
    served = session.scalar(head)
    # A first release has nothing to be compared with but the base.
    return own_base if served is None else one.baseline.version_id == served
