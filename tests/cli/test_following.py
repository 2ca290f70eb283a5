"""A job that is followed from the command line, over a Ctrl-C and over a restart of the server."""

import signal
import subprocess
import sys
from pathlib import Path

from ringi.cli.client import RingiClient
from support.running_platform import Processes, new_organization, start_api
from support.shell import PROGRAM, Shell, idle
from support.tiny_model import make_tiny_rows
from support.waiting import until

__all__ = ["idle"]
# A terminal's program: what runs in the background of a shell (a nightly `make test &`) inherits a Ctrl-C that is ignored.
AT_A_TERMINAL = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ringi.cli.main import run; run()"


def test_ctrl_c_while_following_leaves_the_job_going_and_says_how_to_go_on(idle: Processes, tmp_path: Path) -> None:
    with new_organization(idle) as platform:
        contributor = platform.as_("contributor")
        contributor.datasets.create("support", "faq")
        accepted = contributor.datasets.add_version("support", "faq", make_tiny_rows(tmp_path / "rows.jsonl", 12))
        shell, job = Shell(tmp_path, platform.server), str(accepted.job_id)
        mine = {"RINGI_SERVER": platform.server, "RINGI_TOKEN": platform.tokens["contributor"]}
        log = tmp_path / "stderr"
        with log.open("wb") as stderr:
            follower = subprocess.Popen(
                [sys.executable, "-c", AT_A_TERMINAL, "jobs", "wait", job],
                env=shell.environ(**mine),
                stderr=stderr,
                stdout=subprocess.DEVNULL,
            )
            until(lambda: "queued" in log.read_text(encoding="utf-8"))
            follower.send_signal(signal.SIGINT)
            assert follower.wait(timeout=30) == 130
        said = log.read_text(encoding="utf-8")
        assert f"ringi jobs wait {job}" in said
        assert f"ringi jobs cancel {job}" in said
        assert "Traceback" not in said
        assert shell.json("jobs", "show", job, **mine)["state"] == "queued"
        assert shell.json("jobs", "cancel", job, **mine)["state"] == "cancelled"
        ended = shell.process("jobs", "wait", job, **mine)
        assert (ended.returncode, "[job_cancelled]" in ended.stderr) == (1, True)


def test_waiting_outlives_a_restart_of_the_api(idle: Processes, tmp_path: Path) -> None:
    with new_organization(idle) as platform, RingiClient(platform.server, platform.tokens["contributor"]) as client:
        client.datasets.create("support", "faq")
        accepted = client.datasets.add_version("support", "faq", make_tiny_rows(tmp_path / "rows.jsonl", 12))
        shell = Shell(tmp_path, platform.server)
        mine = {"RINGI_SERVER": platform.server, "RINGI_TOKEN": platform.tokens["contributor"]}
        log = tmp_path / "stderr"
        with log.open("wb") as stderr:
            follower = subprocess.Popen(
                [*PROGRAM, "jobs", "wait", str(accepted.job_id)], env=shell.environ(**mine), stderr=stderr, stdout=subprocess.DEVNULL
            )
            until(lambda: "queued" in log.read_text(encoding="utf-8"))
            idle.kill("api")
            idle.start_worker("late", "cpu")
            start_api(idle)
            assert follower.wait(timeout=90) == 0, log.read_text(encoding="utf-8")
