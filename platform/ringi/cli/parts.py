"""Send a large file in parts. The platform's offset is the truth: after a cut the client asks for it, and goes on from there.

Nothing is remembered here: the same file sent again, by another process or after a day, goes on where it ended.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ringi.cli.errors import ApiError, FileChanged, Unreachable
from ringi.kit.digests import CHUNK_BYTES, Digest
from ringi.uploads.schemas import OpenUpload, UploadOut, UploadSessionOut, UploadState

if TYPE_CHECKING:
    from ringi.cli.connection import Connection, OnBytes

SESSIONS = "/uploads/sessions"
IN_PARTS_OVER, PART_BYTES = 64 * 2**20, 32 * 2**20
# So long without one byte of progress, and the cause of the last cut is told.
PATIENCE_S = 60.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_PASSES = frozenset({502, 503, 504})
# The platform joins the parts: however long that takes, it is progress.
_AT_WORK = "upload_finishing"
# Another client sends the same file: it moved the offset, or finished it.
_RACED = frozenset({"upload_offset_mismatch", "upload_ended"})


def send(http: "Connection", file: Path, *, digest: Digest, total: int, part_bytes: int, on_bytes: "OnBytes | None") -> UploadOut:
    """Send `file`, and go on after cuts; raises what the platform refuses, and FileChanged."""
    reached, answered, pause = -1, time.monotonic(), _FIRST_PAUSE_S
    while True:
        try:
            session = http.post(SESSIONS, UploadSessionOut, OpenUpload(size=total, digest=digest))
            while session.state is UploadState.OPEN and session.offset < total:
                if session.offset > reached:
                    reached, answered, pause = session.offset, time.monotonic(), _FIRST_PAUSE_S
                session = _append(http, file, session, part_bytes, on_bytes)
            return http.finish(f"{SESSIONS}/{session.id}/finish", UploadOut)
        except (Unreachable, ApiError) as error:
            if isinstance(error, ApiError) and error.code == _AT_WORK:
                answered = time.monotonic()
            if not _may_pass(error) or time.monotonic() - answered > PATIENCE_S:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _may_pass(error: Unreachable | ApiError) -> bool:
    return isinstance(error, Unreachable) or error.status in _PASSES or error.code in _RACED | {_AT_WORK}


def _append(http: "Connection", file: Path, session: UploadSessionOut, part_bytes: int, on_bytes: "OnBytes | None") -> UploadSessionOut:
    size = min(part_bytes, session.size - session.offset)

    def pieces() -> Iterator[bytes]:
        with file.open("rb") as stream:
            stream.seek(session.offset)
            sent = 0
            while sent < size:
                piece = stream.read(min(CHUNK_BYTES, size - sent))
                if not piece:
                    raise FileChanged(file)
                sent += len(piece)
                yield piece
                if on_bytes is not None:
                    on_bytes(session.offset + sent, session.size)

    headers = {"Content-Type": "application/offset+octet-stream", "Content-Length": str(size), "Upload-Offset": str(session.offset)}
    return http.append(f"{SESSIONS}/{session.id}", UploadSessionOut, pieces(), headers)
