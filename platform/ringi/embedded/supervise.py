"""The supervisor behind `ringi up`: starts the servers and the services, restarts what dies, stops everything in reverse order.

Run as `python -m ringi.embedded.supervise --data-dir X`; everything it prints is progress, and goes to logs/supervisor.log.
"""

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import httpx

from ringi.embedded import children, postgres, valkey
from ringi.embedded.environment import api_port_of, environment_for, uses_embedded_broker, uses_embedded_database
from ringi.embedded.folder import EmbeddedServerFailed
from ringi.embedded.record import Phase, PlatformRecord, RecordedService, write_record
from ringi.embedded.services import DEFAULT_WORKERS, Plan, Service, platform_plan
from ringi.kit.errors import RingiError

READY_TIMEOUT_S = 180.0
GRACE_S = 15.0
WATCH_S = 0.25
# A service that keeps dying is started after 1, 2, 4 ... 30 seconds; after a minute of life the count starts again.
BACKOFF_MAX_S, SETTLED_S = 30.0, 60.0


class AnotherSupervisor(RingiError):
    """One data folder has one supervisor."""

    code, status = "platform_already_up", 409

    def __init__(self, data_dir: Path) -> None:
        super().__init__(f"The platform of '{data_dir}' is already being run.", next_step="See it: ringi status. Stop it: ringi down.")


@dataclass
class Child:
    """A service and the process that runs it now."""

    service: Service
    handle: subprocess.Popen[bytes]
    process: children.Process | None
    since: str
    started: float
    restarts: int = 0
    start_at: float | None = None


class Supervisor:
    """Runs one plan in one data folder until `stop` is set. Its state is in run/platform.json after every change."""

    def __init__(self, data_dir: Path, plan: Plan, *, on_progress: Callable[[str], None], environ: Mapping[str, str] = os.environ) -> None:
        self.data_dir = data_dir.resolve()
        self.plan = plan
        self.say = on_progress
        self.environ = dict(environ)
        self.stop = threading.Event()
        self.children: list[Child] = []
        self.phase: Phase = "starting"
        self.message = ""

    def run(self) -> None:
        """Start, watch and stop. Raises AnotherSupervisor, or what kept the platform from starting, after stopping what had started."""
        run_dir = self.data_dir / "run"
        run_dir.mkdir(parents=True, exist_ok=True)
        with (run_dir / "supervisor.lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._wait_for_the_winner()
                raise AnotherSupervisor(self.data_dir) from None
            # The record of an earlier run must not be taken for this one's: it is replaced before the pid file says who runs.
            self._publish("starting")
            myself = children.process_of(os.getpid())
            if myself is not None:
                children.remember(run_dir / "supervisor.pid", myself)
            try:
                self._start()
                self._watch()
            except Exception as failure:
                self.message = str(failure) or type(failure).__name__
                raise
            finally:
                self._finish("failed" if self.message else "down")
                (run_dir / "supervisor.pid").unlink(missing_ok=True)

    def _wait_for_the_winner(self) -> None:
        # Whoever started this process looks for the winner's pid file as soon as this process has ended.
        deadline = time.monotonic() + 5
        while children.recall(self.data_dir / "run" / "supervisor.pid") is None and time.monotonic() < deadline:
            time.sleep(children.POLL_S)

    def _start(self) -> None:
        for leftover in sweep(self.data_dir):
            self.say(f"stopped {leftover}, left over from an earlier run")
        self._start_servers(move=True)
        environment = environment_for(self.data_dir, self.environ)
        Path(environment["RINGI_AUDIT_CHECKPOINT_DIR"]).mkdir(parents=True, exist_ok=True)
        self.environ |= environment
        for service in self.plan.before:
            self._run_to_end(service)
        for service in self.plan.services:
            if self.stop.is_set():
                return
            self.children.append(self._spawn(service))
            self.say(f"started {service.name}")
            self._publish("starting")
        self._wait_ready()
        if not self.stop.is_set():
            self._publish("ready")
            self.say(f"ready: {self.plan.api_url}" if self.plan.api_url else "ready")

    def _start_servers(self, *, move: bool) -> None:
        if uses_embedded_database(self.environ) and not postgres.is_running(self.data_dir):
            self.say(f"PostgreSQL on port {postgres.start(self.data_dir, move=move).port}")
        if uses_embedded_broker(self.environ) and not valkey.is_running(self.data_dir):
            self.say(f"Valkey on port {valkey.start(self.data_dir, move=move).port}")

    def _run_to_end(self, service: Service) -> None:
        self.say(f"running {service.name}")
        child = self._spawn(service)
        while child.handle.poll() is None and not self.stop.is_set():
            self.stop.wait(children.POLL_S)
        if child.handle.poll() is None:
            self._end(child)
        elif child.handle.returncode != 0:
            raise EmbeddedServerFailed(service.name, f"it ended with status {child.handle.returncode}", log=self._log(service))
        self._pid_file(service).unlink(missing_ok=True)

    def _spawn(self, service: Service, *, restarts: int = 0) -> Child:
        log = self._log(service)
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**self.environ, "RINGI_PROCESS_NAME": service.name, "PYTHONUNBUFFERED": "1", **service.environment}
        if service not in self.plan.before:
            # Only the migrations get to know the role that owns the tables.
            environment.pop("RINGI_OWNER_DATABASE_URL", None)
        with log.open("ab") as output:
            handle = subprocess.Popen(  # the command table, or a test's
                service.command,
                cwd=service.cwd or self.data_dir,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        process = children.process_of(handle.pid)
        if process is not None:
            children.remember(self._pid_file(service), process)
        return Child(service, handle, process, datetime.now(UTC).isoformat(), time.monotonic(), restarts)

    def _wait_ready(self) -> None:
        if self.plan.ready_url is None:
            return
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self.stop.wait(0.1):
            with suppress(httpx.HTTPError):
                if httpx.get(self.plan.ready_url, timeout=2, trust_env=False).status_code == httpx.codes.OK:
                    return
            for child in self.children:
                if child.handle.poll() is not None:
                    reason = f"it ended with status {child.handle.returncode}"
                    raise EmbeddedServerFailed(child.service.name, reason, log=self._log(child.service))
            if time.monotonic() > deadline:
                api = self.children[0].service
                raise EmbeddedServerFailed(
                    api.name, f"{self.plan.ready_url} did not answer 200 in {READY_TIMEOUT_S:.0f} s", log=self._log(api)
                )

    def _watch(self) -> None:
        """Until told to stop: start again what has died, services and servers alike."""
        while not self.stop.wait(WATCH_S):
            try:
                # The services know these ports and no others.
                self._start_servers(move=False)
            except RingiError as refusal:
                self.say(str(refusal))
            for position, child in enumerate(self.children):
                if child.handle.poll() is None:
                    continue
                now = time.monotonic()
                if child.start_at is None:
                    lived = now - child.started
                    child.restarts = 0 if lived > SETTLED_S else child.restarts
                    child.start_at = now + min(2.0**child.restarts, BACKOFF_MAX_S)
                    self.say(f"{child.service.name} ended with status {child.handle.returncode} and is started again")
                    self._publish(self.phase)
                elif now >= child.start_at:
                    self.children[position] = self._spawn(child.service, restarts=child.restarts + 1)
                    self._publish(self.phase)

    def _finish(self, phase: Phase) -> None:
        self._publish("stopping")
        deadline = time.monotonic() + GRACE_S
        for child in reversed(self.children):
            self._end(child, grace_s=max(1.0, deadline - time.monotonic()))
            self.say(f"stopped {child.service.name}")
        self.children = []
        valkey.stop(self.data_dir)
        postgres.stop(self.data_dir)
        self._publish(phase)
        self.say("stopped")

    def _end(self, child: Child, *, grace_s: float = GRACE_S) -> None:
        """SIGTERM to the whole process group, SIGKILL after the grace. The unreaped leader keeps the group's number from being reused."""
        for sign, patience in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
            if child.handle.poll() is not None:
                break
            with suppress(ProcessLookupError):
                os.killpg(child.handle.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                child.handle.wait(patience)
        self._pid_file(child.service).unlink(missing_ok=True)

    def _publish(self, phase: Phase) -> None:
        self.phase = phase
        services = tuple(
            RecordedService(name=child.service.name, process=child.process, since=child.since, restarts=child.restarts)
            for child in self.children
        )
        write_record(self.data_dir, PlatformRecord(phase=phase, message=self.message, api_url=self.plan.api_url, services=services))

    def _log(self, service: Service) -> Path:
        return self.data_dir / "logs" / f"{service.name}.log"

    def _pid_file(self, service: Service) -> Path:
        return self.data_dir / "run" / f"{service.name}.pid"


def sweep(data_dir: Path) -> list[str]:
    """Stop the services that a killed supervisor left behind; returns their names. Only processes that are exactly those of the pid files."""
    stopped = []
    for pid_file in sorted((data_dir / "run").glob("*.pid")):
        if pid_file.name == "supervisor.pid":
            continue
        left = children.recall(pid_file)
        if left is not None:
            children.terminate(left, grace_s=GRACE_S)
            stopped.append(pid_file.stem)
        pid_file.unlink(missing_ok=True)
    return stopped


def supervise(data_dir: Path, plan: Plan, on_progress: Callable[[str], None], environ: Mapping[str, str] = os.environ) -> None:
    """Run a plan in this process until SIGTERM or SIGINT."""
    supervisor = Supervisor(data_dir, plan, on_progress=on_progress, environ=environ)

    def leave(_signal: int, _frame: FrameType | None) -> None:
        supervisor.stop.set()

    before = {sign: signal.signal(sign, leave) for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        supervisor.run()
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def main() -> int:
    """The detached supervisor's entry point; the exit status is 0 after a wanted stop, 1 otherwise."""
    parser = argparse.ArgumentParser(description="Run the embedded platform of one data folder.")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--workers", type=json.loads, default=dict(DEFAULT_WORKERS))
    options = parser.parse_args()
    try:
        plan = platform_plan(api_port_of(options.data_dir), options.workers)
        supervise(options.data_dir, plan, _print)
    except RingiError as refusal:
        # The whole message is in the record; whoever follows the progress reads it there.
        _print(str(refusal).splitlines()[0])
        return 1
    return 0


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
