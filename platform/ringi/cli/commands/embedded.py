"""`ringi up`, `down` and `status`: the embedded platform of a data folder."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ringi.cli.errors import REFUSED
from ringi.cli.invocation import Commands, invocation
from ringi.cli.output import clean, console, emit, facts, note, table
from ringi.embedded.processes import PlatformStatus, platform_down, platform_status, platform_up

verbs = Commands()

DataDir = Annotated[Path, typer.Option("--data-dir", envvar="RINGI_DATA_DIR", help="Where the platform keeps everything.")]
DEFAULT_DATA_DIR = Path(".ringi")


def _say(line: str) -> None:
    console(stderr=True).print(clean(line))


def _show(status: PlatformStatus) -> None:
    document = asdict(status) | {"data_dir": str(status.data_dir), "services": [asdict(service) for service in status.services]}
    emit(document, lambda: _drawn(status))


def _drawn(status: PlatformStatus) -> str:
    drawn = console()
    with drawn.capture() as captured:
        drawn.print(facts([("platform", status.phase), ("data", status.data_dir), ("API", status.api_url), ("docs", status.docs_url)]))
        if status.message and status.phase == "failed":
            drawn.print(clean(status.message))
        rows = [(one.name, one.state, one.pid, one.restarts, one.since) for one in status.services]
        drawn.print(table(["service", "state", "pid", "restarts", "since (UTC)"], rows))
    return captured.get().rstrip("\n")


@verbs.verb("up", "ringi up", "ringi up --data-dir /srv/ringi --port 8400 --workers-gpu 2", "ringi up --foreground")
def up(
    data_dir: DataDir = DEFAULT_DATA_DIR,
    workers_gpu: Annotated[int, typer.Option(min=0, help="Worker processes that train and evaluate.")] = 1,
    workers_cpu: Annotated[int, typer.Option(min=0, help="Worker processes for validation and fingerprints.")] = 1,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of the API; kept for later starts.", show_default=False)] = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay until Ctrl-C, then stop the platform.")] = False,
) -> None:
    """Start the platform with its own PostgreSQL and broker, and wait until it is ready."""
    workers = {"gpu": workers_gpu, "cpu": workers_cpu}
    status = platform_up(data_dir, api_port=port, workers=workers, on_progress=_say, foreground=foreground)
    if foreground:
        return
    _show(status)
    if sys.stdout.isatty() and not invocation.as_data:
        note("Begin with: ringi setup ORGANISATION --admin NAME.")


@verbs.verb("down", "ringi down", "ringi down --data-dir /srv/ringi")
def down(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Stop the platform of a data folder; its data stays."""
    _show(platform_down(data_dir, on_progress=_say))


@verbs.verb("status", "ringi status", "ringi status --data-dir /srv/ringi --json")
def status(data_dir: DataDir = DEFAULT_DATA_DIR) -> None:
    """Show what runs; exit code 1 unless the platform is ready."""
    found = platform_status(data_dir)
    _show(found)
    if found.phase != "ready":
        raise typer.Exit(REFUSED)
