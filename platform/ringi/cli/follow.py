"""Watch an upload or a job: a live bar in a terminal, a line now and then in a log, nothing where a program reads the result."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from ringi.cli.client import RingiClient
from ringi.cli.connection import OnBytes
from ringi.cli.errors import INTERRUPTED
from ringi.cli.invocation import invocation
from ringi.cli.output import console, note
from ringi.jobs.schemas import OPEN, JobOut, JobState

LINE_EVERY_S = 10.0


@contextmanager
def uploading(what: str) -> Iterator[OnBytes]:
    """Show the bytes of an upload."""
    if invocation.as_data or not sys.stderr.isatty():
        yield lambda _sent, _total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda sent, total: bar.update(task, completed=sent, total=total)


def follow(client: RingiClient, job_id: UUID, what: str) -> JobOut:
    """Wait for a job with its progress shown. Ctrl-C ends the watching, not the job. Raises JobFailed."""
    try:
        if invocation.as_data:
            return client.wait(job_id)
        return _with_bar(client, job_id, what) if sys.stderr.isatty() else client.wait(job_id, _Lines(what).look)
    except KeyboardInterrupt:
        note(f"The job goes on. Follow it: ringi jobs wait {job_id}. Cancel it: ringi jobs cancel {job_id}.")
        raise typer.Exit(INTERRUPTED) from None


def _with_bar(client: RingiClient, job_id: UUID, what: str) -> JobOut:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[measured]}"), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True)) as bar:
        task: TaskID = bar.add_task(what, total=None, measured="")

        def look(job: JobOut) -> None:
            progress = job.progress
            total = progress.total if progress else None
            done = total if job.state is JobState.SUCCEEDED else progress.step if progress else None
            bar.update(task, description=f"{what} · {_phase(job)}", total=total, completed=done or 0, measured=measured(job))

        return client.wait(job_id, look)


class _Lines:
    """A line when the phase changes, and every ten seconds."""

    def __init__(self, what: str) -> None:
        self._what, self._last, self._at = what, "", 0.0

    def look(self, job: JobOut) -> None:
        phase = _phase(job)
        if phase != self._last or time.monotonic() - self._at > LINE_EVERY_S:
            self._last, self._at = phase, time.monotonic()
            note(" · ".join(part for part in (self._what, phase, measured(job)) if part))


def _phase(job: JobOut) -> str:
    if job.state is JobState.RUNNING and job.cancel_requested:
        return "stopping"
    attempt = f", attempt {job.attempt} of {job.max_attempts}" if job.attempt > 1 else ""
    if job.state is JobState.QUEUED and job.waiting_for is not None:
        return f"queued, waits for: {job.waiting_for.text}{attempt}"
    phase = job.progress.phase if job.state is JobState.RUNNING and job.progress else str(job.state)
    return f"{phase}{attempt}"


def measured(job: JobOut) -> str:
    """Step, loss, tokens/s, cost and time left; what is not measured is left out."""
    progress = job.progress
    if progress is None:
        return ""
    parts = [
        f"step {progress.step}/{progress.total if progress.total is not None else '?'}" if progress.step is not None else "",
        f"loss {progress.loss:.4f}" if progress.loss is not None else "",
        f"{progress.tokens_per_s:,.0f} tokens/s" if progress.tokens_per_s is not None else "",
        f"{progress.label_tokens:,} tokens learnt from" if progress.label_tokens is not None else "",
        f"{progress.cost:,.2f} {progress.currency} so far" if progress.cost is not None else "",
        f"{timedelta(seconds=round(progress.eta_s))} left" if progress.eta_s is not None and job.state is JobState.RUNNING else "",
    ]
    return "  ".join(part for part in parts if part)


def said_state(state: JobState, *, cancel_requested: bool) -> str:
    """A job's state in words; that it was asked to stop counts only as long as it has not."""
    return f"{state}, asked to stop" if cancel_requested and state in OPEN else state
