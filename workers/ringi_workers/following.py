"""What a running job tells the world: the newest progress (carried by the heartbeat) and its metrics (mirrored to MLflow)."""

import logging
from collections.abc import Callable

from ringi.jobs.contracts.parts import Progress
from ringi.jobs.models import Job
from ringi.kit.errors import RingiError
from ringi_workers.tracking import MetricMirror, NoMirror, RunStatus

log = logging.getLogger("ringi.job")


class JobStopped(RingiError):
    """The work was to go on to its next phase, and the job is no longer to be worked on."""

    code, status = "job_stopped", 409

    def __init__(self, job: Job) -> None:
        super().__init__(f"Job {job.id} was stopped while it ran.", next_step="Start it again if it is still wanted.")


class JobSink:
    """The progress sink of one attempt: cheap to call at every step."""

    def __init__(self, job: Job, ended: Callable[[], bool]) -> None:
        self.job = job
        self.latest: Progress | None = None
        self.pause_requested = False
        self.mirror: MetricMirror = NoMirror()
        self._ended = ended

    def report(self, progress: Progress) -> None:
        """Take the live state; the next heartbeat stores it. Raises JobStopped where `should_stop`."""
        if self._ended():
            raise JobStopped(self.job)
        if self.latest is None or self.latest.phase != progress.phase:
            log.info("%s", progress.phase)
        self.latest = progress

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Take the figures of one step."""
        self.mirror.log(metrics, step)

    def should_stop(self) -> bool:
        """Whether cancellation was asked for, the lease is lost, or the time is over."""
        return self._ended()

    def should_pause(self) -> bool:
        """Whether the job was asked to rest."""
        return self.pause_requested

    def close(self, status: RunStatus) -> None:
        """Flush the metrics, within bounds, and say there how the work ended."""
        self.mirror.close(status)
