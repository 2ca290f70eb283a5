"""Where a job goes: what it needs, which queued job a worker takes next, what a waiting one waits for, and how many wait for whom.

The next job for a worker is the best one that it can do: by priority, then by fair share (the project with the fewest jobs running on the
worker's queues, then with the least time worked there in the last hour), then by age.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, case, cast, func, literal, or_, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session, aliased

from ringi.fleet import service as fleet
from ringi.fleet.matching import LOSSES_ALLOWED, Capability, Requirements, WaitingFor, fits, why_waiting
from ringi.fleet.models import Worker
from ringi.fleet.schemas import Device
from ringi.jobs.contracts.adapters import InspectPayload
from ringi.jobs.contracts.evaluation import EvaluatePayload
from ringi.jobs.contracts.kinds import CONTRACTS, JobKind
from ringi.jobs.contracts.parts import BaseRef, Contract
from ringi.jobs.contracts.searches import SearchPayload
from ringi.jobs.contracts.sweeps import SweepPayload
from ringi.jobs.contracts.training import TrainPayload
from ringi.jobs.models import Job
from ringi.jobs.schemas import DemandOut, JobState, NeedOut, Placement

OUT_OF_MEMORY = "job_out_of_memory"
_SHARE_WINDOW = timedelta(hours=1)
# Claims take turns, so that two at once see each other's job in the shares. The number is any that nothing else locks.
_CLAIMING = 7_034_182_256
_ENGINES = ("peft", "transformers")
# What tasks of lm-evaluation-harness run through.
_HARNESS = "lm_eval"


def requirements(kind: JobKind, payload: Contract, wish: Placement | None) -> Requirements:
    """What a job needs: by its kind and its payload, and at least what its user asked for."""
    bases: tuple[BaseRef, ...] = ()
    if isinstance(payload, TrainPayload | SearchPayload | InspectPayload | SweepPayload):
        bases = (payload.base,)
    elif isinstance(payload, EvaluatePayload):
        bases = (payload.candidate.base, payload.baseline.base)
    floor = max((_least_memory(base) for base in bases), default=0)
    asked = (wish.memory_bytes or 0) if wish else 0
    harness = (_HARNESS,) if isinstance(payload, SweepPayload) and any(task.harness is not None for task in payload.tasks) else ()
    return Requirements(
        queue=CONTRACTS[kind].queue, device=wish.device if wish else None, memory_bytes=max(floor, asked) or None,
        engines=(*harness, *_ENGINES) if bases else (),
    )  # fmt: skip


def _least_memory(base: BaseRef) -> int:
    """Bytes below which the weights alone do not fit: half of what is stored, because float32 is loaded as bf16 where a device can."""
    return sum(file.size for file in base.files if file.path.endswith(".safetensors")) // 2


def next_for(session: Session, worker: Worker) -> UUID | None:
    """The queued job that this worker should take now, locked until the transaction ends; None where nothing is ready for it."""
    session.execute(select(func.pg_advisory_xact_lock(_CLAIMING)))
    # The statement's time and not the clock's: the plan may compute the shares once a row, and they must be the same for every row.
    now = func.statement_timestamp()
    ran = aliased(Job)
    who = func.coalesce(ran.project_id, ran.organization_id)
    worked = func.extract("epoch", func.coalesce(ran.finished_at, now) - func.greatest(ran.started_at, now - _SHARE_WINDOW))
    # unscoped: the platform shares its workers between all organisations.
    shares = (
        select(who.label("who"), func.count().filter(ran.state == JobState.RUNNING).label("running"), func.sum(worked).label("worked"))
        .where(ran.queue.in_(worker.queues), ran.started_at.is_not(None))
        .where(or_(ran.state == JobState.RUNNING, ran.finished_at > now - _SHARE_WINDOW))
        .group_by(who)
        .subquery()
    )
    ready = (
        select(Job.id)
        .outerjoin(shares, shares.c.who == func.coalesce(Job.project_id, Job.organization_id))
        .where(Job.state == JobState.QUEUED, Job.not_before <= now, Job.cancel_requested_at.is_(None), Job.queue.in_(worker.queues))
        .where(*_can_do(Device(worker.device), worker.memory_bytes))
        .where(func.coalesce(Job.requirements["engines"], literal([], JSONB)).op("<@")(literal(worker.engines, JSONB)))
        .where(func.coalesce(cast(Job.losses[worker.name].astext, BigInteger), 0) < LOSSES_ALLOWED)
    )
    if worker.organization_id is not None:
        ready = ready.where(Job.organization_id == worker.organization_id)
    fair = (func.coalesce(shares.c.running, 0), func.coalesce(shares.c.worked, 0))
    return session.scalar(ready.order_by(Job.priority.desc(), *fair, Job.id).limit(1).with_for_update(of=Job, skip_locked=True))


def _can_do(device: Device | None, memory_bytes: int | None) -> list[ColumnElement[bool]]:
    needs = func.coalesce(cast(Job.requirements["memory_bytes"].astext, BigInteger), 0)
    found = [needs <= (memory_bytes or 0)]
    if device is not None:
        found.append(func.coalesce(Job.requirements["device"].astext, device.value) == device.value)
    return found


def move_after_out_of_memory(session: Session, job: Job) -> bool:
    """The job found too little memory on its worker: it needs more than that one has. Returns whether another active worker has more."""
    name = _worker_of(job)
    known = {one.name: one for one in fleet.capabilities(session, job.organization_id)}
    if name not in known:
        return False
    need = needs_of(job)
    least = max(need.memory_bytes or 0, (known[name].memory_bytes or 0) + 1)
    need = need.model_copy(update={"memory_bytes": least})
    job.requirements, job.losses = need.model_dump(mode="json", exclude_none=True), {**job.losses, name: LOSSES_ALLOWED}
    return _another(need, job, [one for one in known.values() if one.name != name])


def note_loss(session: Session, job: Job) -> None:
    """The job's worker fell silent. The second time it happens on one worker, and another one fits, the job is kept away from the first."""
    name = _worker_of(job)
    others = [one for one in fleet.capabilities(session, job.organization_id) if one.name != name]
    count = job.losses.get(name, 0) + 1
    if not _another(needs_of(job), job, others):
        count = min(count, LOSSES_ALLOWED - 1)
    job.losses = {**job.losses, name: count}


def _another(need: Requirements, job: Job, others: Iterable[Capability]) -> bool:
    return any(fits(need, one, organization_id=job.organization_id, losses=job.losses) for one in others)


def _worker_of(job: Job) -> str:
    return (job.lease_owner or "").partition("/")[0]


def needs_of(job: Job) -> Requirements:
    """What a job needs of its worker; one of before there were requirements, its queue alone."""
    return Requirements.model_validate({"queue": job.queue, **job.requirements})


def waiting_for(session: Session, jobs: Sequence[Job]) -> dict[UUID, WaitingFor]:
    """What the queued ones among these jobs of one organisation wait for; one that only waits for its turn is left out."""
    queued = [job for job in jobs if job.state == JobState.QUEUED]
    if not queued:
        return {}
    workers = fleet.capabilities(session, queued[0].organization_id)
    now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    found: dict[UUID, WaitingFor] = {}
    for job in queued:
        why = why_waiting(needs_of(job), workers, organization_id=job.organization_id, losses=job.losses)
        if job.not_before > now and (why is None or why.code == "free_worker"):
            why = WaitingFor(code="retry", text=f"its next attempt at {job.not_before.astimezone(UTC):%H:%M:%S} UTC")
        if why is not None:
            found[job.id] = why
    return found


def demand(session: Session, *, queue: str, device: Device | None = None, memory_bytes: int | None = None) -> DemandOut:
    """How much there is to do on a queue, of all organisations; with `device` and `memory_bytes` only what a worker like that could do."""
    # unscoped: counts for whoever starts and stops the workers of this deployment; nothing of the jobs themselves.
    due = case((Job.not_before <= func.clock_timestamp(), 1), else_=0)
    open_jobs = select(
        Job.state, Job.requirements, func.count(), func.sum(due), func.extract("epoch", func.clock_timestamp() - func.min(Job.created_at))
    ).where(Job.queue == queue, Job.state.in_([JobState.QUEUED, JobState.RUNNING]))
    if device is not None or memory_bytes is not None:
        open_jobs = open_jobs.where(*_can_do(device, memory_bytes if memory_bytes is not None else 2**62))
    needs: dict[str, NeedOut] = {}
    longest = 0.0
    for state, required, count, ready, age_s in session.execute(open_jobs.group_by(Job.state, Job.requirements)):
        need = Requirements.model_validate({"queue": queue, **required})
        entry = needs.setdefault(need.model_dump_json(), NeedOut(requirements=need, queued=0, ready=0, running=0))
        if state == JobState.QUEUED:
            entry.queued, entry.ready, longest = entry.queued + count, entry.ready + ready, max(longest, float(age_s))
        else:
            entry.running += count
    found = list(needs.values())
    running, ready_now = sum(one.running for one in found), sum(one.ready for one in found)
    return DemandOut(
        queue=queue, queued=sum(one.queued for one in found), ready=ready_now, running=running, wanted=running + ready_now,
        active_workers=fleet.count_active(session, queue=queue), oldest_queued_s=longest, needs=found,
    )  # fmt: skip
