"""The blob store: what it holds, what is on its way in, and what nothing refers to."""

from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table

from ringi.cli.asked import AskedInOrder
from ringi.cli.invocation import Commands, connect
from ringi.cli.options import Limit
from ringi.cli.output import emit, emit_list, facts, note, short, table
from ringi.retention.schemas import Amount, CollectionOut
from ringi.storage.schemas import StoredKind
from ringi.uploads.schemas import UploadSessionOut

app = Commands("The blob store: usage, uploads in parts, unused bytes.")

_KINDS = {
    StoredKind.BLOB: "unused blobs",
    StoredKind.PART: "parts of ended uploads",
    StoredKind.INCOMING: "bytes that were never sealed",
    StoredKind.MULTIPART: "S3 uploads that were never completed",
}


@app.verb("usage", "ringi storage usage", "ringi storage usage --json")
def usage() -> None:
    """Show how much is stored; needs the role system_admin."""
    with connect() as client:
        found = client.storage.usage()
    pairs = [
        ("store", found.store),
        ("stored", _amount(found.blobs)),
        ("sent by your organisation", _amount(found.uploaded)),
        ("on its way in", _amount(found.open_uploads)),
        ("unused bytes are kept for", f"{found.grace_s / 3600:g} h"),
    ]
    emit(found, lambda: facts(pairs))


@app.verb("gc", "ringi storage gc --dry-run", "ringi storage gc")
def collect(dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False) -> None:
    """Remove what nothing refers to and is older than the grace period; the relay does it by itself, every hour."""
    with connect() as client:
        done = client.storage.collect(dry_run=dry_run)
    emit(done, lambda: _collected(done))
    if not done.complete:
        note("There may be more: run it again.")


@app.verb("uploads", "ringi storage uploads", "ringi storage uploads --limit 5 --json")
def uploads(asked: AskedInOrder, limit: Limit = 50) -> None:
    """List your uploads in parts; sending the same file again goes on with an open one."""
    with connect() as client:
        emit_list(client.uploads.all(**asked), limit=limit, render=_sessions)


@app.verb("abandon", "ringi storage abandon 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e")
def abandon(upload: Annotated[UUID, typer.Argument(help="The id that ringi storage uploads shows.")]) -> None:
    """Give an upload in parts up; what was sent is removed."""
    with connect() as client:
        ended = client.uploads.end(upload)
    emit(ended, lambda: _sessions([ended]))


def _amount(amount: Amount) -> str:
    return f"{amount.count:,} ({amount.bytes:,} bytes)"


def _collected(done: CollectionOut) -> Table:
    pairs: list[tuple[str, object]] = [(_KINDS[kind], _amount(amount)) for kind, amount in done.removed.items()]
    title = f"{'Would be removed' if done.dry_run else 'Removed'}, older than {done.grace_s / 3600:g} h"
    return facts(pairs or [("nothing", "everything is in use, or younger")], title=title)


def _sessions(found: list[UploadSessionOut]) -> Table:
    columns = ["upload", "state", "digest", "sent", "of bytes", "expires"]
    return table(columns, [(one.id, one.state, short(one.digest), f"{one.offset:,}", f"{one.size:,}", one.expires_at) for one in found])
