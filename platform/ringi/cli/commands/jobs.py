"""Jobs: list, look, follow, cancel."""

from typing import Annotated
from uuid import UUID

import typer
from rich.table import Table

from ringi.cli.asked import Asked
from ringi.cli.follow import follow, measured, said_state
from ringi.cli.invocation import Commands, connect
from ringi.cli.options import IfMatch, Limit
from ringi.cli.output import emit, emit_list, facts, table
from ringi.fleet.matching import GIB
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.schemas import NOT_OVER, JobOut, JobState

app = Commands("Jobs: what the workers do.")

JobId = Annotated[UUID, typer.Argument(metavar="JOB", help="The job's id.")]
_ID = "0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e"


@app.verb(
    "list",
    "ringi jobs list",
    "ringi jobs list --state failed --kind train",
    "ringi jobs list --filter 'created_at>=2026-11-01' --sort -finished_at",
)
def list_jobs(
    asked: Asked,
    state: Annotated[JobState | None, typer.Option(help="Only these.", show_default=False)] = None,
    kind: Annotated[JobKind | None, typer.Option(help="Only these.", show_default=False)] = None,
    limit: Limit = 50,
) -> None:
    """List jobs in sight."""
    columns = ["job", "kind", "state", "for", "progress or waiting for", "attempt", "error", "created"]
    with connect() as client:
        emit_list(
            client.jobs.all(state=state, kind=kind, **asked), limit=limit,
            render=lambda found: table(columns, [
                (one.id, one.kind, one.state, one.subject, one.waiting_for.text if one.waiting_for else measured(one), f"{one.attempt}/{one.max_attempts}", one.error.code if one.error else None,
                 one.created_at) for one in found
            ]),
        )  # fmt: skip


@app.verb("show", f"ringi jobs show {_ID}")
def show(job: JobId) -> None:
    """Show a job, its progress, and why it failed."""
    with connect() as client:
        found = client.jobs.get(job)
    emit(found, lambda: _drawn(found))


@app.verb("wait", f"ringi jobs wait {_ID}")
def wait(job: JobId) -> None:
    """Follow a job to its end; exit code 1 when it fails or is cancelled."""
    with connect() as client:
        ended = follow(client, job, "job")
    emit(ended, lambda: _drawn(ended))


@app.verb("prioritize", f"ringi jobs prioritize {_ID} 50", f"ringi jobs prioritize {_ID} -- -20")
def prioritize(
    job: JobId, priority: Annotated[int, typer.Argument(min=-100, max=100, help="Higher ones are taken first.")], if_match: IfMatch = None
) -> None:
    """Give an open job another place in its queue, before or behind those of other projects."""
    with connect() as client:
        asked = client.jobs.prioritize(job, priority, if_match=if_match)
    emit(asked, lambda: _drawn(asked))


@app.verb("cancel", f"ringi jobs cancel {_ID}")
def cancel(job: JobId, if_match: IfMatch = None) -> None:
    """Ask a job to stop; a running one stops at its next step."""
    with connect() as client:
        asked = client.jobs.cancel(job, if_match=if_match)
    emit(asked, lambda: _drawn(asked))


def _drawn(job: JobOut) -> Table:
    pairs: list[tuple[str, object]] = [
        ("job", job.id),
        ("kind", job.kind),
        ("for", job.subject),
        ("project", job.project),
        ("state", said_state(job.state, cancel_requested=job.cancel_requested)),
        ("waiting for", job.waiting_for.text if job.waiting_for else None),
        ("priority", job.priority),
        ("needs", _needs(job)),
        ("phase", job.progress.phase if job.progress and job.state in NOT_OVER else None),
        ("progress", measured(job)),
        ("attempt", f"{job.attempt} of {job.max_attempts}"),
        ("worker", job.lease_owner),
        ("started", job.started_at),
        ("finished", job.finished_at),
    ]
    if job.error is not None:
        pairs += [("error", f"{job.error.message} [{job.error.code}]"), ("next", job.error.next_step)]
    return facts(pairs)


def _needs(job: JobOut) -> str:
    need = job.requirements
    memory = f"{need.memory_bytes / GIB:.1f} GiB" if need.memory_bytes else None
    return ", ".join(str(part) for part in (need.queue, need.device, memory, *need.engines) if part)
