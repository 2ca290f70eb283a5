"""START HERE: the life of an adapter version.

    train or register ── inspect, effect proof ──► sealed ──► deprecated ──► retired
                                   │                  └───────────┴────────────┴──► revoked
                                   └── refused: nothing is sealed, the job says why

A version is immutable; only its state moves, along the arrows below, each move by compare-and-set and with an audit event.
"Evaluated", "approved" and "live" are not states: they are read from evaluations, grants and channel heads, so they cannot disagree with them.
"""

from sqlalchemy import update
from sqlalchemy.orm import Session

from ringi.adapters.models import AdapterVersion, version_name
from ringi.adapters.schemas import VersionState
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.events.catalogue import adapters as adapters_events
from ringi.events.emission import emit
from ringi.kit.actor import Actor
from ringi.kit.errors import Conflict

# For every state, where a version may come from. Revoked is final.
MOVES: dict[VersionState, frozenset[VersionState]] = {
    VersionState.DEPRECATED: frozenset({VersionState.SEALED}),
    VersionState.RETIRED: frozenset({VersionState.SEALED, VersionState.DEPRECATED}),
    VersionState.REVOKED: frozenset({VersionState.SEALED, VersionState.DEPRECATED, VersionState.RETIRED}),
}
# States in which a version can be approved and released; a deprecated one goes on serving and warns.
USABLE = frozenset({VersionState.SEALED, VersionState.DEPRECATED})

_ACTIONS = {
    VersionState.DEPRECATED: AuditAction.ADAPTER_VERSION_DEPRECATE,
    VersionState.RETIRED: AuditAction.ADAPTER_VERSION_RETIRE,
    VersionState.REVOKED: AuditAction.ADAPTER_VERSION_REVOKE,
}
_EVENTS: dict[
    VersionState,
    type[adapters_events.AdapterVersionRetired | adapters_events.AdapterVersionDeprecated | adapters_events.AdapterVersionRevoked],
] = {
    VersionState.DEPRECATED: adapters_events.AdapterVersionDeprecated,
    VersionState.RETIRED: adapters_events.AdapterVersionRetired,
    VersionState.REVOKED: adapters_events.AdapterVersionRevoked,
}


class VersionMoved(Conflict):
    """The version is not in a state from which the move is allowed."""

    code = "version_state_conflict"

    def __init__(self, version: AdapterVersion, to: VersionState) -> None:
        allowed = ", ".join(sorted(MOVES[to]))
        super().__init__(
            f"Version v{version.number} is '{version.state}'; '{to}' is reached from: {allowed}.", next_step="Read its state again."
        )


def advance(session: Session, actor: Actor, version: AdapterVersion, *, to: VersionState, reason: str) -> AdapterVersion:
    """Move `version` to state `to`; of two callers at once one wins and the other gets VersionMoved."""
    moved = session.scalars(
        update(AdapterVersion)
        .where(AdapterVersion.id == version.id, AdapterVersion.state.in_(MOVES[to]))
        .values(state=to, state_reason=reason)
        .returning(AdapterVersion)
    ).one_or_none()
    if moved is None:
        raise VersionMoved(version, to)
    # What the database wrote, and nothing else: what the caller has loaded beside it stays.
    session.refresh(moved, attribute_names=["state", "state_reason", "row_version"])
    audit.record(
        session, actor, _ACTIONS[to], object_type="adapter_version", object_id=version.id, object_digest=version.manifest_digest,
        project_id=version.project_id, payload=reason,
    )  # fmt: skip
    name = version_name(session, version)
    told = _EVENTS[to](version=name, version_id=version.id, manifest_digest=version.manifest_digest, reason=reason)
    emit(session, told, project_id=version.project_id)
    return moved
