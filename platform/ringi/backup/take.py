"""Take a backup of a running platform: the database in one snapshot, then the bytes that the snapshot refers to, then the keys."""

import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from sqlalchemy import func, select, text

from ringi.audit.ringi_verify import Checkpoint, parse_note
from ringi.backup.archive import CHECKPOINT, FORMAT, MANIFEST, BackupRefused, Manifest, Recorder, blob_name, writer_to
from ringi.backup.log import LogState, check_log
from ringi.backup.places import INDISPENSABLE, KEYS, Places, places_of, reading, run_tool
from ringi.embedded import postgres
from ringi.embedded.environment import uses_embedded_database
from ringi.kit.digests import Digest
from ringi.storage.blobs import BlobMissing


def back_up(data_dir: Path, target: Path, *, keys: bool, on_progress: Callable[[str], None] = lambda _line: None) -> Manifest:
    """Write the backup and return its manifest. Nothing is left at `target` unless it is whole.

    Raises NotStarted, BackupRefused, DatabaseToolFailed, LogBroken, and BlobCorrupt where stored bytes are not what their name says.
    """
    if uses_embedded_database(os.environ):
        postgres.attach(data_dir)  # a folder without a platform is not given one
    writer = writer_to(target)
    try:
        with places_of(data_dir) as places:
            manifest = _filled(places, Recorder(writer), keys=keys, say=on_progress)
        body = manifest.model_dump_json(indent=1).encode()
        writer.put(MANIFEST, [body], len(body))
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    return manifest


def _filled(places: Places, out: Recorder, *, keys: bool, say: Callable[[str], None]) -> Manifest:
    with tempfile.TemporaryDirectory(prefix="ringi-backup-") as folder, reading(places.databases["ringi"]) as snapshot:
        # Everything below is asked in this one snapshot, and pg_dump reads the same (PostgreSQL manual 9.28.5).
        name = snapshot.scalar(select(func.pg_export_snapshot()))
        for which, url in places.databases.items():
            say(f"dumping the database {which}")
            dump = Path(folder) / f"{which}.dump"
            # The owner's policies show it every row; without the option pg_dump refuses tables with row-level security.
            extra = (f"--snapshot={name}",) if which == "ringi" else ()
            run_tool("pg_dump", url, "--format=custom", "--enable-row-security", f"--file={dump}", *extra)
            out.put_file(f"database/{which}.dump", dump)
            dump.unlink()
        log = check_log(snapshot)
        say(f"the log of {log.size} entries holds")
        if log.note is not None:
            # The one of the snapshot, and not the signer's newer file: the signer must go on from what the database holds.
            out.put_bytes(CHECKPOINT, log.note)
        blobs = [(row.digest, row.size) for row in snapshot.execute(text("SELECT digest, size FROM blobs ORDER BY digest"))]
        revision = str(snapshot.scalar(text("SELECT version_num FROM alembic_version")))
    collected = _copy_blobs(places, out, blobs)
    say(f"copied {len(blobs) - len(collected)} blobs")
    kept = _copy_keys(places, out) if keys else []
    return Manifest(
        format=FORMAT, created_at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", revision=revision, origin=_origin(log), log_size=log.size,
        log_root=log.root, databases=list(places.databases), keys=kept, collected=collected, files=out.files,
    )  # fmt: skip


def _origin(log: LogState) -> str:
    return Checkpoint.parse(parse_note(log.note)[0]).origin if log.note else ""


def _copy_blobs(places: Places, out: Recorder, blobs: list[tuple[Digest, int]]) -> list[Digest]:
    """Bytes never change under their name, so they may be read after the snapshot; what nothing refers to may be gone by then."""
    collected = []
    for digest, size in blobs:
        try:
            places.store.look(digest)
        except BlobMissing:
            if _still_held(places, digest):
                raise
            collected.append(digest)
            continue
        out.put(blob_name(digest), places.store.open(digest), size)
    return collected


def _still_held(places: Places, digest: Digest) -> bool:
    with psycopg.connect(places.databases["ringi"].render_as_string(hide_password=False)) as now:
        return now.execute("SELECT 1 FROM blobs WHERE digest = %s", (digest,)).fetchone() is not None


def _copy_keys(places: Places, out: Recorder) -> list[str]:
    kept = []
    for name, path in places.keys.items():
        try:
            key = path.read_bytes()
        except FileNotFoundError:
            if name in INDISPENSABLE:
                # A backup that only seems to hold the keys is noticed when nothing is left but it.
                raise BackupRefused(
                    f"The key '{name}' is not at '{path}', so it would be missing from the backup.",
                    next_step=f"Say where it is ({KEYS[name]}), or leave the keys out on purpose: --without-keys.",
                ) from None
            continue
        out.put_bytes(f"keys/{name}", key)
        kept.append(name)
    return kept
