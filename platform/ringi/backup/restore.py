"""Restore a backup into an empty place, and replay its log there. Nothing is written before every byte of the backup was checked."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psycopg
from psycopg import sql
from sqlalchemy import URL

from ringi.audit.durable import write_durably
from ringi.backup import roles
from ringi.backup.archive import CHECKPOINT, BackupDamaged, Manifest, Opened, blob_name, open_backup
from ringi.backup.log import LogState, check_log
from ringi.backup.places import Places, places_of, reading, run_tool
from ringi.embedded import postgres
from ringi.embedded.environment import uses_embedded_database
from ringi.kit.errors import RingiError


class NotEmpty(RingiError):
    """A restore never writes over anything."""

    code, status = "restore_not_empty", 409

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not empty.", next_step="Nothing was touched. Restore into an empty folder, database and store.")


class Restored(NamedTuple):
    """What is there now; `log` was replayed from the restored database. `roles`: made without a login, because the dump gives them rights."""

    manifest: Manifest
    log: LogState
    roles: tuple[str, ...] = ()


def restore(source: Path, data_dir: Path, *, on_progress: Callable[[str], None] = lambda _line: None) -> Restored:
    """Raises BackupDamaged, NotEmpty, RolesAbsent, DatabaseToolFailed, LogBroken."""
    on_progress("checking the backup")
    backup = open_backup(source)
    if data_dir.exists() and any(data_dir.iterdir()):
        raise NotEmpty(f"The folder '{data_dir}'")
    data_dir.mkdir(parents=True, exist_ok=True)
    with places_of(data_dir) as places:
        _require_empty(places, backup.manifest)
        with _dumps(backup, places, data_dir) as dumps:
            made = _make_absent_roles(dumps.values(), places)
            _put_keys(backup, places)
            _put_blobs(backup, places)
            on_progress("restoring the database")
            for name, dump in dumps.items():
                _forget_default_rights(places.databases[name])
                run_tool("pg_restore", places.databases[name], "--exit-on-error", "--single-transaction", "--no-owner", str(dump))
        on_progress("replaying the log")
        with reading(places.databases["ringi"]) as database:
            log = check_log(database)
    if (log.size, log.root) != (backup.manifest.log_size, backup.manifest.log_root):
        raise BackupDamaged(f"the restored log has {log.size} entries and the root {log.root}, which its manifest does not say")
    return Restored(backup.manifest, log, tuple(sorted(made)))


def _address(url: URL) -> str:
    return url.render_as_string(hide_password=False)


def _require_empty(places: Places, manifest: Manifest) -> None:
    for name in manifest.databases:
        if name not in places.databases:
            continue
        with psycopg.connect(_address(places.databases[name])) as database:
            row = database.execute("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace").fetchone()
        if row != (0,):
            raise NotEmpty(f"The database '{name}'")
    if next(iter(places.store.objects()), None) is not None:
        raise NotEmpty("The blob store")
    for path in (*(places.keys[name] for name in manifest.keys if name in places.keys), places.checkpoints / "last-signed"):
        if path.exists():
            raise NotEmpty(f"The place of '{path.name}'")


def _put_keys(backup: Opened, places: Places) -> None:
    for name in backup.manifest.keys:
        if name in places.keys:
            write_durably(places.keys[name], backup.read(f"keys/{name}"), mode=0o600, replace=False)
    if any(one.name == CHECKPOINT for one in backup.manifest.files):
        write_durably(places.checkpoints / "last-signed", backup.read(CHECKPOINT), mode=0o600, replace=False)


def _put_blobs(backup: Opened, places: Places) -> None:
    for one in backup.manifest.files:
        if one.name.startswith("blobs/"):
            digest = "sha256:" + one.name.rpartition("/")[2]
            if digest != one.digest or one.name != blob_name(digest):
                raise BackupDamaged(f"'{one.name}' does not have the digest of its name")
            writer = places.store.writer(digest)
            try:
                for piece in backup.pieces(one.name):
                    writer.write(piece)
                writer.seal()
            finally:
                writer.abort()


def _forget_default_rights(url: URL) -> None:
    """What new tables give by default in this database would be added to the rights in the dump, which brings its own defaults at its end."""
    kinds = {"r": "TABLES", "S": "SEQUENCES", "f": "FUNCTIONS"}
    with psycopg.connect(_address(url)) as database:
        given = database.execute(
            "SELECT DISTINCT d.defaclobjtype::text, a.grantee::regrole::text FROM pg_default_acl d, aclexplode(d.defaclacl) a"
            " WHERE d.defaclrole = current_user::regrole AND d.defaclnamespace = 'public'::regnamespace AND a.grantee NOT IN (0, d.defaclrole)"
        ).fetchall()
        for kind, role in given:
            words = "ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON {} FROM {}"
            database.execute(sql.SQL(words).format(sql.SQL(kinds[kind]), sql.Identifier(role)))


@contextmanager
def _dumps(backup: Opened, places: Places, data_dir: Path) -> Iterator[dict[str, Path]]:
    """The dumps of the databases that are here, as files, for as long as they are needed."""
    found = {name: data_dir / f".{name}.dump" for name in backup.manifest.databases if name in places.databases}
    try:
        for name, dump in found.items():
            with os.fdopen(os.open(dump, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                for piece in backup.pieces(f"database/{name}.dump"):
                    stream.write(piece)
        yield found
    finally:
        for dump in found.values():
            dump.unlink(missing_ok=True)


def _make_absent_roles(dumps: Iterable[Path], places: Places) -> set[str]:
    """The roles that were not there: made on a server of our own, refused on another one. Raises RolesAbsent."""
    named = {role for dump in dumps for role in roles.roles_of(dump)}
    missing = roles.absent(named, places.databases["ringi"])
    if missing and not uses_embedded_database(os.environ):
        raise roles.RolesAbsent(missing)
    if missing:
        with postgres.attach(places.data_dir).connect() as connection:
            roles.make(missing, connection)
    return missing
