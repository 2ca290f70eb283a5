"""The numbered list that a release must pass, pure. The same list answers "may it be released", "may it be served" and "what is missing".

1. release_gate_state        the version is sealed or deprecated, neither retired nor revoked
2. release_gate_evaluated    it was evaluated on the base revision that it was trained on
3. release_gate_approved     a grant names this manifest, this base's fingerprint parts and the channel's environment
4. release_gate_unexpired    that grant is still good
5. release_gate_logged       the grant's audit event is under a signed checkpoint, so that it cannot be denied later
6. release_gate_kind         it is an adapter: an engine would load the weights of a whole model as one

Missing input fails a gate: what cannot be told is not a yes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from ringi.adapters.schemas import VersionKind, VersionState


@dataclass(frozen=True)
class GrantFact:
    """A grant as it stands now. `leaf_index` is its place in the audit log, None while it is not sequenced."""

    manifest_digest: str
    base_parts: dict[str, str]
    environment: str
    expires_at: datetime
    leaf_index: int | None


@dataclass(frozen=True)
class ReleaseFacts:
    """Everything that the gates look at. `signed_size` is the number of leaves under the newest signed checkpoint."""

    reference: str
    state: VersionState
    state_reason: str | None
    manifest_digest: str
    base_parts: dict[str, str]
    environment: str
    evaluations: int
    grants: tuple[GrantFact, ...]
    signed_size: int
    now: datetime
    kind: VersionKind = VersionKind.ADAPTER

    def matching(self) -> list[GrantFact]:
        """Grants for exactly this version on this base in this environment."""
        wanted = (self.manifest_digest, self.base_parts, self.environment)
        return [grant for grant in self.grants if (grant.manifest_digest, grant.base_parts, grant.environment) == wanted]

    def unexpired(self) -> list[GrantFact]:
        """Matching grants that are still good."""
        return [grant for grant in self.matching() if grant.expires_at > self.now]


@dataclass(frozen=True)
class Gate:
    """A gate's verdict; `passed` with a message either way."""

    number: int
    code: str
    passed: bool
    message: str


def state(facts: ReleaseFacts) -> Gate:
    """1."""
    passed = facts.state in {VersionState.SEALED, VersionState.DEPRECATED}
    because = f": {facts.state_reason}" if facts.state_reason and not passed else ""
    return Gate(1, "release_gate_state", passed, f"{facts.reference} is '{facts.state}'{because}.")


def evaluated(facts: ReleaseFacts) -> Gate:
    """2."""
    message = f"{facts.reference} has {facts.evaluations} completed evaluations on its base revision."
    if not facts.evaluations:
        message += f" Run: ringi evaluate {facts.reference} --dataset NAME."
    return Gate(2, "release_gate_evaluated", facts.evaluations > 0, message)


def approved(facts: ReleaseFacts) -> Gate:
    """3."""
    passed = bool(facts.matching())
    message = f"{facts.reference} is approved for '{facts.environment}'."
    if not passed:
        message = f"{facts.reference} is not approved for '{facts.environment}'. Run: ringi approvals request {facts.reference}."
    return Gate(3, "release_gate_approved", passed, message)


def unexpired(facts: ReleaseFacts) -> Gate:
    """4."""
    good = facts.unexpired()
    latest = max((grant.expires_at for grant in facts.matching()), default=None)
    when = "there is no grant" if latest is None else f"the grant {'is good until' if good else 'expired at'} {latest:%Y-%m-%d %H:%M} UTC"
    return Gate(4, "release_gate_unexpired", bool(good), f"For '{facts.environment}' {when}.")


def logged_grant(facts: ReleaseFacts, grant: GrantFact) -> bool:
    """Whether a release may rest on this grant: it matches, is good, and is under a signed checkpoint."""
    return grant in facts.unexpired() and grant.leaf_index is not None and grant.leaf_index < facts.signed_size


def logged(facts: ReleaseFacts) -> Gate:
    """5."""
    passed = any(logged_grant(facts, grant) for grant in facts.unexpired())
    message = f"The signed log covers {facts.signed_size} events, " + (
        "the grant among them." if passed else "the grant not among them yet."
    )
    return Gate(5, "release_gate_logged", passed, message)


def kind(facts: ReleaseFacts) -> Gate:
    """6."""
    passed = facts.kind is VersionKind.ADAPTER
    what = "an adapter" if passed else "full weights and no adapter: it is there to be compared with, and is not served. Release an adapter"
    return Gate(6, "release_gate_kind", passed, f"{facts.reference} is {what}.")


GATES: tuple[Callable[[ReleaseFacts], Gate], ...] = (state, evaluated, approved, unexpired, logged, kind)


def check(facts: ReleaseFacts) -> list[Gate]:
    """Every gate's verdict, in order."""
    return [gate(facts) for gate in GATES]
