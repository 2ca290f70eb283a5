"""The supervisor restarts what dies, stops what it started, and never touches a process that merely has an old number."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ringi.embedded import children
from ringi.embedded.folder import free_port
from ringi.embedded.processes import PlatformStatus, platform_down, platform_status
from ringi.embedded.services import platform_plan
from ringi.embedded.supervise import sweep
from support.small_platform import OWN_SERVERS
from support.waiting import until

SCRIPT = Path(__file__).parents[1] / "support" / "small_platform.py"


def status(folder: Path) -> PlatformStatus:
    return platform_status(folder, OWN_SERVERS)


def pids(folder: Path) -> dict[str, int | None]:
    return {service.name: service.pid for service in status(folder).services}


def start(folder: Path, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), str(port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "データ 日本語 folder"
    place.mkdir()
    return place


@pytest.fixture
def supervisor(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = start(folder, free_port())
    try:
        until(lambda: status(folder).phase == "ready" or process.poll() is not None)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        platform_down(folder)


def test_it_runs_the_plan_and_stops_all_of_it(folder: Path, supervisor: subprocess.Popen[str]) -> None:
    running = pids(folder)
    assert set(running) == {"web", "waiter"}
    assert all(running.values())
    assert status(folder).supervisor_pid == supervisor.pid
    down = platform_down(folder)
    assert down.phase == "down"
    assert supervisor.wait(30) == 0
    assert not any(children.process_of(pid) for pid in running.values() if pid)
    assert list((folder / "run").glob("*.pid")) == []
    assert (folder / "logs" / "web.log").read_text(encoding="utf-8").count("GET /readyz") >= 1


def test_a_service_that_dies_is_started_again(folder: Path, supervisor: subprocess.Popen[str]) -> None:
    before = pids(folder)
    assert before["waiter"] is not None
    os.kill(before["waiter"], signal.SIGKILL)
    until(lambda: pids(folder)["waiter"] not in {before["waiter"], None})
    assert pids(folder)["web"] == before["web"]
    assert supervisor.poll() is None
    assert {service.name: service.restarts for service in status(folder).services} == {"web": 0, "waiter": 1}


def test_a_second_supervisor_of_one_folder_leaves_the_first_alone(folder: Path, supervisor: subprocess.Popen[str]) -> None:
    before = pids(folder)
    second = start(folder, free_port())
    said, _ = second.communicate(timeout=60)
    assert second.returncode != 0
    assert "already being run" in said
    assert pids(folder) == before
    assert supervisor.poll() is None


def test_two_supervisors_started_at_once_give_one_platform(folder: Path) -> None:
    port = free_port()
    both = [start(folder, port), start(folder, port)]
    try:
        until(lambda: status(folder).phase == "ready" and any(one.poll() is not None for one in both))
        assert [one.poll() is None for one in both].count(True) == 1
    finally:
        platform_down(folder)
        for one in both:
            one.communicate(timeout=60)


def test_what_a_killed_supervisor_left_is_stopped_by_down(folder: Path, supervisor: subprocess.Popen[str]) -> None:
    left = pids(folder)
    supervisor.kill()
    supervisor.wait(30)
    assert status(folder).phase == "down"
    assert all(children.process_of(pid) for pid in left.values() if pid)
    platform_down(folder)
    assert not any(children.process_of(pid) for pid in left.values() if pid)


def test_a_recycled_process_id_is_not_killed(tmp_path: Path) -> None:
    # Another process now has the number in the pid file, as after a reboot; only its start tells it apart.
    with subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"]) as stranger:
        try:
            honest = children.process_of(stranger.pid)
            assert honest is not None
            children.remember(tmp_path / "run" / "worker-gpu-1.pid", children.Process(honest.pid, "boot:earlier:1"))
            assert sweep(tmp_path) == []
            assert stranger.poll() is None
            children.remember(tmp_path / "run" / "worker-gpu-1.pid", honest)
            assert sweep(tmp_path) == ["worker-gpu-1"]
            assert stranger.wait(10) == -signal.SIGTERM
        finally:
            stranger.kill()


def test_a_step_that_fails_keeps_the_platform_down_and_says_why(folder: Path) -> None:
    (folder / "readyz").mkdir()  # The first step writes a file of this name, and cannot.
    done = start(folder, free_port())
    said, _ = done.communicate(timeout=60)
    assert done.returncode != 0
    assert "IsADirectoryError" in said
    failed = status(folder)
    assert failed.phase == "failed"
    assert "prepare" in failed.message
    assert all(service.pid is None for service in failed.services)


def test_the_command_table_has_a_worker_per_queue_and_number(tmp_path: Path) -> None:
    plan = platform_plan(8400, {"gpu": 1, "cpu": 2})
    assert [service.name for service in plan.services] == [
        "api", "relay", "sequencer", "notifier", "watcher", "worker-gpu-1", "worker-cpu-1", "worker-cpu-2",
    ]  # fmt: skip
    # Nobody's word about where a request came from is believed, unless the operator names a proxy.
    assert plan.services[0].environment == {"FORWARDED_ALLOW_IPS": ""}
    queues = {service.name: service.command[service.command.index("-Q") + 1] for service in plan.services if "-Q" in service.command}
    assert queues == {"worker-gpu-1": "gpu", "worker-cpu-1": "cpu", "worker-cpu-2": "cpu"}


def test_a_process_prints_as_json_that_names_it_again(tmp_path: Path) -> None:
    me = children.process_of(os.getpid())
    assert me is not None
    children.remember(tmp_path / "me.pid", me)
    assert json.loads((tmp_path / "me.pid").read_text(encoding="utf-8"))["pid"] == os.getpid()
    assert children.recall(tmp_path / "me.pid") == me
    (tmp_path / "me.pid").write_text("not json", encoding="utf-8")
    assert children.recall(tmp_path / "me.pid") is None
