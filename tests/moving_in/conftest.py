"""A real MLflow server with what a company has in it, and an organisation to move it to."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from moving_in.world import Mover, Registry
from support.hub_client import free_port
from support.running_platform import Processes, new_organization
from support.story import BASE, Sources, registered_base
from support.waiting import until

HERE = Path(__file__).parent


@pytest.fixture(scope="package")
def mlflow_server(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """The server, filled by `other_registry.py`."""
    folder = tmp_path_factory.mktemp("mlflow")
    url = f"http://127.0.0.1:{free_port()}"
    port = url.rpartition(":")[2]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment = inherited | {
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with (folder / "server.log").open("wb") as log:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", port, "--workers", "1"]
        stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
        server = subprocess.Popen([*command, *stores], stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True)

    def answers() -> bool:
        assert server.poll() is None, (folder / "server.log").read_text()
        try:
            return httpx.get(f"{url}/health", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    try:
        until(answers, timeout_s=300, pause_s=0.1)
        filled = subprocess.run(
            [sys.executable, str(HERE / "other_registry.py"), url, str(sources.base)], capture_output=True, text=True, check=False,
            env=environment, cwd=folder, timeout=600,
        )  # fmt: skip
        assert filled.returncode == 0, filled.stderr[-4000:]
        yield Registry(url)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(timeout=10)


@pytest.fixture(scope="module")
def mover(shared_platform: Processes, sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mover]:
    """An organisation with the base, and nothing moved in yet."""
    with new_organization(shared_platform) as platform:
        registered_base(platform, sources.base, name=BASE)
        yield Mover(platform, tmp_path_factory.mktemp("home"))
