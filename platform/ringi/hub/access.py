"""The numbered list that a pull of an adapter version must pass, pure. Serving needs less than releasing: gates 2 and 5 of
`releases/gates.py` (evaluated, logged) were asked when the version was released.

1. something is named       `main` names what the channel serves; nothing is released -> 403 GatedRepo
2. state                    a revoked or retired version is never served -> 404 RevisionNotFound, the one answer that a warm client cache obeys
3. environment              a service token is bound to one environment, and the channel must be of it -> 403 GatedRepo
4. approved                 a grant for this manifest, base and environment -> 403 GatedRepo
5. unexpired                that grant is still good -> 404 RevisionNotFound
6. kind                     full weights are no adapter and are served to nobody, as a candidate neither -> 403 GatedRepo

4 and 5 do not bind a person whose role may pull candidates and who names the version by tag or commit (governance H4). By `main` they do.
State comes before environment: revocation must reach every cache, also that of a token of another environment.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from ringi.releases.gates import Gate


class HubCode(StrEnum):
    """`X-Error-Code`: hub clients choose their exception by it, whatever the status is."""

    REPOSITORY_NOT_FOUND = "RepoNotFound"
    REVISION_NOT_FOUND = "RevisionNotFound"
    ENTRY_NOT_FOUND = "EntryNotFound"
    GATED = "GatedRepo"


@dataclass(frozen=True)
class Refusal:
    """An answer other than the bytes. `rule` names the check for the audit log; without a `code` the client sees a plain HTTP error."""

    status: int
    code: HubCode | None
    message: str
    rule: str


@dataclass(frozen=True)
class Served:
    """Yes. `candidate` when it is served to a person as a candidate, without being approved."""

    candidate: bool


@dataclass(frozen=True)
class Pull:
    """Everything that the checks look at. `gates` by their codes, empty when `main` names no version."""

    repository: str
    channel: str
    channel_environment: str
    caller_environment: str | None
    by_main: bool
    may_pull_candidates: bool
    gates: Mapping[str, Gate]

    @property
    def as_candidate(self) -> bool:
        """Whether this caller may have the version without an approval."""
        return self.may_pull_candidates and not self.by_main


def _failed(pull: Pull, code: str) -> Gate | None:
    gate = pull.gates[code]
    return None if gate.passed else gate


def named(pull: Pull) -> Refusal | None:
    """1."""
    if pull.gates:
        return None
    return Refusal(403, HubCode.GATED, f"Nothing of '{pull.repository}' is released to '{pull.channel}' yet.", "hub_nothing_released")


def state(pull: Pull) -> Refusal | None:
    """2."""
    gate = _failed(pull, "release_gate_state")
    return Refusal(404, HubCode.REVISION_NOT_FOUND, gate.message, gate.code) if gate else None


def environment(pull: Pull) -> Refusal | None:
    """3."""
    return environment_refusal(pull.caller_environment, channel=pull.channel, environments=frozenset({pull.channel_environment}))


def approved(pull: Pull) -> Refusal | None:
    """4."""
    gate = None if pull.as_candidate else _failed(pull, "release_gate_approved")
    return Refusal(403, HubCode.GATED, gate.message, gate.code) if gate else None


def unexpired(pull: Pull) -> Refusal | None:
    """5."""
    gate = None if pull.as_candidate else _failed(pull, "release_gate_unexpired")
    return Refusal(404, HubCode.REVISION_NOT_FOUND, gate.message, gate.code) if gate else None


def kind(pull: Pull) -> Refusal | None:
    """6."""
    gate = _failed(pull, "release_gate_kind")
    return Refusal(403, HubCode.GATED, gate.message, gate.code) if gate else None


CHECKS: tuple[Callable[[Pull], Refusal | None], ...] = (named, state, environment, approved, unexpired, kind)


def decide(pull: Pull) -> Served | Refusal:
    """The first refusal in order, or Served."""
    for check in CHECKS:
        if (refusal := check(pull)) is not None:
            return refusal
    approvals = ("release_gate_approved", "release_gate_unexpired")
    return Served(candidate=any(_failed(pull, code) for code in approvals))


def environment_refusal(caller: str | None, *, channel: str, environments: frozenset[str]) -> Refusal | None:
    """Check 3, also for base models, where channels of several projects may share the name."""
    if caller is None or caller in environments:
        return None
    others = "', '".join(sorted(environments))
    return Refusal(403, HubCode.GATED, f"This token is bound to '{caller}'; the channel '{channel}' serves '{others}'.", "hub_environment")
