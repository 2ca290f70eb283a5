"""The typed Python client: `with RingiClient(server, token) as ringi: ringi.identity.whoami()`.

Answers are the schema models of each domain; refusals are `ApiError`, silence is `Unreachable` (cli/errors.py).
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Self
from uuid import UUID

from ringi.cli import parts
from ringi.cli.bearer import Held, Renew
from ringi.cli.calls.artifacts import AdapterCalls, BaseCalls, DatasetCalls
from ringi.cli.calls.audit import AuditCalls
from ringi.cli.calls.events import EventCalls, SubscriptionCalls
from ringi.cli.calls.fleet import WorkerCalls
from ringi.cli.calls.gates import GateCalls, MeasurementCalls, SuiteCalls, SweepCalls
from ringi.cli.calls.governance import ApprovalCalls, CompatibilityCalls, ReleaseCalls
from ringi.cli.calls.health import HealthCalls
from ringi.cli.calls.identity import IdentityCalls
from ringi.cli.calls.origins import OriginCalls
from ringi.cli.calls.storage import StorageCalls, UploadCalls
from ringi.cli.calls.tags import TagCalls
from ringi.cli.calls.watches import WatchCalls
from ringi.cli.calls.work import EvaluationCalls, JobCalls, LimitCalls, RetrainingCalls, SearchCalls, TrainingCalls
from ringi.cli.connection import Connection, OnBytes
from ringi.cli.errors import AnswerNotUnderstood, ApiError, JobFailed, Unreachable
from ringi.cli.events import ServerEvent
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.schemas import OPEN, JobError, JobOut, JobState, Level
from ringi.uploads.schemas import UploadOut

FIRST_PAUSE_S, LAST_PAUSE_S = 0.3, 1.0
# A platform that restarts does not end its jobs, so waiting outlives a silence of so many seconds.
PATIENCE_S = 60.0


class RingiClient:
    """One server and one token, which `renew` renews where it is given; not for several threads at once."""

    def __init__(self, server: str, token: str | Held | None = None, *, renew: Renew | None = None) -> None:
        self.server = server.rstrip("/")
        self._http = Connection(server, token, renew)
        self.identity = IdentityCalls(self._http)
        self.uploads = UploadCalls(self._http)
        self.storage = StorageCalls(self._http)
        self.datasets = DatasetCalls(self._http)
        self.bases = BaseCalls(self._http)
        self.adapters = AdapterCalls(self._http)
        self.workers = WorkerCalls(self._http)
        self.origins = OriginCalls(self._http)
        self.jobs = JobCalls(self._http)
        self.limits = LimitCalls(self._http)
        self.training = TrainingCalls(self._http)
        self.searches = SearchCalls(self._http)
        self.retraining = RetrainingCalls(self._http)
        self.evaluations = EvaluationCalls(self._http)
        self.suites = SuiteCalls(self._http)
        self.sweeps = SweepCalls(self._http)
        self.measurements = MeasurementCalls(self._http)
        self.gates = GateCalls(self._http)
        self.compatibility = CompatibilityCalls(self._http)
        self.approvals = ApprovalCalls(self._http)
        self.releases = ReleaseCalls(self._http)
        self.watches = WatchCalls(self._http)
        self.tags = TagCalls(self._http)
        self.events = EventCalls(self._http)
        self.subscriptions = SubscriptionCalls(self._http)
        self.audit = AuditCalls(self._http)
        self.health = HealthCalls(self._http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the sockets back."""
        self._http.close()

    def upload(
        self, file: Path, *, on_bytes: OnBytes | None = None, in_parts_over: int = parts.IN_PARTS_OVER, part_bytes: int = parts.PART_BYTES
    ) -> UploadOut:
        """Store one file, streamed and checked against its digest; large ones in parts that outlive a cut connection."""
        return self._http.upload(file, on_bytes=on_bytes, in_parts_over=in_parts_over, part_bytes=part_bytes)

    def wait(self, job_id: UUID, on_progress: Callable[[JobOut], None] | None = None, *, timeout_s: float | None = None) -> JobOut:
        """Follow a job until it has succeeded; `on_progress` gets every change. Raises JobFailed, and TimeoutError after `timeout_s`.

        Follows its stream of events, and looks at it now and then where the server gives none.
        """
        look, streams = on_progress or (lambda _job: None), True
        started = answered = time.monotonic()
        pause = FIRST_PAUSE_S
        while True:
            try:
                job = self.jobs.get(job_id)
                answered = time.monotonic()
            except Unreachable:
                if time.monotonic() - answered > PATIENCE_S:
                    raise
                continue
            look(job)
            if job.state not in OPEN:
                return _succeeded(job)
            if timeout_s is not None and time.monotonic() - started > timeout_s:
                raise TimeoutError(f"job {job_id} is still '{job.state}' after {timeout_s:g} s")
            if streams and timeout_s is None:
                streams = self._streamed(job, look)
            time.sleep(pause)
            pause = min(pause * 1.3, LAST_PAUSE_S)

    def _streamed(self, job: JobOut, look: Callable[[JobOut], None]) -> bool:
        """Give every change to `look` while the stream lasts; returns whether another one is worth a try."""
        live = False
        try:
            for event in self.jobs.events(job.id, level=Level.CRITICAL):
                # What comes before the first comment is the past: told in one look.
                live = live or event is None
                if event is not None:
                    job = changed(job, event)
                elif job.state is JobState.QUEUED:
                    # What it waits for is no event: workers come and go without it.
                    job = self.jobs.get(job.id)
                if live:
                    look(job)
        except (ApiError, AnswerNotUnderstood):
            return False
        except Unreachable:
            return True
        return True


def changed(job: JobOut, event: ServerEvent) -> JobOut:
    """The job after an event of its stream."""
    if event.kind == "progress":
        known = {name: value for name, value in event.data.items() if name in Progress.model_fields}
        return job.model_copy(update={"progress": Progress.model_validate(known)})
    if event.kind != "state":
        return job
    told = {name: event.data.get(name) for name in ("attempt", "max_attempts", "cancel_requested", "lease_owner", "produced")}
    error = event.data.get("error")
    return job.model_copy(
        update={
            **told,
            "waiting_for": None,
            "state": JobState(event.data["state"]),
            "error": JobError.model_validate(error) if error else None,
        }
    )


def _succeeded(job: JobOut) -> JobOut:
    if job.state is not JobState.SUCCEEDED:
        error = job.error.model_dump() if job.error and job.state is JobState.FAILED else None
        raise JobFailed(str(job.id), kind=job.kind, state=job.state, error=error)
    return job
