"""Workers: list, look, cordon, drain."""

from typing import Annotated

import typer
from rich.table import Table

from ringi.cli.invocation import Commands, connect
from ringi.cli.options import IfMatch, Reason
from ringi.cli.output import emit, facts, table
from ringi.fleet.matching import GIB
from ringi.fleet.schemas import Device, WorkerOut
from ringi.jobs.contracts.kinds import Queue
from ringi.jobs.schemas import DemandOut

app = Commands("Workers: who does the jobs.")

Name = Annotated[str, typer.Argument(metavar="WORKER", help="The worker's name, such as gpu1@host.")]


@app.verb("list", "ringi workers list")
def list_workers() -> None:
    """List the workers and how they stand."""
    columns = ["worker", "condition", "queues", "device", "memory", "does", "heard of"]
    with connect() as client:
        found = client.workers.all()
    rows = [
        (one.name, one.condition, one.queues, f"{one.device} ({one.device_name})", _gib(one.memory_bytes), one.job_id, one.heartbeat_at)
        for one in found
    ]
    emit(found, lambda: table(columns, rows) if rows else "no worker has registered")


@app.verb("show", "ringi workers show gpu1@host")
def show(worker: Name) -> None:
    """Show a worker: what it has, what it does, and when it was last heard of."""
    with connect() as client:
        found = client.workers.get(worker)
    emit(found, lambda: _drawn(found))


@app.verb("cordon", 'ringi workers cordon gpu1@host --reason "the driver is updated tonight"')
def cordon(worker: Name, reason: Reason, if_match: IfMatch = None) -> None:
    """Let a worker take no more jobs; it finishes the one it has."""
    with connect() as client:
        found = client.workers.cordon(worker, reason=reason, if_match=if_match)
    emit(found, lambda: _drawn(found))


@app.verb("uncordon", 'ringi workers uncordon gpu1@host --reason "the driver is updated"')
def uncordon(worker: Name, reason: Reason, if_match: IfMatch = None) -> None:
    """Let a worker take jobs again."""
    with connect() as client:
        found = client.workers.uncordon(worker, reason=reason, if_match=if_match)
    emit(found, lambda: _drawn(found))


@app.verb("drain", 'ringi workers drain gpu1@host --reason "this machine is given back"')
def drain(worker: Name, reason: Reason, if_match: IfMatch = None) -> None:
    """Let a worker finish the job it has, take no other, and end."""
    with connect() as client:
        found = client.workers.drain(worker, reason=reason, if_match=if_match)
    emit(found, lambda: _drawn(found))


@app.verb("demand", "ringi workers demand gpu", "ringi workers demand gpu --device cuda --memory-gib 24")
def demand(
    queue: Annotated[Queue, typer.Argument(help="The queue.")],
    device: Annotated[Device | None, typer.Option(help="Only jobs that a worker with this device could do.", show_default=False)] = None,
    memory_gib: Annotated[
        float | None, typer.Option(min=0.1, help="Only jobs that need no more memory, in GiB.", show_default=False)
    ] = None,
) -> None:
    """Show how many workers a queue could keep busy: what an autoscaler reads."""
    with connect() as client:
        found = client.workers.demand(queue, device=device, memory_bytes=int(memory_gib * GIB) if memory_gib else None)
    emit(found, lambda: _asked(found))


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / GIB:.1f} GiB"


def _asked(found: DemandOut) -> Table:
    rows = [(need.requirements.device or "any", _gib(need.requirements.memory_bytes) if need.requirements.memory_bytes else "any",
             need.requirements.engines, need.ready, need.queued, need.running) for need in found.needs]  # fmt: skip
    title = f"{found.queue}: {found.wanted} wanted, {found.active_workers} active, the oldest waits for {found.oldest_queued_s:.0f} s"
    return table(["device", "memory", "engines", "ready", "queued", "running"], rows, title=title)


def _drawn(worker: WorkerOut) -> Table:
    return facts(
        [
            ("worker", worker.name),
            ("condition", worker.condition),
            ("reason", worker.reason),
            ("serves", "every organisation" if worker.shared else "this organisation alone"),
            ("queues", worker.queues),
            ("device", f"{worker.device} ({worker.device_name})"),
            ("memory", f"{_gib(worker.memory_bytes)} (claimed {_gib(worker.claimed_bytes)}, measured {_gib(worker.measured_bytes)})"),
            ("engines", worker.engines),
            ("versions", [f"{name} {version}" for name, version in sorted(worker.versions.items())]),
            ("does", worker.job_id),
            ("process", worker.owner),
            ("started", worker.started_at),
            ("heard of", worker.heartbeat_at),
        ]
    )
