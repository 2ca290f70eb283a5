"""Calls about what is live and looked at again and again."""

from typing import Unpack

from ringi.cli.asked import AskedInOrder
from ringi.cli.connection import Connection, route
from ringi.cli.listed import Listed
from ringi.watches.schemas import ChangeWatch, CreateWatch, LookOut, LooksOut, WatchOut


class WatchCalls:
    """`client.watches`; a watch is named within its project."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def create(self, project: str, body: CreateWatch) -> WatchOut:
        """Look at what channels serve, again and again."""
        return self._http.post(route("projects", project, "watches"), WatchOut, body)

    def all(self, project: str, **asked: Unpack[AskedInOrder]) -> Listed[WatchOut]:
        """The project's watches, newest first."""
        return self._http.items(route("projects", project, "watches"), WatchOut, **asked)

    def get(self, project: str, name: str) -> WatchOut:
        """One watch."""
        return self._http.get(self._path(project, name), WatchOut)

    def change(self, project: str, name: str, body: ChangeWatch, *, if_match: str | None = None) -> WatchOut:
        """Change, pause or resume it; what is left out stays."""
        return self._http.patch(self._path(project, name), WatchOut, body, if_match=if_match)

    def remove(self, project: str, name: str, *, if_match: str | None = None) -> WatchOut:
        """No more looks."""
        return self._http.delete(self._path(project, name), WatchOut, if_match=if_match)

    def look(self, project: str, name: str) -> LooksOut:
        """Look now, whatever the schedule says."""
        return self._http.post(self._path(project, name, "look"), LooksOut)

    def looks(self, project: str, name: str, **asked: Unpack[AskedInOrder]) -> Listed[LookOut]:
        """Every look of the watch, newest first."""
        return self._http.items(self._path(project, name, "looks"), LookOut, **asked)

    @staticmethod
    def _path(project: str, name: str, *more: str) -> str:
        return route("projects", project, "watches", name, *more)
