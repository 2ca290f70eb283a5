"""Calls about where imported versions came from."""

from typing import Unpack
from uuid import UUID

from ringi.cli.asked import AskedInOrder
from ringi.cli.connection import Connection, route
from ringi.cli.listed import Listed
from ringi.origins.schemas import OriginOut, RecordOrigin


class OriginCalls:
    """`client.origins`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def record(self, project: str, adapter: str, version: str, origin: RecordOrigin) -> OriginOut:
        """Say which version of another system this is; the same again changes nothing."""
        return self._http.post(route("projects", project, "adapters", adapter, "versions", version, "origins"), OriginOut, origin)

    def of_version(self, project: str, adapter: str, version: str, **asked: Unpack[AskedInOrder]) -> Listed[OriginOut]:
        """Where a version came from."""
        return self._http.items(route("projects", project, "adapters", adapter, "versions", version, "origins"), OriginOut, **asked)

    def all(
        self, project: str, *, system: str | None = None, source: str | None = None, name: str | None = None, **asked: Unpack[AskedInOrder]
    ) -> Listed[OriginOut]:
        """Everything that was moved into a project, newest first."""
        return self._http.items(route("projects", project, "origins"), OriginOut, system=system, source=source, name=name, **asked)

    def get(self, project: str, origin_id: UUID) -> OriginOut:
        """One origin."""
        return self._http.get(route("projects", project, "origins", str(origin_id)), OriginOut)
