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


class AuditKeyOut(Schema):
    """What an auditor pins out of band: the log's origin and verifier key (C2SP signed-note)."""

    origin: str
    vkey: str
