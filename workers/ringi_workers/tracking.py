"""Metrics, parameters and links of a run, mirrored to MLflow. Our own rows are the record: MLflow away or slow never loses or slows a run.

Two mirrors: `MlflowMirror` works from a thread of its own and gives up quietly; `NoMirror` is for deployments without a tracking server.
"""

import logging
import queue
import threading
import time
from typing import Literal, Protocol

from ringi.settings import get_settings

log = logging.getLogger("ringi.tracking")
_CLOSE_S = 10.0
_CONNECT_S = 5.0
_BATCH = 500
# https://mlflow.org/docs/latest/rest-api.html#runstatus
RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


class MetricMirror(Protocol):
    """Where figures go beside our own rows."""

    @property
    def run_id(self) -> str | None:
        """The tracking server's id of the run, once it is known: a link, never a key."""

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Take the figures of one step."""

    def close(self, status: RunStatus) -> None:
        """Send what is left, within bounds, and end the run as `status`."""


class NoMirror:
    """No tracking server is configured."""

    run_id: str | None = None

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Nothing to do."""

    def close(self, status: RunStatus) -> None:
        """Nothing to do."""


class MlflowMirror:
    """Sends from a thread; when the server refuses, the rest of the run goes unmirrored and the log says so once."""

    def __init__(self, uri: str, *, experiment: str, name: str, parameters: dict[str, str], tags: dict[str, str]) -> None:
        self._uri, self._experiment, self._name = uri, experiment, name
        self._parameters, self._tags = parameters, tags
        self._queue: queue.Queue[tuple[dict[str, float], int, int] | None] = queue.Queue(maxsize=100_000)
        self._run_id: str | None = None
        self._known = threading.Event()
        self._status: RunStatus = "FINISHED"
        self._thread = threading.Thread(target=self._send, name=f"mlflow-{name}", daemon=True)
        self._thread.start()

    @property
    def run_id(self) -> str | None:
        """The run's id, waiting a few seconds for a server that was only just asked; None when it has not answered by then."""
        self._known.wait(_CONNECT_S)
        return self._run_id

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Queue the figures; a full queue drops them, because the run matters more."""
        try:
            self._queue.put_nowait((metrics, step, time.time_ns() // 1_000_000))
        except queue.Full:
            return

    def close(self, status: RunStatus = "FINISHED", *, within_s: float = _CLOSE_S) -> None:
        """Wait a little for the thread; it is a daemon and never holds the worker up."""
        self._status = status
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(timeout=within_s)

    def _send(self) -> None:
        try:
            self._mirror()
        except Exception as error:  # noqa: BLE001  # whatever MLflow raises, the run goes on
            log.warning("MLflow does not take run %s: %s: %s", self._name, type(error).__name__, error)
        finally:
            self._known.set()

    def _mirror(self) -> None:
        # Loaded here: it takes seconds, and a deployment without MLflow should not pay for it.
        from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415
        from mlflow.tracking import MlflowClient  # noqa: PLC0415

        client = MlflowClient(tracking_uri=self._uri)
        found = client.get_experiment_by_name(self._experiment)
        experiment_id = found.experiment_id if found else client.create_experiment(self._experiment)
        run = client.create_run(experiment_id, run_name=self._name)
        run_id = self._run_id = run.info.run_id
        self._known.set()
        client.log_batch(
            run_id,
            params=[Param(key, value) for key, value in self._parameters.items()],
            tags=[RunTag(key, value) for key, value in self._tags.items()],
        )
        done = False
        while not done:
            batch = [self._queue.get()]
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get())
            done = None in batch
            figures = [
                Metric(key, value, when, step)
                for item in batch
                if item is not None
                for metrics, step, when in (item,)
                for key, value in metrics.items()
            ]
            for start in range(0, len(figures), _BATCH):
                client.log_batch(run_id, metrics=figures[start : start + _BATCH])
        client.set_terminated(run_id, self._status)


def mirror(*, experiment: str, name: str, parameters: dict[str, str], tags: dict[str, str]) -> MetricMirror:
    """The mirror that this deployment has."""
    uri = get_settings().mlflow_tracking_uri
    return MlflowMirror(uri, experiment=experiment, name=name, parameters=parameters, tags=tags) if uri else NoMirror()
