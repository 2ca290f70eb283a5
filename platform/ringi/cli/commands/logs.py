"""`ringi logs` and `ringi watch`: what jobs write, and how they stand, live."""

import json
import re
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.live import Live
from rich.table import Table

from ringi.cli.client import FIRST_PAUSE_S, PATIENCE_S, RingiClient, changed
from ringi.cli.errors import INTERRUPTED, AnswerNotUnderstood, ApiError, Unreachable, Usage
from ringi.cli.events import ServerEvent
from ringi.cli.follow import measured
from ringi.cli.invocation import Commands, connect, invocation
from ringi.cli.output import clean, console, table
from ringi.jobs.schemas import OPEN, JobOut, Level, LogLine
from ringi.kit.times import read_time

verbs = Commands()
_ID = "0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e"
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_POLL_S = 2.0


class BadSince(Usage):
    """A beginning that is neither an age nor a time."""

    code = "bad_since"

    def __init__(self, text: str) -> None:
        super().__init__(f"'{text[:60]}' is neither an age nor a time.", next_step="Write 90s, 10m, 2h, 1d, or 2026-11-22T09:30:00Z.")


def parse_since(text: str) -> datetime:
    """`10m` before now, or an RFC 3339 time (UTC where it names no offset)."""
    if age := re.fullmatch(r"([0-9]{1,6})([smhd])", text):
        return datetime.now(UTC) - timedelta(seconds=int(age[1]) * _UNITS[age[2]])
    try:
        return read_time(text).at
    except ValueError:
        raise BadSince(text) from None


@verbs.verb("logs", f"ringi logs {_ID}", f"ringi logs {_ID} -f --level warning", f"ringi logs {_ID} --since 10m --json")
def logs(
    job: Annotated[UUID, typer.Argument(metavar="JOB", help="The job's id.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what it writes, until it ends.")] = False,
    level: Annotated[Level, typer.Option(help="Lines from this level on.")] = Level.INFO,
    attempt: Annotated[int | None, typer.Option(min=1, help="Only this attempt.", show_default=False)] = None,
    since: Annotated[str | None, typer.Option(metavar="AGE", help="An age such as 10m or 2h, or a time.", show_default=False)] = None,
) -> None:
    """Show what a job's attempts wrote, oldest first. With --json one object a line."""
    begin = parse_since(since) if since else None
    with connect() as client:
        last: LogLine | None = None
        for last in client.jobs.lines(job, level=level, attempt=attempt, since=begin):  # the last one is where to go on
            _show(last)
        if not follow:
            return
        try:
            for line in following(client, job, level=level, last=str(last.id) if last else None):
                if (attempt is None or line.attempt == attempt) and (begin is None or line.at >= begin):
                    _show(line)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def following(client: RingiClient, job: UUID, *, level: Level, last: str | None) -> Iterator[LogLine]:
    """Lines behind `last` until the job ends: from its stream, and by looking where the server gives none."""
    answered, streams = time.monotonic(), True
    while True:
        try:
            if streams:
                for event in client.jobs.events(job, last=last, level=level):
                    answered = time.monotonic()
                    last = event.id if event and event.id else last
                    if event and event.kind == "log":
                        yield _line(event)
                    elif event and event.kind == "end":
                        return
            # Ended before the loop began, or refused: this says which.
            state = client.jobs.get(job).state
            for line in client.jobs.lines(job, level=level):
                if line.id > int(last or 0):
                    last = str(line.id)
                    yield line
            answered = time.monotonic()
            if state not in OPEN:
                return
        except (ApiError, AnswerNotUnderstood):
            if not streams:
                raise
            streams = False
        except Unreachable:
            if time.monotonic() - answered > PATIENCE_S:
                raise
        time.sleep(FIRST_PAUSE_S if streams else _POLL_S)


def _line(event: ServerEvent) -> LogLine:
    return LogLine.model_validate({"id": event.id, **{name: event.data[name] for name in ("attempt", "at", "level", "message")}})


def _show(line: LogLine) -> None:
    if invocation.as_data:
        sys.stdout.write(line.model_dump_json() + "\n")
    else:
        again = f" #{line.attempt}" if line.attempt > 1 else ""
        sys.stdout.write(clean(f"{line.at:%Y-%m-%d %H:%M:%S} {line.level.upper():<8}{again} {line.message}") + "\n")
    sys.stdout.flush()


@verbs.verb("watch", "ringi watch", "ringi watch --project support", "ringi watch --until-idle --json")
def watch(
    project: Annotated[str | None, typer.Option(help="Only the jobs of this project.", show_default=False)] = None,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End when no job is open.")] = False,
) -> None:
    """Show the jobs in sight as they change; Ctrl-C ends the watching. With --json one event a line."""
    with connect() as client:
        try:
            board = Board(client, project)
            if sys.stdout.isatty() and not invocation.as_data:
                with Live(console=console(), auto_refresh=False) as live:
                    board.run(lambda _event: live.update(board.drawn(), refresh=True), until_idle=until_idle)
            else:
                board.run(board.tell, until_idle=until_idle)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


class Board:
    """The open jobs in sight, and those that ended while one watched."""

    def __init__(self, client: RingiClient, project: str | None) -> None:
        self._client, self._project = client, project
        self.jobs: dict[str, JobOut] = {}

    def run(self, show: Any, *, until_idle: bool) -> None:
        """Follow until idle, or for ever; comes back to a server that restarts."""
        last: str | None = None
        answered, known = time.monotonic(), False
        while True:
            try:
                for event in self._client.jobs.follow(project=self._project, last=last):
                    answered = time.monotonic()
                    last = event.id if event and event.id else last
                    # The list is read once the stream is open, so nothing falls between the two.
                    if not known:
                        known = True
                        self._look()
                    if event is not None:
                        self._take(event)
                    show(event)
                    if until_idle and not any(job.state in OPEN for job in self.jobs.values()):
                        return
            except Unreachable:
                if time.monotonic() - answered > PATIENCE_S:
                    raise
            known = False
            time.sleep(FIRST_PAUSE_S)

    def _look(self) -> None:
        for state in sorted(OPEN):
            for job in self._client.jobs.all(state=state):
                if self._project is None or job.project == self._project:
                    self.jobs[str(job.id)] = job

    def _take(self, event: ServerEvent) -> None:
        if event.kind == "refused":
            raise ApiError(
                str(event.data["detail"]), code=str(event.data["code"]), status=int(event.data["status"]),
                next_step=str(event.data["next_step"]),
            )  # fmt: skip
        name = str(event.data["job"])
        known = self.jobs.get(name)
        self.jobs[name] = changed(known, event) if known else self._client.jobs.get(UUID(name))

    def tell(self, event: ServerEvent | None) -> None:
        """A line for what happened."""
        if event is None or (event.kind == "progress" and not invocation.as_data):
            return
        if invocation.as_data:
            sys.stdout.write(json.dumps({"event": event.kind, **event.data}, ensure_ascii=False) + "\n")
        else:
            job = self.jobs[str(event.data["job"])]
            sys.stdout.write(clean(f"{job.id} {job.kind} {job.subject}: {event.data['state']}, attempt {job.attempt}") + "\n")
        sys.stdout.flush()

    def drawn(self) -> Table:
        """Open jobs first, then the newest that ended."""
        shown = sorted(self.jobs.values(), key=lambda job: (job.state in OPEN, job.id), reverse=True)[:40]
        rows = [(job.id, job.kind, job.state, job.subject, measured(job), f"{job.attempt}/{job.max_attempts}") for job in shown]
        return table(["job", "kind", "state", "for", "progress", "attempt"], rows)
