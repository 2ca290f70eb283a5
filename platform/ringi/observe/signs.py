"""Leave and read signs of life. They come from the loop that does the work, not from a thread beside it: a loop that hangs leaves none."""

import os
import platform
import time
from datetime import timedelta

from sqlalchemy import Connection, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from ringi.db.session import transaction
from ringi.observe.models import ProcessSign
from ringi.settings import get_settings

RELAY, SEQUENCER, NOTIFIER, WATCHER = "relay", "sequencer", "notifier", "watcher"
# Processes whose silence the API tells of.
ROLES = (RELAY, SEQUENCER, NOTIFIER, WATCHER)
_KEPT = timedelta(days=1)
_SILENT_AFTER_HEARTBEATS = 6


def silent_after_s() -> float:
    """A process that left no sign for so many seconds counts as gone."""
    return _SILENT_AFTER_HEARTBEATS * get_settings().heartbeat_s


class Signs:
    """Of one process: `came_round` at every turn of its loop, which writes once in each heartbeat's time."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.instance = f"{get_settings().process_name}/{platform.node()}/{os.getpid()}"[-200:]
        self.turned_at = time.monotonic()
        self._left_at: float | None = None

    def turned(self) -> None:
        """The loop does something, if only waiting for its database."""
        self.turned_at = time.monotonic()

    def came_round(self) -> None:
        """The loop works; a lost database raises."""
        self.turned()
        if self._left_at is not None and self.turned_at - self._left_at < get_settings().heartbeat_s:
            return
        seen = insert(ProcessSign).values(role=self.role, instance=self.instance)
        now = func.clock_timestamp()
        with transaction() as session:
            session.execute(seen.on_conflict_do_update(index_elements=["role", "instance"], set_={"seen_at": now}))
            # Each process takes the old ones of its kind away when it begins: there are no more of them than there were starts.
            if self._left_at is None:
                session.execute(delete(ProcessSign).where(ProcessSign.role == self.role, ProcessSign.seen_at < now - _KEPT))
        self._left_at = self.turned_at

    def hangs(self) -> bool:
        """Whether the loop has not turned for longer than any pause of it."""
        return time.monotonic() - self.turned_at > max(30.0, silent_after_s())


def seconds_since(connection: Connection) -> dict[str, float]:
    """Role -> seconds since the newest sign of any of its processes, by the database's clock; a role that never left one is missing."""
    age = func.extract("epoch", func.clock_timestamp() - func.max(ProcessSign.seen_at))
    return {role: float(seconds) for role, seconds in connection.execute(select(ProcessSign.role, age).group_by(ProcessSign.role))}
