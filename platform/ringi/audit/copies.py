"""The plain columns of the events, compared with the bytes that they are copies of.

Lists, "as of" and the export's period look events up by these columns, which no hash covers: who edits one hides an entry from a search, or shows
another actor or time, and every proof still holds. The bytes themselves are what `checking.replay` and the monitor compare with the signed tree.
"""

from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

# As text, both of them: json_to_record reads an entry once, and takes no more of it than is named. `ts` has microseconds in both.
_TIME = """'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"""
_COPIES = {
    "event_id": ("CAST(e.event_id AS text)", "s.id"),
    "ts": (f"to_char(e.ts AT TIME ZONE 'UTC', {_TIME})", "s.ts"),
    "action": ("e.action", "s.action"),
    "outcome": ("e.outcome", "s.outcome"),
    "actor_type": ("e.actor_type", "s.actor ->> 'type'"),
    "actor_id": ("e.actor_id", "s.actor ->> 'id'"),
    "object_type": ("e.object_type", "s.object ->> 'type'"),
    "object_id": ("e.object_id", "s.object ->> 'id'"),
    "project_id": ("CAST(e.project_id AS text)", "s.project"),
    "organization_id": ("CAST(e.organization_id AS text)", "s.organization"),
    "after_digest": ("e.after_digest", "s.after"),
}
_WRONG = ", ".join(f"CASE WHEN {copy} IS DISTINCT FROM {said} THEN '{name}' END" for name, (copy, said) in _COPIES.items())
_DIFFERING = text(
    f"SELECT e.event_id, l.leaf_index, s.organization, w.columns FROM audit_event e LEFT JOIN audit_leaf l ON l.event_id = e.id,"  # noqa: S608  # of constants
    " json_to_record(convert_from(e.body, 'UTF8')::json)"
    " AS s(id text, ts text, action text, outcome text, actor json, object json, project text, organization text, after text),"
    f" LATERAL (SELECT concat_ws(', ', {_WRONG}) AS columns) w WHERE w.columns <> '' ORDER BY e.id"
)


class ChangedColumns(NamedTuple):
    """An entry whose columns are not what its bytes say, and whose bytes name `organization`. `leaf`: its place, None while it waits for one."""

    event_id: UUID
    leaf: int | None
    organization: str | None
    columns: str

    @property
    def message(self) -> str:
        """The finding in a sentence."""
        where = f"entry {self.leaf}" if self.leaf is not None else f"the waiting event {self.event_id}"
        return f"The columns {self.columns} of {where} are not what its bytes say: somebody changed them."


def changed_columns(session: Session) -> Iterator[ChangedColumns]:
    """Every such entry. The bytes must be whole: what is no JSON raises a DataError of the database."""
    return (ChangedColumns(*row) for row in session.execute(_DIFFERING))
