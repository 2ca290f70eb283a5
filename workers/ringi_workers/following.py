"""What a running job tells the world: the newest progress (carried by the heartbeat) and its metrics (mirrored to MLflow)."""

from collections.abc import Callable

from ringi.jobs.contracts import Progress
from ringi.jobs.models import Job
from ringi_workers.tracking import MetricMirror, NoMirror


class JobSink:
    """The progress sink of one attempt: cheap to call at every step."""

    def __init__(self, job: Job, ended: Callable[[], bool]) -> None:
        self.job = job
        self.latest: Progress | None = None
        self.mirror: MetricMirror = NoMirror()
        self._ended = ended

    def report(self, progress: Progress) -> None:
        """Take the live state; the next heartbeat stores it."""
        self.latest = progress

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Take the figures of one step."""
        self.mirror.log(metrics, step)

    def should_stop(self) -> bool:
        """Whether cancellation was asked for, the lease is lost, or the time is over."""
        return self._ended()

    def close(self) -> None:
        """Flush the metrics, within bounds."""
        self.mirror.close()
