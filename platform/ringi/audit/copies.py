"""The plain columns of the events, compared with the bytes that they are copies of.

Lists, "as of" and the export's period look events up by these columns, which no hash covers: who edits one hides an entry from a search, or shows
another actor or time, and every proof still holds. The bytes themselves are what `checking.replay` compares with the signed tree.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Label, String, cast, func, select
from sqlalchemy.orm import Session

from ringi.audit.models import AuditEvent, AuditLeaf

_ROWS = 5000
# With its era: a time before Christ has the same digits.
_TIME = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"AD'
_COLUMNS = (
    "event_id", "ts", "action", "outcome", "actor_type", "actor_id", "object_type", "object_id", "project_id", "organization_id", "after_digest",
)  # fmt: skip
# As text, which no value of a column can fail to be.
_COPIES = (
    cast(AuditEvent.event_id, String), func.to_char(func.timezone("UTC", AuditEvent.ts), _TIME), AuditEvent.action, AuditEvent.outcome,
    AuditEvent.actor_type, AuditEvent.actor_id, AuditEvent.object_type, AuditEvent.object_id, cast(AuditEvent.project_id, String),
    cast(AuditEvent.organization_id, String), AuditEvent.after_digest,
)  # fmt: skip


class ChangedColumns(NamedTuple):
    """An entry whose columns are not what its bytes say; none is named where the bytes cannot be read.

    `leaf`: its place, None while it waits for one. `organization`: of the bytes, and of the column where those cannot be read.
    """

    event_id: UUID
    leaf: int | None
    organization: str | None
    columns: tuple[str, ...]

    @property
    def message(self) -> str:
        """The finding in a sentence."""
        where = f"entry {self.leaf}" if self.leaf is not None else f"the waiting event {self.event_id}"
        if not self.columns:
            return f"The bytes of {where} cannot be read, so nothing says what its columns must be."
        return f"The columns {', '.join(self.columns)} of {where} are not what its bytes say: somebody changed them."


def changed_columns(session: Session) -> Iterator[ChangedColumns]:
    """Every such entry of every log, in the order of their writing. Memory does not grow with the log."""
    labelled: list[Label[Any]] = [copy.label(f"copy_of_{name}") for name, copy in zip(_COLUMNS, _COPIES, strict=True)]
    rows = select(AuditEvent.event_id, AuditLeaf.leaf_index, AuditEvent.body, *labelled)
    rows = rows.outerjoin(AuditLeaf, AuditLeaf.event_id == AuditEvent.id).order_by(AuditEvent.id)
    with session.execute(rows, execution_options={"yield_per": _ROWS}) as found:
        for event_id, leaf, body, *copies in found:
            said = _said(body)
            if said is None:
                yield ChangedColumns(event_id, leaf, copies[_COLUMNS.index("organization_id")], ())
            elif said != tuple(copies):
                columns = tuple(name for name, one, other in zip(_COLUMNS, said, copies, strict=True) if one != other)
                yield ChangedColumns(event_id, leaf, said[_COLUMNS.index("organization_id")], columns)


def _said(body: bytes) -> tuple[str | None, ...] | None:
    """What the columns must be, in their order."""
    try:
        event = json.loads(body)
        actor, thing = event["actor"], event["object"]
        return (
            event["id"], f"{event['ts']}AD", event["action"], event["outcome"], actor["type"], actor["id"], thing["type"], thing["id"],
            event["project"], event["organization"], event["after"],
        )  # fmt: skip
    except (ValueError, KeyError, TypeError):
        return None
