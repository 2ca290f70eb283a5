"""MLflow is a mirror: figures arrive there, and a run goes on without it."""

import json
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from ringi.embedded.postgres import PostgresHandle
from ringi.kit.digests import sha256_file
from ringi.settings import get_settings
from ringi_workers.tracking import MlflowMirror
from support.recipes import SPEC, Follower, run
from support.tiny_model import make_tiny_base, make_tiny_rows
from support.waiting import until

ROWS = "sha256:" + "a" * 64


def test_figures_parameters_and_tags_of_a_run_arrive_in_mlflow(postgres_server: PostgresHandle) -> None:
    mirror = MlflowMirror(
        postgres_server.mlflow_url, experiment="支援/bot", name="run 1", parameters={"rank": "8"}, tags={"ringi.run": "1"}
    )
    for step in range(1, 4):
        mirror.log({"loss": 3.0 / step}, step)
    mirror.close(within_s=60)
    assert mirror.run_id is not None
    client = MlflowClient(tracking_uri=postgres_server.mlflow_url)
    run = client.get_run(mirror.run_id)
    assert (run.data.params["rank"], run.data.tags["ringi.run"], run.info.status) == ("8", "1", "FINISHED")
    assert [(metric.step, metric.value) for metric in client.get_metric_history(mirror.run_id, "loss")] == [(1, 3.0), (2, 1.5), (3, 1.0)]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("RINGI_DATA_DIR", str(tmp_path / "data"))
    get_settings.cache_clear()
    yield tmp_path / "data"
    get_settings.cache_clear()


def test_the_adapter_its_picture_the_rows_and_the_machine_arrive_in_mlflow_and_the_copy_goes(
    postgres_server: PostgresHandle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    folder = tmp_path / "work" / "host--1--train" / "out"
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text('{"r": 8}', encoding="utf-8")
    mirror = MlflowMirror(postgres_server.mlflow_url, experiment="adapter", name="run 4", parameters={}, tags={}, rows={"training": ROWS})
    client = MlflowClient(tracking_uri=postgres_server.mlflow_url)
    run_id = until(lambda: mirror.run_id, timeout_s=60)
    assert run_id is not None
    until(lambda: client.get_run(run_id).data.metrics.get("system/cpu_utilization_percentage"), timeout_s=60)
    mirror.keep(folder, {"loss.svg": "<svg/>"})
    # The attempt's own folder goes before MLflow has taken anything.
    shutil.rmtree(folder)
    mirror.close(within_s=60)
    run = client.get_run(run_id)
    assert {one.path for one in client.list_artifacts(run_id)} == {"adapter", "loss.svg"}
    assert [one.path for one in client.list_artifacts(run_id, "adapter")] == ["adapter/adapter_config.json"]
    assert (run.info.artifact_uri or "").startswith((data / "mlflow").as_uri())
    assert run.inputs is not None
    (rows,) = run.inputs.dataset_inputs
    assert json.loads(rows.dataset.source) == {"digest": ROWS}
    assert list((tmp_path / "work").iterdir()) == [folder.parent]


def test_a_run_whose_job_was_cancelled_is_killed_in_mlflow_and_known_before_it_is_closed(postgres_server: PostgresHandle) -> None:
    client = MlflowClient(tracking_uri=postgres_server.mlflow_url)
    mirror = MlflowMirror(postgres_server.mlflow_url, experiment="cancelled", name="run 3", parameters={}, tags={})
    run_id = until(lambda: mirror.run_id, timeout_s=60)
    assert run_id is not None
    assert client.get_run(run_id).info.status == "RUNNING"
    mirror.close("KILLED", within_s=60)
    assert client.get_run(run_id).info.status == "KILLED"


def test_an_mlflow_that_is_away_neither_stops_nor_fails_a_run() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        # Bound and never listening: every connection to it is refused.
        mirror = MlflowMirror(f"http://127.0.0.1:{taken.getsockname()[1]}", experiment="x", name="run 2", parameters={}, tags={})
        mirror.log({"loss": 1.0}, 1)
        mirror.close(within_s=1)
    assert mirror.run_id is None


@pytest.fixture(scope="module")
def silent() -> Iterator[str]:
    """A tracking server that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_run_under_an_mlflow_that_never_answers_is_the_run_without_one_and_ends_in_time(silent: str, tmp_path: Path) -> None:
    base, rows = make_tiny_base(tmp_path / "base"), make_tiny_rows(tmp_path / "rows.jsonl", 40)
    spec = SPEC.model_copy(update={"max_steps": 6})
    alone = run(base, rows, tmp_path / "alone", spec=spec)
    mirror = MlflowMirror(silent, experiment="x", name="run 5", parameters={"rank": "4"}, tags={}, rows={"training": ROWS})

    class Mirrored(Follower):
        def log(self, metrics: dict[str, float], step: int) -> None:
            super().log(metrics, step)
            mirror.log(metrics, step)

    work = tmp_path / "work" / "host--1--train"
    mirrored = run(base, rows, work / "out", spec=spec, sink=Mirrored())
    mirror.keep(mirrored.directory, {})
    begun = time.monotonic()
    mirror.close("FINISHED", within_s=0.5)
    assert time.monotonic() - begun < 5
    assert mirrored.metrics.curve == alone.metrics.curve
    weights = "adapter_model.safetensors"
    assert sha256_file(mirrored.directory / weights) == sha256_file(alone.directory / weights)
