"""Calls about bytes: uploads in parts, and what the store holds."""

from typing import Unpack
from uuid import UUID

from ringi.cli.asked import AskedInOrder
from ringi.cli.connection import Connection, route
from ringi.cli.listed import Listed
from ringi.cli.parts import SESSIONS
from ringi.kit.digests import Digest
from ringi.retention.schemas import Collect, CollectionOut, UsageOut
from ringi.uploads.schemas import OpenUpload, UploadOut, UploadSessionOut


class UploadCalls:
    """`client.uploads`: one part at a time. `client.upload` does all of it for a file."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def open(self, *, size: int, digest: Digest) -> UploadSessionOut:
        """Announce bytes; an open upload of the same ones is answered again."""
        return self._http.post(SESSIONS, UploadSessionOut, OpenUpload(size=size, digest=digest))

    def append(self, session_id: UUID, *, offset: int, content: bytes) -> UploadSessionOut:
        """Add bytes at `offset`; once answered, they are kept."""
        headers = {"Content-Length": str(len(content)), "Upload-Offset": str(offset)}
        return self._http.append(_of(session_id), UploadSessionOut, iter([content]), headers)

    def all(self, **asked: Unpack[AskedInOrder]) -> Listed[UploadSessionOut]:
        """Your uploads in parts, newest first."""
        return self._http.items(SESSIONS, UploadSessionOut, **asked)

    def get(self, session_id: UUID) -> UploadSessionOut:
        """Where one stands."""
        return self._http.get(_of(session_id), UploadSessionOut)

    def finish(self, session_id: UUID) -> UploadOut:
        """Join, check and store."""
        return self._http.finish(f"{_of(session_id)}/finish", UploadOut)

    def end(self, session_id: UUID) -> UploadSessionOut:
        """Give one up."""
        return self._http.delete(_of(session_id), UploadSessionOut)


class StorageCalls:
    """`client.storage`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def usage(self) -> UsageOut:
        """How much is stored."""
        return self._http.get("/storage/usage", UsageOut)

    def collect(self, *, dry_run: bool) -> CollectionOut:
        """Remove what nothing refers to, or say what that would be."""
        return self._http.post("/storage/collections", CollectionOut, Collect(dry_run=dry_run))


def _of(session_id: UUID) -> str:
    return SESSIONS + route(str(session_id))
