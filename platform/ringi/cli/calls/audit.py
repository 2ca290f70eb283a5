"""Calls about the audit log."""

from typing import BinaryIO, Unpack
from uuid import UUID

from ringi.api.as_of_schemas import ApprovedOut, LiveThenOut
from ringi.api.audit_schemas import AuditEntryOut, AuditKeyOut, AuditLogOut, ConsistencyOut, SampleOut
from ringi.cli.asked import AskedInOrder
from ringi.cli.connection import Connection, route
from ringi.cli.listed import Listed


class AuditCalls:
    """`client.audit`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def events(
        self, *, object_id: str | None = None, action: str | None = None, user: str | None = None, **asked: Unpack[AskedInOrder]
    ) -> Listed[AuditEntryOut]:
        """Entries of the organisation, newest first."""
        return self._http.items("/audit/events", AuditEntryOut, object_id=object_id, action=action, user=user, **asked)

    def trail(self, project: str, adapter: str, **asked: Unpack[AskedInOrder]) -> Listed[AuditEntryOut]:
        """Everything that happened to an adapter, newest first."""
        return self._http.items(route("projects", project, "adapters", adapter, "trail"), AuditEntryOut, **asked)

    def key(self) -> AuditKeyOut:
        """The log's verifier key; pin it once, over another way than this server."""
        return self._http.get("/audit/key", AuditKeyOut)

    def checkpoint(self) -> str:
        """The newest signed checkpoint (C2SP tlog-checkpoint)."""
        return self._http.get_text("/audit/checkpoint")

    def export(
        self, out: BinaryIO, *, since: str | None = None, until: str | None = None, project: str | None = None, adapter: str | None = None,
        origin: str | None = None,
    ) -> int:  # fmt: skip
        """Write the bundle that `ringi audit verify` checks to `out`; returns its size in bytes. Of all, of a period, or of an adapter.

        `origin` names a log that has ended; without it the one that grows is meant.
        """
        query = {"from": since, "to": until, "project": project, "adapter": adapter, "origin": origin}
        return self._http.download("/audit/export", out, query=query)

    def logs(self) -> list[AuditLogOut]:
        """The logs of the database, oldest first; the last one grows."""
        return self._http.get_list("/audit/logs", AuditLogOut)

    def log_checkpoint(self) -> str:
        """The same, as a tool for tlog-tiles asks for it."""
        return self._http.get_text("/audit/log/checkpoint")

    def tile(self, path: str, out: BinaryIO) -> int:
        """Write a tile (`0/x001/234`) or a bundle of entries (`entries/000.p/7`) to `out`; returns its size in bytes."""
        return self._http.download(route("audit", "log", "tile", *path.split("/")), out, method="GET")

    def checkpoint_of(self, number: int) -> str:
        """The newest checkpoint of the log of that number, also of one that has ended."""
        return self._http.get_text(route("audit", "logs", str(number), "checkpoint"))

    def tile_of(self, number: int, path: str, out: BinaryIO) -> int:
        """The same as `tile` of the log of that number, also of one that has ended."""
        return self._http.download(route("audit", "logs", str(number), "tile", *path.split("/")), out, method="GET")

    def proof(self, event_id: UUID) -> str:
        """The proof that an entry is in the log (C2SP tlog-proof), which `ringi-verify --proof` checks."""
        return self._http.get_text(route("audit", "events", str(event_id), "proof"))

    def consistency(self, old: int, new: int | None = None) -> ConsistencyOut:
        """The proof that the log of `old` entries is the beginning of that of `new`, by default the newest that was signed."""
        return self._http.get("/audit/consistency", ConsistencyOut, old=old, new=new)

    def live_then(
        self, time: str, project: str, *, adapter: str | None = None, channel: str | None = None, **asked: Unpack[AskedInOrder]
    ) -> Listed[LiveThenOut]:
        """What every channel of a project served at a time, with the approval behind it and the entries that prove it."""
        return self._http.items("/audit/as-of", LiveThenOut, time=time, project=project, adapter=adapter, channel=channel, **asked)

    def approved_then(self, time: str, project: str, *, adapter: str | None = None, **asked: Unpack[AskedInOrder]) -> Listed[ApprovedOut]:
        """Every approval of a project that was in force at a time, released or not."""
        return self._http.items("/audit/as-of/approvals", ApprovedOut, time=time, project=project, adapter=adapter, **asked)

    def sample(
        self, *, action: str | None = None, since: str | None = None, until: str | None = None, size: int = 25, seed: str | None = None
    ) -> SampleOut:
        """A population of entries and a sample of it, which `ringi-verify --sample` draws again from an export."""
        query = {"action": action, "from": since, "to": until, "size": size, "seed": seed}
        return self._http.get("/audit/sample", SampleOut, **query)
