"""MLflow is a mirror: figures arrive there, and a run goes on without it."""

import socket

from mlflow.tracking import MlflowClient

from ringi.embedded.postgres import PostgresHandle
from ringi_workers.tracking import MlflowMirror
from support.waiting import until


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
