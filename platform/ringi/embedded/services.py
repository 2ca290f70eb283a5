"""The command table: every process of `ringi up`, in the order of starting. Stopping goes backwards."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ringi
from ringi.embedded.folder import LOOPBACK
from ringi.kit.errors import RingiError

DEFAULT_WORKERS: Mapping[str, int] = {"gpu": 1, "cpu": 1}


class NoMigrations(RingiError):
    """The installation has no migrations folder beside its source."""

    code, status = "no_migrations", 409

    def __init__(self, root: Path) -> None:
        super().__init__(f"There are no migrations in '{root}'.", next_step="Run `ringi up` from an installation of a checkout: make venv.")


@dataclass(frozen=True)
class Service:
    """One program: its name is also that of its log and pid files."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


@dataclass(frozen=True)
class Plan:
    """What a supervisor starts: `before` runs to its end first; `ready_url` must answer 200 before the platform counts as up."""

    before: tuple[Service, ...]
    services: tuple[Service, ...]
    ready_url: str | None
    api_url: str | None


def platform_plan(api_port: int, workers: Mapping[str, int]) -> Plan:
    """The platform: migrations, the API, the relay, the sequencer, the notifier, the watcher and `workers[queue]` worker processes per queue."""
    api_url = f"http://{LOOPBACK}:{api_port}"
    # uvicorn believes X-Forwarded-For of every caller on this machine unless it is told whom to believe: nobody, but the operator's own proxy.
    believed = {"FORWARDED_ALLOW_IPS": os.environ.get("FORWARDED_ALLOW_IPS", "")}
    api = ("ringi.api", "--host", LOOPBACK, "--port", str(api_port))
    table = [
        _module("api", *api, environment=believed),
        _module("relay", "ringi_workers.relay"),
        _module("sequencer", "ringi_workers.sequencer"),
        _module("notifier", "ringi_workers.notifier"),
        # -q: Celery's banner is no line of a log. Its own file of a schedule does not exist: the database is the schedule.
        _module("watcher", "celery", "-q", "-A", "ringi_workers.app", "beat", "-S", "ringi_workers.watching:Watching"),
        *(_worker(queue, number) for queue, count in workers.items() for number in range(1, count + 1)),
    ]
    return Plan(before=(_migrations(),), services=tuple(table), ready_url=f"{api_url}/readyz", api_url=api_url)


def _module(name: str, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Service:
    return Service(name, (sys.executable, "-m", module, *arguments), environment or {})


def _worker(queue: str, number: int) -> Service:
    options = ("-Q", queue, "-P", "solo", "-c", "1", "--without-gossip", "--without-mingle", "-n", f"{queue}{number}@%h")
    # Training may use every core; what runs on the other queues must not crowd it out.
    threads = str(_cores()) if queue == "gpu" else "1"
    # PASSIVE: a thread that waits for another sleeps instead of spinning. On few cores one small process beside the training
    # otherwise costs it most of its speed.
    environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads), "OMP_WAIT_POLICY": "PASSIVE"}
    return _module(f"worker-{queue}-{number}", "celery", "-A", "ringi_workers.app", "worker", *options, environment=environment)


def _migrations() -> Service:
    root = Path(ringi.__file__ or "").parents[2]
    if not (root / "migrations").is_dir():
        raise NoMigrations(root)
    # Alembic reads [tool.alembic] of the pyproject.toml in its working folder.
    return Service("migrate", (sys.executable, "-m", "alembic", "upgrade", "head"), {}, cwd=root)


def _cores() -> int:
    # A container or `taskset` may give this process fewer cores than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
