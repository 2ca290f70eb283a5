"""Which worker may do which job, and what a job waits for when none may. Pure: the claim in jobs/placement.py asks the database the same."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from pydantic import Field

from ringi.fleet.schemas import Condition, Device
from ringi.jobs.contracts.kinds import Queue
from ringi.jobs.contracts.parts import Part
from ringi.web.schemas import Schema

# Attempts of one job that a worker may lose before it is given to another.
LOSSES_ALLOWED = 2
GIB = 2**30


class Requirements(Part):
    """What a job needs of its worker. `memory_bytes`: of the device (of the machine where the device is a CPU); None where it is not known."""

    queue: Queue
    device: Device | None = None
    memory_bytes: int | None = Field(default=None, ge=1)
    engines: tuple[str, ...] = ()


class WaitingFor(Schema):
    """What a queued job waits for: `no_worker`, `device`, `memory`, `engine`, `other_worker`, `free_worker` or `retry`, and in words."""

    code: str
    text: str


@dataclass(frozen=True)
class Capability:
    """What matching knows of a worker. `memory_bytes` is the smaller of what it claims and what it measured."""

    name: str
    queues: frozenset[str]
    device: Device
    memory_bytes: int | None
    engines: frozenset[str]
    organization_id: UUID | None
    condition: Condition
    busy: bool


def why_waiting(
    need: Requirements, workers: Sequence[Capability], *, organization_id: UUID, losses: dict[str, int] | None = None
) -> WaitingFor | None:
    """The first thing that no worker has; None where a free worker fits and the job is only waiting for its turn."""
    lost = losses or {}
    near = [one for one in workers if need.queue in one.queues and one.organization_id in {None, organization_id}]
    active = [one for one in near if one.condition is Condition.ACTIVE]
    if not active:
        others = [f"{count} {state}" for state in Condition if (count := sum(one.condition is state for one in near))]
        return WaitingFor(code="no_worker", text=f"no active {need.queue} worker" + (f" ({', '.join(others)})" if others else ""))
    steps: tuple[tuple[str, Callable[[Capability], bool], Callable[[list[Capability]], str]], ...] = (
        ("device", lambda one: need.device in {None, one.device}, lambda left: _device(need, left)),
        ("memory", lambda one: (one.memory_bytes or 0) >= (need.memory_bytes or 0), lambda left: _memory(need, left)),
        ("engine", lambda one: set(need.engines) <= one.engines, lambda left: _engines(need, left)),
        ("other_worker", lambda one: lost.get(one.name, 0) < LOSSES_ALLOWED, _other),
        ("free_worker", lambda one: not one.busy, lambda left: f"a free worker: {_all(left)} busy"),
    )
    for code, fits, text in steps:
        left = [one for one in active if fits(one)]
        if not left:
            return WaitingFor(code=code, text=text(active))
        active = left
    return None


def fits(need: Requirements, worker: Capability, *, organization_id: UUID, losses: dict[str, int] | None = None) -> bool:
    """Whether the worker may take the job once it is free."""
    waiting = why_waiting(need, [worker], organization_id=organization_id, losses=losses)
    return waiting is None or waiting.code == "free_worker"


def _device(need: Requirements, workers: list[Capability]) -> str:
    return f"needs a device '{need.device}', the active {need.queue} workers have {_listed(one.device for one in workers)}"


def _memory(need: Requirements, workers: list[Capability]) -> str:
    largest = max((one.memory_bytes or 0) for one in workers)
    return f"needs {(need.memory_bytes or 0) / GIB:.1f} GiB, the largest active worker has {largest / GIB:.1f}"


def _engines(need: Requirements, workers: list[Capability]) -> str:
    missing = sorted(set(need.engines) - frozenset.intersection(*(one.engines for one in workers)))
    return f"needs {_listed(need.engines)} together; no active worker has all of it (missing: {_listed(missing)})"


def _other(workers: list[Capability]) -> str:
    return f"a worker other than {_listed(one.name for one in workers)}, where it was lost or found too little memory"


def _all(workers: list[Capability]) -> str:
    return "the one that fits is" if len(workers) == 1 else f"all {len(workers)} that fit are"


def _listed(words: Iterable[object]) -> str:
    return ", ".join(sorted({str(one) for one in words}))
