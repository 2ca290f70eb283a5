"""`@job(kind)`: claim -> heartbeat -> work -> finish or fail. The only try/except around a job's work.

No transaction spans the work: claim, heartbeat, checkpoint and finish are short ones of their own. Whatever a worker reports after it
lost the lease is refused by the database, so a job that two workers touched ends once.
"""

import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from ringi.db.session import transaction
from ringi.jobs import log as job_log
from ringi.jobs import pausing
from ringi.jobs import service as jobs
from ringi.jobs.contracts.kinds import CONTRACTS, JobKind
from ringi.jobs.log import Line
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState, Stop
from ringi.jobs.service import LeaseLost
from ringi.kit.errors import RingiError
from ringi.observe import work
from ringi.settings import get_settings
from ringi_workers.failures import OutOfMemory, TimeLimitExceeded, WorkFailed, WorkPaused, ran_out_of_memory
from ringi_workers.following import JobSink
from ringi_workers.joblog import HELD_LINES, JobLog, own_secrets
from ringi_workers.tracking import RunStatus
from ringi_workers.workspace import Workspace

log = logging.getLogger("ringi.worker")
Work = Callable[[Any, Workspace, JobSink], Any]
Finish = Callable[[Session, Job, Any], object]
Failed = Callable[[Session, Job], None]


@dataclass(frozen=True)
class Handler:
    """What a job kind does, and what its success and its final failure mean to the platform."""

    work: Work
    finish: Finish
    failed: Failed | None


# What passes when the database is back.
_DATABASE_AWAY = (OperationalError, InterfaceError, PoolTimeout)
# Lines between two looks at how many the job's log holds.
_TRIM_EVERY = 1000
_HANDLERS: dict[JobKind, Handler] = {}
_worker_name = "worker"


def set_worker_name(name: str) -> None:
    """The Celery name of this process; with the process id it is the owner of a lease."""
    global _worker_name  # noqa: PLW0603  # known only once the worker has read its command line
    _worker_name = name


def lease_owner() -> str:
    """Who holds the leases of this process."""
    return f"{_worker_name}/{platform.node()}/{os.getpid()}"


def job(kind: JobKind, *, finish: Finish, failed: Failed | None = None) -> Callable[[Work], Work]:
    """Declare the work of a job kind; `finish` runs in the transaction that ends the job, `failed` in the one that gives it up."""

    def declare(work: Work) -> Work:
        _HANDLERS[kind] = Handler(work, finish, failed)
        return work

    return declare


def run(job_id: UUID) -> None:
    """Work on this very job, if it can be claimed."""
    with transaction() as session:
        claimed = jobs.claim(session, job_id, owner=lease_owner(), lease_s=get_settings().lease_s)
    if claimed is not None:
        work_on(claimed)


def work_on(claimed: Job) -> None:
    """One attempt of a job that this process has claimed."""
    kind = JobKind(claimed.kind)
    log.info("job %s: %s, attempt %d", claimed.id, kind, claimed.attempt)
    with _watched(claimed), Lease(claimed, time_limit_s=CONTRACTS[kind].time_limit_s) as lease:
        outcome = _attempt(kind, lease)
        if isinstance(outcome, RingiError) and not isinstance(outcome, WorkPaused) and not lease.cancel_requested:
            # Here, while the job's log still takes lines: a job that is tried again and succeeds says nowhere else why it had to be.
            log.warning("attempt %d ended with: %s [%s]", claimed.attempt, outcome.message, outcome.code)
        # While the lease is kept, because a slow tracking server may take as long as a lease lasts.
        lease.sink.close(_run_status(outcome, lease))
        _settle(kind, outcome, lease)


def _watched(claimed: Job) -> AbstractContextManager[None]:
    return work.attempt(
        job_id=claimed.id, kind=claimed.kind, queue=claimed.queue, number=claimed.attempt, organization=claimed.organization_id,
        created_at=claimed.created_at, started_at=claimed.started_at, traceparent=claimed.traceparent, request_id=claimed.request_id,
    )  # fmt: skip


def _attempt(kind: JobKind, lease: "Lease") -> Any:
    """The result, or the error that the attempt ended with."""
    try:
        payload = CONTRACTS[kind].payload.model_validate(lease.job.payload)
        with Workspace(lease.job, lease.owner) as workspace:
            return _HANDLERS[kind].work(payload, workspace, lease.sink)
    except RingiError as error:
        return error
    except MemoryError as error:
        return OutOfMemory(f"The worker ran out of memory: {error}", next_step="Use a smaller batch or a larger device.")
    except Exception as error:
        if ran_out_of_memory(error):
            return OutOfMemory(f"The device ran out of memory: {error}", next_step="Use a smaller batch or a larger device.")
        log.exception("job %s failed", lease.job.id)
        return WorkFailed(error)


def _run_status(outcome: Any, lease: "Lease") -> RunStatus:
    if not isinstance(outcome, RingiError):
        return "FINISHED"
    return "KILLED" if lease.cancel_requested or isinstance(outcome, WorkPaused) else "FAILED"


def _settle(kind: JobKind, outcome: Any, lease: "Lease") -> None:
    """Tell the database how the attempt ended, trying for as long as a lost database could come back."""
    deadline = time.monotonic() + 10 * get_settings().lease_s
    while True:
        try:
            _report(kind, outcome, lease)
        except LeaseLost as lost:
            log.warning("%s", lost)
            work.ended("lost")
        except _DATABASE_AWAY:
            if time.monotonic() < deadline:
                log.warning("job %s: the database is away, reporting again", lease.job.id)
                lease.wait_for_heartbeat()
                continue
            raise
        return


def _report(kind: JobKind, outcome: Any, lease: "Lease") -> None:
    if not isinstance(outcome, RingiError):
        refusal = _finish(kind, outcome, lease)
        if refusal is None:
            return
        outcome = refusal
    with lease.reporting() as session:
        if lease.cancel_requested:
            jobs.cancelled(session, lease.job.id, owner=lease.owner, attempt=lease.job.attempt)
            log.info("job %s: cancelled", lease.job.id)
            work.ended("cancelled")
        elif isinstance(outcome, WorkPaused):
            pausing.paused(session, lease.job.id, owner=lease.owner, attempt=lease.job.attempt)
            log.info("job %s: paused", lease.job.id)
            work.ended("paused")
        else:
            _fail(session, kind, lease.explained(outcome), lease)


def _finish(kind: JobKind, result: Any, lease: "Lease") -> RingiError | None:
    """End the job and keep its result; where the platform refuses or cannot keep it, nothing of it is kept, and the reason is returned."""
    try:
        with lease.reporting() as session:
            done = jobs.finish(session, lease.job.id, owner=lease.owner, attempt=lease.job.attempt, result=result)
            _HANDLERS[kind].finish(session, done, result)
    except (LeaseLost, *_DATABASE_AWAY):
        raise
    except RingiError as refusal:
        return refusal
    except Exception as error:
        log.exception("job %s: its result could not be kept", lease.job.id)
        return WorkFailed(error)
    log.info("job %s: succeeded", lease.job.id)
    work.ended("succeeded")
    return None


def _fail(session: Session, kind: JobKind, error: RingiError, lease: "Lease") -> None:
    failed = jobs.fail(session, lease.job.id, owner=lease.owner, attempt=lease.job.attempt, error=error, secrets=own_secrets())
    log.warning("job %s: %s (%s)", lease.job.id, failed.state, error)
    work.ended(failed.state)
    handler = _HANDLERS.get(kind)
    if failed.state != JobState.FAILED or handler is None or handler.failed is None:
        return
    try:
        with session.begin_nested():
            handler.failed(session, failed)
    except _DATABASE_AWAY:
        raise
    except Exception:
        # The job has failed either way; it must not run for ever because its domain could not take note.
        log.exception("job %s: its failure could not be noted", lease.job.id)


class Lease:
    """Keeps a claimed job alive from a thread of its own, carries progress with each heartbeat, and learns of cancellation."""

    def __init__(self, claimed: Job, *, time_limit_s: int) -> None:
        self.job = claimed
        self.owner = lease_owner()
        self.sink = JobSink(claimed, self._ended)
        self.log = JobLog()
        self.cancel_requested = False
        self._lost = False
        self._limit_s = time_limit_s
        self._begun = time.monotonic()
        self._stop = threading.Event()
        self._renewed = threading.Event()
        self._thread = threading.Thread(target=copy_context().run, args=(self._beat,), name=f"heartbeat-{claimed.id}", daemon=True)

    def __enter__(self) -> Self:
        self.log.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.log.__exit__()

    @contextmanager
    def reporting(self) -> Iterator[Session]:
        """The transaction that ends the attempt; first it takes all lines that are still here, the last of them above all. Raises LeaseLost."""
        with self.log.handing_over(HELD_LINES + 1) as lines, transaction() as session:
            if lines:
                jobs.heartbeat(
                    session, self.job.id, owner=self.owner, attempt=self.job.attempt, lease_s=get_settings().lease_s, progress=None
                )
                self._write(session, lines)
            yield session

    def _write(self, session: Session, lines: list[Line]) -> None:
        job_log.write(session, self.job, lines, secrets=own_secrets())
        # Now and then, and at the first lines of an attempt, because the attempts before it wrote too.
        if lines and (lines[0].number == 1 or lines[0].number // _TRIM_EVERY != lines[-1].number // _TRIM_EVERY):
            job_log.trim(session, self.job.id)

    def wait_for_heartbeat(self) -> None:
        """Return once the database has taken a heartbeat, at the latest after the time of one."""
        self._renewed.clear()
        self._renewed.wait(get_settings().heartbeat_s)

    def explained(self, error: RingiError) -> RingiError:
        """The error to store: work that was stopped for its time limit says so."""
        return TimeLimitExceeded(self._limit_s) if self._overdue() else error

    def _overdue(self, grace_s: float = 0.0) -> bool:
        return time.monotonic() - self._begun > self._limit_s + grace_s

    def _ended(self) -> bool:
        return self.cancel_requested or self._lost or self._overdue()

    def _beat(self) -> None:
        interval = min(get_settings().heartbeat_s, 1.0)
        while not self._stop.wait(interval) and not self._lost:
            try:
                # Work that hangs cannot stop by itself, and a lease without an end would keep its job running for ever.
                self._give_up() if self._overdue(grace_s=get_settings().lease_s) else self._renew()
            except LeaseLost:
                self._lost = True
            except SQLAlchemyError as error:
                # One heartbeat missed; the lease outlives two, so a database restart does not start the job twice.
                log.warning("job %s: no heartbeat: %s", self.job.id, " ".join(str(error).split())[:300])

    def _renew(self) -> None:
        with self.log.handing_over() as lines, transaction() as session:
            asked = jobs.heartbeat(
                session,
                self.job.id,
                owner=self.owner,
                attempt=self.job.attempt,
                lease_s=get_settings().lease_s,
                progress=self.sink.latest,
            )
            self.cancel_requested, self.sink.pause_requested = asked is Stop.CANCEL, asked is Stop.PAUSE
            self._write(session, lines)
        self._renewed.set()

    def _give_up(self) -> None:
        with self.reporting() as session:
            _fail(session, JobKind(self.job.kind), TimeLimitExceeded(self._limit_s), self)
        self._lost = True
