"""The typed Python client: `with RingiClient(server, token) as ringi: ringi.identity.whoami()`.

Answers are the schema models of each domain; refusals are `ApiError`, silence is `Unreachable` (cli/errors.py).
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Self
from uuid import UUID

from ringi.cli.calls.artifacts import AdapterCalls, BaseCalls, DatasetCalls
from ringi.cli.calls.governance import ApprovalCalls, AuditCalls, CompatibilityCalls, ReleaseCalls
from ringi.cli.calls.health import HealthCalls
from ringi.cli.calls.identity import IdentityCalls
from ringi.cli.calls.work import EvaluationCalls, JobCalls, TrainingCalls
from ringi.cli.connection import Connection, OnBytes
from ringi.cli.errors import JobFailed, Unreachable
from ringi.jobs.schemas import OPEN, JobOut, JobState
from ringi.uploads.schemas import UploadOut

FIRST_PAUSE_S, LAST_PAUSE_S = 0.3, 1.0
# A platform that restarts does not end its jobs, so waiting outlives a silence of so many seconds.
PATIENCE_S = 60.0


class RingiClient:
    """One server and one token; not for several threads at once."""

    def __init__(self, server: str, token: str | None = None) -> None:
        self.server = server.rstrip("/")
        self._http = Connection(server, token)
        self.identity = IdentityCalls(self._http)
        self.datasets = DatasetCalls(self._http)
        self.bases = BaseCalls(self._http)
        self.adapters = AdapterCalls(self._http)
        self.jobs = JobCalls(self._http)
        self.training = TrainingCalls(self._http)
        self.evaluations = EvaluationCalls(self._http)
        self.compatibility = CompatibilityCalls(self._http)
        self.approvals = ApprovalCalls(self._http)
        self.releases = ReleaseCalls(self._http)
        self.audit = AuditCalls(self._http)
        self.health = HealthCalls(self._http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the sockets back."""
        self._http.close()

    def upload(self, file: Path, *, on_bytes: OnBytes | None = None) -> UploadOut:
        """Store one file, streamed and checked against its digest."""
        return self._http.upload(file, on_bytes=on_bytes)

    def wait(self, job_id: UUID, on_progress: Callable[[JobOut], None] | None = None, *, timeout_s: float | None = None) -> JobOut:
        """Look at a job until it has succeeded; `on_progress` gets every look. Raises JobFailed, and TimeoutError after `timeout_s`."""
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
            if on_progress is not None:
                on_progress(job)
            if job.state not in OPEN:
                return _succeeded(job)
            if timeout_s is not None and time.monotonic() - started > timeout_s:
                raise TimeoutError(f"job {job_id} is still '{job.state}' after {timeout_s:g} s")
            time.sleep(pause)
            pause = min(pause * 1.3, LAST_PAUSE_S)


def _succeeded(job: JobOut) -> JobOut:
    if job.state is not JobState.SUCCEEDED:
        error = job.error.model_dump() if job.error and job.state is JobState.FAILED else None
        raise JobFailed(str(job.id), kind=job.kind, state=job.state, error=error)
    return job
