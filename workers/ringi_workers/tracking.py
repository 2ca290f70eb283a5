"""Parameters, metrics, rows, adapter and picture of a run, and its machine's load, mirrored to MLflow. Our own rows are the record: MLflow
away or slow never loses or slows a run.

Two mirrors: `MlflowMirror` works from a thread of its own and gives up quietly; `NoMirror` is for deployments without a tracking server.
"""

import json
import logging
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

from ringi.kit.digests import Digest, hex_of
from ringi.settings import get_settings

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

log = logging.getLogger("ringi.tracking")
_CLOSE_S = 10.0
_CONNECT_S = 5.0
_BATCH = 500
# MLflow's columns are narrower than a digest of ours; the whole one stands in the source beside it.
_MLFLOW_DIGEST = 36
# Where artifacts lie in MLflow's page of the run.
_ADAPTER = "adapter"
# Weights of a whole model stay in the blob store alone, where their digest finds them.
_MOST_BYTES = 512 * 2**20
# https://mlflow.org/docs/latest/rest-api.html#runstatus
RunStatus = Literal["FINISHED", "FAILED", "KILLED"]


class MetricMirror(Protocol):
    """Where figures go beside our own rows."""

    @property
    def run_id(self) -> str | None:
        """The tracking server's id of the run, once it is known: a link, never a key."""

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Take the figures of one step."""

    def keep(self, folder: Path, texts: Mapping[str, str]) -> None:
        """Take the adapter's files, and texts by the name of their file. The folder may go after the call."""

    def close(self, status: RunStatus) -> None:
        """Send what is left, within bounds, and end the run as `status`."""


class NoMirror:
    """No tracking server is configured."""

    run_id: str | None = None

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Nothing to do."""

    def keep(self, folder: Path, texts: Mapping[str, str]) -> None:
        """Nothing to do."""

    def close(self, status: RunStatus) -> None:
        """Nothing to do."""


class _Figures(NamedTuple):
    """Of one step, at a time in ms since 1970."""

    metrics: dict[str, float]
    step: int
    at_ms: int


class _Files(NamedTuple):
    """A copy of the adapter's folder, which is ours to remove, and texts by the name of their file."""

    folder: Path
    texts: Mapping[str, str]


class MlflowMirror:
    """Sends from a thread; when the server refuses, the rest of the run goes unmirrored and the log says so once."""

    def __init__(
        self, uri: str, *, experiment: str, name: str, parameters: dict[str, str], tags: dict[str, str], rows: Mapping[str, Digest] | None = None
    ) -> None:  # fmt: skip
        self._uri, self._experiment, self._name = uri, experiment, name
        self._rows = rows or {}
        self._parameters, self._tags = parameters, tags
        self._queue: queue.Queue[_Figures | _Files | None] = queue.Queue(maxsize=100_000)
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
            self._queue.put_nowait(_Figures(metrics, step, time.time_ns() // 1_000_000))
        except queue.Full:
            return

    def keep(self, folder: Path, texts: Mapping[str, str]) -> None:
        """Queue a copy of the folder, made beside the attempt's own so that a killed worker's copy is cleared away with it."""
        if not self._thread.is_alive():
            return
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if size > _MOST_BYTES:
            log.warning(
                "MLflow does not get the files of run %s: %d bytes are more than the %d that are copied", self._name, size, _MOST_BYTES
            )
            return
        aside = Path(tempfile.mkdtemp(dir=folder.parent.parent, prefix=f"{folder.parent.name}-mlflow-"))
        try:
            shutil.copytree(folder, aside, dirs_exist_ok=True)
            self._queue.put_nowait(_Files(aside, texts))
        except (OSError, queue.Full) as error:
            shutil.rmtree(aside, ignore_errors=True)
            log.warning("MLflow does not get the adapter of run %s: %s", self._name, error)

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
            self._clear()

    def _clear(self) -> None:
        """Copies that nobody took."""
        while not self._queue.empty():
            left = self._queue.get_nowait()
            if isinstance(left, _Files):
                shutil.rmtree(left.folder, ignore_errors=True)

    def _mirror(self) -> None:
        # Loaded here: it takes seconds, and a deployment without MLflow should not pay for it.
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor  # noqa: PLC0415
        from mlflow.tracking import MlflowClient  # noqa: PLC0415

        client = MlflowClient(tracking_uri=self._uri)
        run_id = self._begin(client)
        machine = SystemMetricsMonitor(run_id, tracking_uri=self._uri)  # type: ignore[no-untyped-call]
        machine.start()  # type: ignore[no-untyped-call]
        try:
            done = False
            while not done:
                batch = [self._queue.get()]
                while len(batch) < _BATCH and not self._queue.empty():
                    batch.append(self._queue.get())
                done = None in batch
                _log_figures(client, run_id, [one for one in batch if isinstance(one, _Figures)])
                for one in batch:
                    if isinstance(one, _Files):
                        _log_files(client, run_id, one)
        finally:
            machine.finish()  # type: ignore[no-untyped-call]
        client.set_terminated(run_id, self._status)

    def _begin(self, client: "MlflowClient") -> str:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag  # noqa: PLC0415

        found = client.get_experiment_by_name(self._experiment)
        experiment_id = (
            found.experiment_id if found else client.create_experiment(self._experiment, artifact_location=_artifacts(self._uri))
        )
        run_id: str = client.create_run(experiment_id, run_name=self._name).info.run_id
        self._run_id = run_id
        self._known.set()
        client.log_batch(
            run_id,
            params=[Param(key, value) for key, value in self._parameters.items()],
            tags=[RunTag(key, value) for key, value in self._tags.items()],
        )
        inputs = [
            DatasetInput(
                Dataset(name=use, digest=hex_of(digest)[:_MLFLOW_DIGEST], source_type="ringi", source=json.dumps({"digest": digest})),
                [InputTag("mlflow.data.context", use)],
            )
            for use, digest in self._rows.items()
        ]
        if inputs:
            client.log_inputs(run_id, inputs)
        return run_id


def _log_figures(client: "MlflowClient", run_id: str, batch: list[_Figures]) -> None:
    from mlflow.entities import Metric  # noqa: PLC0415

    figures = [Metric(key, value, one.at_ms, one.step) for one in batch for key, value in one.metrics.items()]
    for start in range(0, len(figures), _BATCH):
        client.log_batch(run_id, metrics=figures[start : start + _BATCH])


def _log_files(client: "MlflowClient", run_id: str, files: _Files) -> None:
    try:
        client.log_artifacts(run_id, str(files.folder), _ADAPTER)
        for name, text in files.texts.items():
            client.log_text(run_id, text, name)
    finally:
        shutil.rmtree(files.folder, ignore_errors=True)


def _artifacts(uri: str) -> str | None:
    """Where a new experiment's artifacts go: a server knows it; a bare database would say the folder that this process happens to stand in."""
    if urlsplit(uri).scheme in ("http", "https", "databricks"):
        return None
    return (get_settings().data_dir / "mlflow").resolve().as_uri()


def mirror(
    *, experiment: str, name: str, parameters: dict[str, str], tags: dict[str, str], rows: Mapping[str, Digest] | None = None
) -> MetricMirror:
    """The mirror that this deployment has; `rows`: digests of the rows that are used, by their use."""
    uri = get_settings().mlflow_tracking_uri
    return MlflowMirror(uri, experiment=experiment, name=name, parameters=parameters, tags=tags, rows=rows) if uri else NoMirror()
