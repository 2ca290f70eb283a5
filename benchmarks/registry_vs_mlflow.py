"""Registry operations as 8 clients see them: Ringi against an MLflow server on the same PostgreSQL, round by round in one run.

Both servers get two processes and a database of their own in one PostgreSQL 18. On Ringi's side authentication, the audit log and an
`Idempotency-Key` on every write are on; MLflow's own server has none of them. Both hold the same adapters and versions. The rounds
alternate, so that a machine that slows down slows both.

`create version`: Ringi answers when the files' digests are checked against the store and the inspection is queued; MLflow stores a
name and a path. What MLflow has no counterpart for, the time until a version is inspected and sealed, is measured apart, with workers.
"""

import argparse
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import httpx

from benchmarks import peers, ringi_registry
from benchmarks.load import Call, Load, Measured, measure
from ringi.embedded import postgres
from ringi.embedded.folder import free_port

MLFLOW = ("mlflow==3.17.2", "psycopg[binary]==3.3.9")
CLIENTS, ADAPTERS, VERSIONS = 8, 8, 10
# The first requests of a server import and connect; until then it may answer nothing for seconds.
WARM_UP_S = 5.0
OPERATIONS = ("create version", "get version", "list with filter", "move channel")


class Side(NamedTuple):
    """A server and its request number `number` of a client, for each operation."""

    server: str
    calls: dict[str, Callable[[int, int], Call]]


@contextmanager
def mlflow_server(database_url: str, folder: Path) -> Iterator[Side]:
    """An MLflow server with two processes, holding the same number of registered models and versions."""
    binaries, port = peers.environment("mlflow", *MLFLOW), free_port()
    server = f"http://127.0.0.1:{port}"
    with (folder / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            [
                binaries / "mlflow", "server", "--backend-store-uri", database_url, "--artifacts-destination", str(folder / "artifacts"),
                "--host", "127.0.0.1", "--port", str(port), "--workers", "2",
            ],
            stdout=log, stderr=log, cwd=folder, start_new_session=True,
        )  # fmt: skip
    try:
        _await(f"{server}/health", process, folder / "mlflow.log")
        with httpx.Client(base_url=f"{server}/api/2.0/mlflow", timeout=60) as http:
            for adapter in range(ADAPTERS):
                _ok(http.post("/registered-models/create", json={"name": f"adapter-{adapter}"}))
                for version in range(VERSIONS):
                    tags = [{"key": "team", "value": "risk" if version % 2 else "sales"}]
                    _ok(
                        http.post(
                            "/model-versions/create",
                            json={"name": f"adapter-{adapter}", "source": f"s3://models/{adapter}/{version}", "tags": tags},
                        )
                    )
        yield Side(server, _mlflow_calls())
    finally:
        process.terminate()
        process.wait(timeout=60)


def _mlflow_calls() -> dict[str, Callable[[int, int], Call]]:
    api = "/api/2.0/mlflow"

    def create(client: int, _number: int) -> Call:
        return Call("POST", f"{api}/model-versions/create", {"name": f"adapter-{client % ADAPTERS}", "source": f"s3://models/{uuid4()}"})

    def get(client: int, number: int) -> Call:
        return Call("GET", f"{api}/model-versions/get?name=adapter-{client % ADAPTERS}&version={number % VERSIONS + 1}")

    def search(client: int, _number: int) -> Call:
        wanted = f"name%3D%27adapter-{client % ADAPTERS}%27%20AND%20tags.team%3D%27risk%27"
        return Call("GET", f"{api}/model-versions/search?filter={wanted}&max_results=50")

    def move(client: int, number: int) -> Call:
        body = {"name": f"adapter-{client % ADAPTERS}", "alias": "production", "version": str(number % 2 + 1)}
        return Call("POST", f"{api}/registered-models/alias", body)

    return dict(zip(OPERATIONS, (create, get, search, move), strict=True))


def _ok(answer: httpx.Response) -> None:
    if answer.is_error:
        raise RuntimeError(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:500]}")


def _await(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError(f"the server did not come up:\n{log.read_text(errors='replace')[-3000:]}")


def compare(ours: Side, theirs: Side, *, rounds: int, seconds: float) -> dict[str, tuple[list[Measured], list[Measured]]]:
    """Every operation, `rounds` times on both sides in turn after a short warm-up; refusals on either side end the run."""
    found: dict[str, tuple[list[Measured], list[Measured]]] = {}
    for operation in OPERATIONS:
        measured: tuple[list[Measured], list[Measured]] = ([], [])
        for round_number in range(-1, rounds):
            for side, results in zip((ours, theirs), measured, strict=True):
                # Numbers go on from round to round: a channel's move to where it stands already would be refused.
                first = (round_number + 1) * 100_000
                one = measure(Load(side.server, CLIENTS, seconds if round_number >= 0 else WARM_UP_S, side.calls[operation], first))
                if one.refused:
                    raise RuntimeError(f"{operation}: {one.refused} of {one.answers} were refused: {one.example}")
                if round_number >= 0:
                    results.append(one)
        found[operation] = measured
        _print_row(operation, *measured)
    return found


def _median(results: list[Measured], pick: Callable[[Measured], float]) -> float:
    return statistics.median(pick(one) for one in results)


def _print_row(operation: str, ours: list[Measured], theirs: list[Measured]) -> None:
    cells = [f"{operation:18}"]
    for results in (ours, theirs):
        per_s, p50, p95 = (_median(results, pick) for pick in (lambda m: m.per_s, lambda m: m.p50_s, lambda m: m.p95_s))
        cells.append(f"{per_s:8.1f}/s  p50 {p50 * 1000:6.1f} ms  p95 {p95 * 1000:6.1f} ms")
    ratio = _median(ours, lambda m: m.per_s) / _median(theirs, lambda m: m.per_s)
    print(" | ".join([*cells, f"{ratio:5.2f}x"]), flush=True)


def main() -> None:
    """Set up both sides, measure, print the table and the line of figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each operation on each side; the median counts")
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a round")
    wanted = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="ringi-registry-benchmark-"))
    try:
        with ringi_registry.platform(folder / "data", adapters=ADAPTERS, versions=VERSIONS) as ours:
            database = postgres.attach(folder / "data").mlflow_url
            with mlflow_server(database, folder) as theirs:
                print(f"{'operation':18} | {'Ringi':42} | {'MLflow ' + MLFLOW[0].rpartition('=')[2]:42} | ratio")
                found = compare(
                    Side(ours.server, dict(zip(OPERATIONS, ours.calls, strict=True))), theirs, rounds=wanted.rounds, seconds=wanted.seconds
                )
        figures = {}
        for operation, (mine, peer) in found.items():
            figures[operation.replace(" ", "_")] = _median(mine, lambda m: m.per_s) / _median(peer, lambda m: m.per_s)
        ratios = " ".join(f"{name}={value:.2f}" for name, value in figures.items())
        print(
            f"registry_vs_mlflow {ratios} sealed_per_s={ours.sealed_per_s:.2f} clients={CLIENTS} rounds={wanted.rounds} seconds={wanted.seconds:g}"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
