"""`ringi backup` and `ringi restore`: everything that a platform is, in one place."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ringi.backup.archive import Manifest
from ringi.backup.restore import restore as restore_backup
from ringi.backup.take import back_up
from ringi.cli.invocation import Commands, invocation
from ringi.cli.output import clean, console, emit, facts, note

verbs = Commands()

DataDir = Annotated[Path, typer.Option("--data-dir", envvar="RINGI_DATA_DIR", help="Where the platform keeps everything.")]
Into = Annotated[Path, typer.Option("--data-dir", help="An empty folder, or none yet.")]


def _say(line: str) -> None:
    if not invocation.as_data:
        console(stderr=True).print(clean(line))


def _shown(manifest: Manifest, place: Path) -> Table:
    size = sum(one.size for one in manifest.files)
    pairs: list[tuple[str, object]] = [
        ("place", place), ("taken at", manifest.created_at), ("files", len(manifest.files)), ("bytes", size),
        ("keys", ", ".join(manifest.keys) or "none"), ("log", f"{manifest.log_size} entries"), ("root", manifest.log_root),
    ]  # fmt: skip
    return facts(pairs)


@verbs.verb("backup", "ringi backup /backups/2026-11-22", "ringi backup /backups/ringi.tar --without-keys --data-dir /srv/ringi")
def backup(
    target: Annotated[Path, typer.Argument(help="A new folder, or a new file that ends in .tar.")],
    data_dir: DataDir = Path(".ringi"),
    without_keys: Annotated[bool, typer.Option("--without-keys", help="Leave the keys out; keep them elsewhere.")] = False,
) -> None:
    """Back up database, bytes and keys of a platform, while it runs or not."""
    manifest = back_up(data_dir, target, keys=not without_keys, on_progress=_say)
    emit(manifest, lambda: _shown(manifest, target))
    if without_keys:
        note("Without the keys: a restore needs audit-key and personal-key from where you keep them, or no one's text can be read again.")
    else:
        note(
            "This backup holds the keys: whoever has it can sign as the log and read what people wrote. Guard it like the platform itself."
        )


@verbs.verb("restore", "ringi restore /backups/2026-11-22 --data-dir /srv/ringi-new")
def restore(source: Annotated[Path, typer.Argument(help="What ringi backup made.")], data_dir: Into) -> None:
    """Restore a backup into an empty folder, and replay its audit log there."""
    done = restore_backup(source, data_dir, on_progress=_say)
    emit(done.manifest, lambda: _shown(done.manifest, data_dir))
    note(f"The log of {done.log.size} entries holds. Start it: ringi up --data-dir {data_dir}.")
    if not done.manifest.keys:
        note(f"Put audit-key and personal-key into {data_dir / 'secrets'} (mode 600) first: the backup was taken without keys.")
    if done.roles:
        note(
            f"Made without a login, because they have rights in the backup: the database's roles {', '.join(done.roles)}. See docs/backup.md."
        )
    note("Repeat every erasure since this backup was taken, as soon as the platform takes changes: docs/backup.md.")
