"""What a reference that moves meant at a time: `production@2026-11-01T00:00Z`, `latest@2026-11-01`.

A channel's history is the `releases` table, which stands above this domain; as with `channel_heads` (docs/decisions/0004) the pointer is
read here and moved there, so the table is named by its columns instead of its class.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, Integer, Select, String, Uuid, column, select, table

_RELEASES = table(
    "releases", column("adapter_id", Uuid), column("channel_id", Uuid), column("version_id", Uuid), column("sequence", Integer),
    column("created_at", DateTime(timezone=True)),
)  # fmt: skip
_CHANNELS = table("channels", column("id", Uuid), column("name", String))


def served(adapter_id: UUID, *, channel: str, at: datetime) -> Select[UUID]:
    """The id of the version that the channel served for the adapter then; no row when it served none."""
    return (
        select(_RELEASES.c.version_id)
        .join(_CHANNELS, _CHANNELS.c.id == _RELEASES.c.channel_id)
        .where(_RELEASES.c.adapter_id == adapter_id, _CHANNELS.c.name == channel, _RELEASES.c.created_at <= at)
        # The sequence, not the time, is the order of the moves: a server's clock may have been set back between two of them.
        .order_by(_RELEASES.c.sequence.desc())
        .limit(1)
    )
