"""What was approved and live at a time, as clients read it. Free of database code, so that the client can import it."""

from datetime import datetime
from uuid import UUID

from ringi.web.schemas import Schema


class SaidOut(Schema):
    """The entry that says so: what was done, by whom, when. `ringi audit proof EVENT_ID` proves it under a signed checkpoint.

    `index` is its leaf, null while it has none. `agrees`: whether the row shown here is the one whose digest the entry holds; null where the
    entry holds none, and everything shown is then read from the entry itself.
    """

    event_id: UUID
    index: int | None
    at: datetime
    by: str
    action: str
    agrees: bool | None


class VoteSaidOut(Schema):
    """One vote: who, in which seat, what it meant, why. The reason is null once its writer was erased; then `said.agrees` is null too."""

    voter: str
    role: str
    stage: str
    decision: str
    reason: str | None
    said: SaidOut | None


class EvidenceSaidOut(Schema):
    """A piece of evidence that the request named, by its digest."""

    type: str
    digest: str
    producer: str
    said: SaidOut | None


class VersionSaidOut(Schema):
    """A version as it stood then: `state` follows from the entries up to that time."""

    reference: str
    manifest_digest: str
    state: str
    sealed: SaidOut | None
    state_since: SaidOut | None


class ApprovedOut(Schema):
    """A grant: for which version and environment, asked by whom, on which evidence, by which policy, with which votes.

    `in_force`: whether it held at that time by its own period. `policy` is `environment:number` of the policy that was applied.
    """

    grant_id: UUID
    version: VersionSaidOut
    environment: str
    valid_from: datetime
    expires_at: datetime
    in_force: bool
    said: SaidOut | None
    requester: str
    requested: SaidOut | None
    policy: str
    policy_digest: str
    policy_said: SaidOut | None
    votes: list[VoteSaidOut]
    evidence: list[EvidenceSaidOut]


class LiveThenOut(Schema):
    """What a channel served for an adapter: since when, released by whom and why, and the approval behind it."""

    channel: str
    environment: str
    adapter: str
    version: str
    since: datetime
    released_by: str
    action: str
    reason: str
    said: SaidOut
    approval: ApprovedOut
