"""`@job(kind)`: claim -> heartbeat -> work -> finish or fail. The only try/except around a job's work.

No transaction spans the work: claim, heartbeat, checkpoint and finish are short ones of their own. Whatever a worker reports after it
lost the lease is refused by the database, so a job that two workers touched ends once.
"""

import logging
import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from ringi.db.session import transaction
from ringi.jobs import service as jobs
from ringi.jobs.contracts import CONTRACTS, JobKind
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.jobs.service import LeaseLost
from ringi.kit.errors import RingiError
from ringi.settings import get_settings
from ringi_workers.following import JobSink
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


_HANDLERS: dict[JobKind, Handler] = {}
_worker_name = "worker"


class WorkFailed(RingiError):
    """The work raised what nobody foresaw; another try may end otherwise."""

    code, status, retryable = "job_work_failed", 500, True


class OutOfMemory(RingiError):
    """The device has no room for the work; the same work again would need the same room."""

    code, status = "job_out_of_memory", 409


class TimeLimitExceeded(RingiError):
    """The job ran longer than its kind may."""

    code, status = "job_time_limit", 409

    def __init__(self, limit_s: int) -> None:
        super().__init__(f"The job ran longer than its limit of {limit_s} s.", next_step="Make the work smaller, then start it again.")


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
    """Work on the job if it can be claimed; a nudge for a job that is gone, taken or not due is dropped."""
    settings = get_settings()
    with transaction() as session:
        claimed = jobs.claim(session, job_id, owner=lease_owner(), lease_s=settings.lease_s)
    if claimed is None:
        log.info("job %s: nothing to claim", job_id)
        return
    kind = JobKind(claimed.kind)
    log.info("job %s: %s, attempt %d", job_id, kind, claimed.attempt)
    handler, contract = _HANDLERS[kind], CONTRACTS[kind]
    with Lease(claimed, time_limit_s=contract.time_limit_s) as lease:
        outcome = _attempt(handler, contract.payload.model_validate(claimed.payload), lease)
    _settle(claimed, handler, outcome, lease)


def _attempt(handler: Handler, payload: Any, lease: "Lease") -> Any:
    """The result, or the error that the attempt ended with."""
    try:
        with Workspace(lease.job, lease.owner) as workspace:
            return handler.work(payload, workspace, lease.sink)
    except RingiError as error:
        return error
    except MemoryError as error:
        return OutOfMemory(f"The worker ran out of memory: {error}", next_step="Use a smaller batch or a larger device.")
    except Exception as error:
        # torch raises its own out-of-memory error, and this module may not import torch.
        if type(error).__name__ == "OutOfMemoryError":
            return OutOfMemory(f"The device ran out of memory: {error}", next_step="Use a smaller batch or a larger device.")
        log.exception("job %s failed", lease.job.id)
        return WorkFailed(
            f"{type(error).__name__}: {error}"[:2000], next_step="It is tried again; if it keeps failing, read the worker's log."
        )


def _settle(claimed: Job, handler: Handler, outcome: Any, lease: "Lease") -> None:
    """Tell the database how the attempt ended, trying for as long as a lost database could come back."""
    deadline = time.monotonic() + 10 * get_settings().lease_s
    while True:
        try:
            _report(claimed, handler, outcome, lease)
        except LeaseLost as lost:
            log.warning("%s", lost)
        except OperationalError:
            if time.monotonic() < deadline:
                log.warning("job %s: the database is away, reporting again", claimed.id)
                lease.wait(1.0)
                continue
            raise
        return


def _report(claimed: Job, handler: Handler, outcome: Any, lease: "Lease") -> None:
    owner, attempt = lease.owner, claimed.attempt
    if not isinstance(outcome, RingiError):
        try:
            with transaction() as session:
                done = jobs.finish(session, claimed.id, owner=owner, attempt=attempt, result=outcome)
                handler.finish(session, done, outcome)
            log.info("job %s: succeeded", claimed.id)
        except LeaseLost:
            raise
        except RingiError as refusal:
            # The platform refused the result (admission, verdict): nothing of it was kept, and the job says why.
            outcome = refusal
        else:
            return
    with transaction() as session:
        if lease.cancel_requested:
            jobs.cancelled(session, claimed.id, owner=owner, attempt=attempt)
            log.info("job %s: cancelled", claimed.id)
            return
        failed = jobs.fail(session, claimed.id, owner=owner, attempt=attempt, error=lease.explained(outcome))
        log.warning("job %s: %s (%s)", claimed.id, failed.state, outcome)
        if failed.state == JobState.FAILED and handler.failed is not None:
            handler.failed(session, failed)


class Lease:
    """Keeps a claimed job alive from a thread of its own, carries progress with each heartbeat, and learns of cancellation."""

    def __init__(self, claimed: Job, *, time_limit_s: int) -> None:
        self.job = claimed
        self.owner = lease_owner()
        self.sink = JobSink(claimed, self._ended)
        self.cancel_requested = False
        self._lost = False
        self._limit_s = time_limit_s
        self._begun = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"heartbeat-{claimed.id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # The lease must outlive the work until the outcome is reported, so the last heartbeat comes right before.
        self._stop.set()
        self._thread.join()
        self.sink.close()
        self._renew()

    def wait(self, seconds: float) -> None:
        """Pause without holding anything."""
        threading.Event().wait(seconds)

    def explained(self, error: RingiError) -> RingiError:
        """The error to store: work that was stopped for its time limit says so."""
        return TimeLimitExceeded(self._limit_s) if self._overdue() else error

    def _overdue(self) -> bool:
        return time.monotonic() - self._begun > self._limit_s

    def _ended(self) -> bool:
        return self.cancel_requested or self._lost or self._overdue()

    def _beat(self) -> None:
        interval = min(get_settings().heartbeat_s, 1.0)
        while not self._stop.wait(interval) and not self._lost:
            self._renew()

    def _renew(self) -> None:
        try:
            with transaction() as session:
                self.cancel_requested = jobs.heartbeat(
                    session,
                    self.job.id,
                    owner=self.owner,
                    attempt=self.job.attempt,
                    lease_s=get_settings().lease_s,
                    progress=self.sink.latest,
                )
        except LeaseLost:
            self._lost = True
        except OperationalError as error:
            # One heartbeat missed; the lease outlives two, so a database restart does not start the job twice.
            log.warning("job %s: no heartbeat: %s", self.job.id, error.orig)
