"""What a process loads: contracts on the source by import-linter, and what is really in `sys.modules` of a fresh process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ringi.jobs.contracts.kinds import Queue
from ringi_workers.app import TASK_MODULES

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "peft", "mlflow")


def loaded_after(*modules: str) -> set[str]:
    """Top-level and `ringi…` modules in a fresh process after importing `modules`."""
    code = f"import importlib, json, sys; [importlib.import_module(name) for name in {modules!r}]; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    names: list[str] = json.loads(done.stdout.splitlines()[-1])
    return {name for name in names if "." not in name or name.startswith("ringi")}


def test_the_import_contracts_hold() -> None:
    # import-linter finds its contracts in pyproject.toml of the folder it runs in.
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(linter)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr


def test_the_api_process_loads_nothing_of_the_workers() -> None:
    loaded = loaded_after("ringi.api.app")
    assert "fastapi" in loaded
    # The gate resamples with numpy, wherever it decides.
    assert not loaded & {*HEAVY, "celery", "kombu", "ringi_workers", "scipy", "pandas"}


def test_the_contracts_of_jobs_load_neither_tables_nor_http() -> None:
    loaded = loaded_after("ringi.jobs.contracts.kinds")
    assert "pydantic" in loaded
    assert not loaded & {"sqlalchemy", "fastapi", "starlette", "psycopg", "celery"}
    ours = {name for name in loaded if name.startswith("ringi.") and not name.startswith("ringi.jobs.contracts.")}
    assert ours <= {"ringi.jobs", "ringi.jobs.contracts", "ringi.kit", "ringi.kit.digests"}


def test_the_command_line_loads_neither_tables_nor_torch() -> None:
    loaded = loaded_after("ringi.cli.main")
    assert not loaded & {*HEAVY, "celery", "ringi_workers"}


@pytest.mark.parametrize("module", ["ringi_workers.relay", "ringi_workers.sequencer", "ringi_workers.notifier", "ringi_workers.watching"])
def test_the_processes_around_the_queues_load_no_torch(module: str) -> None:
    assert not loaded_after(module) & set(HEAVY)


def test_a_worker_of_the_cpu_queue_loads_no_torch() -> None:
    """The application, then every task module that it names for the queue."""
    tasks = TASK_MODULES[Queue.CPU]
    assert tasks
    loaded = loaded_after("ringi_workers.app", *tasks)
    assert "celery" in loaded
    assert not loaded & {"torch", "transformers", "peft"}
