"""The audit log as clients read it. Free of database code, so that the client can import it."""

from datetime import datetime
from typing import Any
from uuid import UUID

from ringi.web.schemas import Schema


class AuditEntryOut(Schema):
    """One entry: `index` is its leaf in the log, null while the sequencer has not placed it."""

    event_id: UUID
    index: int | None
    ts: datetime
    actor: str
    actor_type: str
    action: str
    outcome: str
    object_type: str
    object_id: str
    digest: str | None
    after: str | None
    details: dict[str, Any] | None
    # What its actor wrote; null where nothing was written, and where it is erased.
    text: str | None = None
    text_erased: bool = False


class AuditKeyOut(Schema):
    """What an auditor pins out of band: the log's origin and verifier key (C2SP signed-note); `also` are older keys that still sign."""

    origin: str
    vkey: str
    also: list[str]


class AuditLogOut(Schema):
    """One of the logs of this database; all but the last have ended. `vkey`: the key it began with; null as long as nothing has followed it."""

    number: int
    origin: str
    vkey: str | None


class ConsistencyOut(Schema):
    """That a log of `old` entries is the beginning of that of `new`: hashes in base64, and the checkpoint of `new` where one was signed."""

    old: int
    new: int
    proof: list[str]
    checkpoint: str | None


class SampleOut(Schema):
    """A draw: `size` of `population` entries, of `action`, at or after `since` and before `until`; the population lies between the leaves
    `first` and `last`. `seed` and `checkpoint` are what it needs to be drawn again; `entries` are in the order of the log.
    """

    seed: str
    size: int
    action: str | None
    since: str | None
    until: str | None
    population: int
    first: int | None
    last: int | None
    checkpoint: str
    entries: list[AuditEntryOut]
