"""The rule of approval, pure: policy + votes + evidence -> Decision with reasons. Four eyes, no self-approval, evidence still current.

A policy is a list of stages (段階), each a list of seats (role, how many people). A stage is satisfied when every seat has its number of
distinct people who approved. One person fills at most one seat of a request, over all stages. A reject by any seat ends the request, a
return sends it back; an acknowledgement never counts (governance A1 to A3).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from ringi.identity.schemas import Role
from ringi.web.schemas import Integer, Truth

VOTING_ROLES = frozenset({Role.REVIEWER, Role.VALIDATOR, Role.RISK_OWNER, Role.SERVICE_OWNER})


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Seat(_Frozen):
    """So many people of this role."""

    role: Literal[Role.REVIEWER, Role.VALIDATOR, Role.RISK_OWNER, Role.SERVICE_OWNER]
    people: Annotated[Integer, Field(ge=1, le=20)] = 1


class Stage(_Frozen):
    """Seats that vote in parallel; stages follow one another."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    seats: Annotated[tuple[Seat, ...], Field(min_length=1, max_length=10)]


class EvidenceRule(_Frozen):
    """At least one evaluation against the bare base, at most `max_age_d` days old, with one of these verdicts."""

    type: Literal["evaluation"] = "evaluation"
    verdicts: Annotated[tuple[Literal["better", "not_shown"], ...], Field(min_length=1)] = ("better",)
    max_age_d: Annotated[Integer, Field(ge=1, le=3650)] = 30

    @property
    def wanted(self) -> str:
        """In words."""
        return f"an evaluation against the base with verdict {' or '.join(self.verdicts)}, at most {self.max_age_d} days old"


class GateRule(_Frozen):
    """The newest decision of the gate with `suite` is a GO, at most `max_age_d` days old.

    `suite`: a name (then its newest version counts), or `name:v2`. `baseline`: what it must have been compared with: `base`, or `channel:NAME`, that is
    what the channel serves now, and the bare base where it serves nothing yet; any baseline unless given. What was measured elsewhere counts only with
    `allow_imported`.
    """

    type: Literal["gate"]
    suite: Annotated[str, Field(pattern=r"^[a-z0-9._-]{1,64}(:v[0-9]{1,9})?$")]
    baseline: Annotated[str, Field(pattern=r"^(base|channel:[a-z0-9._-]{1,64})$")] | None = None
    max_age_d: Annotated[Integer, Field(ge=1, le=3650)] = 30
    allow_imported: Truth = False

    @property
    def wanted(self) -> str:
        """In words."""
        against = f" against {self.baseline}" if self.baseline else ""
        return f"a GO of the gate with suite '{self.suite}'{against}, at most {self.max_age_d} days old"


class PolicyDocument(_Frozen):
    """Durations: `sla_h` hours until an open request expires, `grant_ttl_d` days that a grant is good for."""

    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=10)]
    evidence: tuple[EvidenceRule | GateRule, ...] = (EvidenceRule(),)
    sla_h: Annotated[Integer, Field(ge=1, le=24 * 365)] = 24 * 7
    grant_ttl_d: Annotated[Integer, Field(ge=1, le=3650)] = 180


# A new project starts with one reviewer and an evaluation that shows the adapter to be better than its base.
STARTING_POLICY = PolicyDocument(stages=(Stage(name="technical", seats=(Seat(role=Role.REVIEWER),)),))


@dataclass(frozen=True)
class VoteFact:
    """A counted or uncounted vote."""

    voter: UUID
    role: Role
    stage: str
    decision: str


@dataclass(frozen=True)
class EvidenceFact:
    """A piece of evidence as it stands now."""

    type: str
    against_bare_base: bool
    verdict: str
    completed_at: datetime


@dataclass(frozen=True)
class GateFact:
    """A decision of the gate as it stands now. `newest`: made with the suite's newest version; `stands_for`: which baselines it has by now."""

    suite: str
    number: int
    newest: bool
    stands_for: frozenset[str]
    verdict: str
    imported: bool
    decided_at: datetime


Fact = EvidenceFact | GateFact


@dataclass(frozen=True)
class Requirement:
    """One requirement and whether it is met."""

    code: str
    satisfied: bool
    message: str


@dataclass(frozen=True)
class Decision:
    """`outcome`: approved, rejected, changes_requested, or None while open; `stage` is the open one."""

    outcome: Literal["approved", "rejected", "changes_requested"] | None
    stage: Stage | None
    requirements: tuple[Requirement, ...]


def decide(policy: PolicyDocument, votes: Sequence[VoteFact], evidence: Sequence[Fact], *, now: datetime) -> Decision:
    """Where a request stands. `votes` are the latest of each person, and only of people who still hold the role they voted in."""
    requirements = [_stage_requirement(stage, seat, votes) for stage in policy.stages for seat in stage.seats]
    requirements += [_evidence_requirement(rule, evidence, now) for rule in policy.evidence]
    decisions = {vote.decision for vote in votes}
    if "reject" in decisions:
        return Decision("rejected", None, tuple(requirements))
    if "return" in decisions:
        return Decision("changes_requested", None, tuple(requirements))
    stage = open_stage(policy, votes)
    done = stage is None and all(requirement.satisfied for requirement in requirements)
    return Decision("approved" if done else None, stage, tuple(requirements))


def open_stage(policy: PolicyDocument, votes: Sequence[VoteFact]) -> Stage | None:
    """The first stage that still needs votes."""
    for stage in policy.stages:
        if any(len(_approvers(stage, seat, votes)) < seat.people for seat in stage.seats):
            return stage
    return None


def _approvers(stage: Stage, seat: Seat, votes: Sequence[VoteFact]) -> set[UUID]:
    return {vote.voter for vote in votes if vote.stage == stage.name and vote.role == seat.role and vote.decision == "approve"}


def _stage_requirement(stage: Stage, seat: Seat, votes: Sequence[VoteFact]) -> Requirement:
    have = len(_approvers(stage, seat, votes))
    return Requirement(
        f"{stage.name}.{seat.role}", have >= seat.people, f"Stage '{stage.name}' needs {seat.people} × {seat.role}; {have} approved."
    )


def evidence_gaps(policy: PolicyDocument, evidence: Sequence[Fact], *, now: datetime) -> list[Requirement]:
    """Evidence rules that are not met now."""
    return [gap for rule in policy.evidence if not (gap := _evidence_requirement(rule, evidence, now)).satisfied]


def _evidence_requirement(rule: EvidenceRule | GateRule, evidence: Sequence[Fact], now: datetime) -> Requirement:
    if isinstance(rule, GateRule):
        return _gate_requirement(rule, [fact for fact in evidence if isinstance(fact, GateFact)], now)
    return _evaluation_requirement(rule, [fact for fact in evidence if isinstance(fact, EvidenceFact)], now)


def _gate_requirement(rule: GateRule, evidence: Sequence[GateFact], now: datetime) -> Requirement:
    name, _, number = rule.suite.partition(":v")
    counted = [
        fact
        for fact in evidence
        if fact.suite == name
        and (fact.number == int(number) if number else fact.newest)
        and (rule.baseline is None or rule.baseline in fact.stands_for)
        and (rule.allow_imported or not fact.imported)
    ]
    newest = max(counted, key=lambda fact: fact.decided_at, default=None)
    if newest is None:
        return Requirement("evidence.gate", False, f"Needed is {rule.wanted}; there is no decision that counts.")
    met = newest.verdict == "GO" and now - newest.decided_at <= timedelta(days=rule.max_age_d)
    return Requirement("evidence.gate", met, f"Needed is {rule.wanted}; the newest says {newest.verdict} ({newest.decided_at:%Y-%m-%d}).")


def _evaluation_requirement(rule: EvidenceRule, evidence: Sequence[EvidenceFact], now: datetime) -> Requirement:
    # The newest one counts: an old good result does not outweigh a new bad one.
    of_type = [fact for fact in evidence if fact.type == rule.type and fact.against_bare_base]
    newest = max(of_type, key=lambda fact: fact.completed_at, default=None)
    if newest is None:
        return Requirement("evidence.evaluation", False, f"Needed is {rule.wanted}; there is none.")
    fresh = now - newest.completed_at <= timedelta(days=rule.max_age_d)
    met = newest.verdict in rule.verdicts and fresh
    return Requirement(
        "evidence.evaluation", met, f"Needed is {rule.wanted}; the newest says '{newest.verdict}' ({newest.completed_at:%Y-%m-%d})."
    )


def seat_for(stage: Stage, roles: Collection[Role], votes: Sequence[VoteFact]) -> Role | None:
    """The seat of `stage` that a person with `roles` may take; one that still needs people comes first."""
    fitting = [seat for seat in stage.seats if seat.role in roles]
    fitting.sort(key=lambda seat: len(_approvers(stage, seat, votes)) >= seat.people)
    return fitting[0].role if fitting else None
