"""Register, beat, stop; cordon, uncordon and drain; and who is there. Jobs are matched with workers in jobs/placement.py."""

from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, case, delete, func, or_, select, update
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.db.session import platform_transaction
from ringi.fleet.matching import Capability
from ringi.fleet.models import Worker
from ringi.fleet.schemas import Condition, Device, Wanted, WorkerFacts
from ringi.identity.models import Organization
from ringi.kit.actor import Actor
from ringi.kit.errors import Conflict, NotFound, RingiError
from ringi.web.preconditions import Match

# A worker that misses so many heartbeats is lost.
HEARTBEATS = 3


class WorkerShared(RingiError):
    """The worker serves other organisations too."""

    code, status = "worker_shared", 403

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Worker '{name}' serves every organisation of this deployment, so none of them may stop it for the others.",
            next_step="Ask the operator: SIGTERM to the worker's process ends it after its present job.",
        )


class WorkerNameTaken(Conflict):
    """Another process has registered under the name since."""

    code = "worker_name_taken"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Another process has registered as worker '{name}'.", next_step="Give every worker a name of its own: celery -n NAME@%h."
        )


class Seen(NamedTuple):
    """A worker and how it stands now."""

    worker: Worker
    condition: Condition


def register(session: Session, facts: WorkerFacts) -> Worker:
    """Enter or re-enter under the name; raises NotFound for an organisation that does not exist.

    A cordon stays. A drain has been obeyed by the process that ended, so its successor is cordoned: it must not end again and again.
    """
    organization_id = None
    if facts.organization is not None:
        organization_id = session.scalar(select(Organization.id).where(Organization.name == facts.organization))
        if organization_id is None:
            raise NotFound("organisation", facts.organization)
    worker = session.scalars(select(Worker).where(Worker.name == facts.name).with_for_update()).one_or_none()
    if worker is None:
        worker = Worker(name=facts.name, wanted=Wanted.ACTIVE)
        session.add(worker)
    for name, value in facts.model_dump(exclude={"name", "organization"}).items():
        setattr(worker, name, value)
    worker.organization_id, worker.job_id, worker.stopped_at = organization_id, None, None
    worker.wanted = Wanted.CORDONED if worker.wanted == Wanted.DRAINING else worker.wanted
    worker.started_at = worker.heartbeat_at = func.clock_timestamp()
    session.flush()  # the worker logs what was measured and what is wanted
    return worker


def beat(session: Session, name: str, *, owner: str, job_id: UUID | None) -> Wanted | None:
    """Say that the process lives and what it does; returns what is wanted of it, None where it is not registered. Raises WorkerNameTaken."""
    mine = update(Worker).where(Worker.name == name, Worker.owner == owner)
    wanted = session.scalar(mine.values(heartbeat_at=func.clock_timestamp(), job_id=job_id, stopped_at=None).returning(Worker.wanted))
    if wanted is None and session.scalar(select(Worker.id).where(Worker.name == name)) is not None:
        raise WorkerNameTaken(name)
    return Wanted(wanted) if wanted is not None else None


def stop(session: Session, name: str, *, owner: str) -> None:
    """The process ends of its own accord."""
    session.execute(update(Worker).where(Worker.name == name, Worker.owner == owner).values(stopped_at=func.clock_timestamp(), job_id=None))


def at_work(session: Session, name: str, *, owner: str) -> Worker | None:
    """The worker, if this process holds its name and may take jobs."""
    held = select(Worker).where(Worker.name == name, Worker.owner == owner, Worker.wanted == Wanted.ACTIVE)
    return session.scalars(held.execution_options(populate_existing=True)).one_or_none()


def _serving(organization_id: UUID | None) -> Select[Worker, str]:
    lost = Worker.heartbeat_at < func.clock_timestamp() - _silence()
    condition = case((Worker.stopped_at.is_not(None), Condition.STOPPED.value), (lost, Condition.LOST.value), else_=Worker.wanted)
    return select(Worker, condition).where(or_(Worker.organization_id.is_(None), Worker.organization_id == organization_id))


def seen(session: Session, actor: Actor) -> list[Seen]:
    """Every worker that serves the caller's organisation, by name."""
    return [
        Seen(worker, Condition(condition)) for worker, condition in session.execute(_serving(actor.organization_id).order_by(Worker.name))
    ]


def find(session: Session, actor: Actor, name: str) -> Seen:
    """One of them."""
    row = session.execute(_serving(actor.organization_id).where(Worker.name == name)).one_or_none()
    if row is None:
        raise NotFound("worker", name)
    return Seen(row[0], Condition(row[1]))


def capabilities(session: Session, organization_id: UUID) -> list[Capability]:
    """What matching knows of the workers that serve an organisation."""
    return [
        Capability(
            name=one.name, queues=frozenset(one.queues), device=Device(one.device), memory_bytes=one.memory_bytes,
            engines=frozenset(one.engines), organization_id=one.organization_id, condition=Condition(state), busy=one.job_id is not None,
        )
        for one, state in session.execute(_serving(organization_id))
    ]  # fmt: skip


def count_active(session: Session, *, queue: str) -> int:
    """How many workers of a queue take jobs now, whomever they serve."""
    lost = Worker.heartbeat_at < func.clock_timestamp() - _silence()
    active = select(func.count()).where(Worker.wanted == Wanted.ACTIVE, Worker.stopped_at.is_(None), ~lost, Worker.queues.contains([queue]))
    return session.scalar(active) or 0


def _silence() -> ColumnElement[Any]:
    return func.make_interval(0, 0, 0, 0, 0, 0, HEARTBEATS * Worker.heartbeat_s)


_ACTIONS = {
    Wanted.ACTIVE: AuditAction.WORKER_UNCORDON,
    Wanted.CORDONED: AuditAction.WORKER_CORDON,
    Wanted.DRAINING: AuditAction.WORKER_DRAIN,
}


def _count_organizations() -> int:
    with platform_transaction() as session:
        return session.scalar(select(func.count()).select_from(Organization)) or 0


def want(session: Session, actor: Actor, *, name: str, wanted: Wanted, reason: str, match: Match) -> Seen:
    """Cordon, drain or give back a worker. Raises PreconditionFailed, and WorkerShared where it serves organisations that are not the caller's."""
    worker = find(session, actor, name).worker
    if worker.organization_id is None and _count_organizations() > 1:
        raise WorkerShared(name)
    session.refresh(worker, with_for_update=True)
    match.require(worker.row_version)
    worker.wanted, worker.reason = wanted, reason
    audit.record(session, actor, _ACTIONS[wanted], object_type="worker", object_id=worker.id, details={"worker": name}, payload=reason)
    session.flush()  # the answer shows how it stands now
    return find(session, actor, name)


def purge(session: Session, *, silent_for: timedelta) -> int:
    """Forget workers that stopped or fell silent longer ago than `silent_for`; returns how many. Pods have new names every time."""
    # unscoped: the platform looks after every worker.
    # Not what people decided: a machine that was cordoned and comes back after weeks takes no jobs.
    old = delete(Worker).where(Worker.heartbeat_at < func.clock_timestamp() - silent_for, Worker.wanted == Wanted.ACTIVE)
    return len(session.scalars(old.returning(Worker.id)).all())
