"""At the prompt: what the shell completes, which project a bare name means, and in which form a result is printed."""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from ringi.cli.contexts import NoSuchProfile, Profile, read_config, remove_profile, save_profile, set_project, target, use_profile
from support.hub_client import free_port
from support.running_platform import Platform
from support.shell import PROGRAM

pytestmark = pytest.mark.long


@pytest.fixture
def config(platform: Platform, tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    for user in ("contributor", "reviewer"):
        save_profile(path, user, Profile(server=platform.server, token=platform.tokens[user]), replace=False)
    return path


def ringi(config: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RINGI_")}
    return subprocess.run(
        [*PROGRAM, *arguments], capture_output=True, text=True, encoding="utf-8", check=False,
        env=inherited | {"RINGI_CONFIG": str(config)} | more,
    )  # fmt: skip


def completed(config: Path, words: str) -> list[str]:
    """What bash would offer for a line that ends here."""
    asked = {"_RINGI_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    return ringi(config, **asked).stdout.split()


def test_the_shell_completes_commands_verbs_options_and_choices(config: Path) -> None:
    assert completed(config, "ringi appr") == ["approvals"]
    assert {"list", "show", "cancel"} <= set(completed(config, "ringi jobs "))
    assert "--reason" in completed(config, "ringi revoke --re")
    assert completed(config, "ringi whoami --output ") == ["table", "json", "yaml"]


def test_the_shell_completes_profiles_and_what_the_server_holds(platform: Platform, config: Path) -> None:
    platform.as_("contributor").datasets.create("support", "faq")
    use_profile(config, "contributor")
    assert completed(config, "ringi whoami --profile re") == ["reviewer"]
    assert completed(config, "ringi datasets versions sup") == ["support/"]
    assert completed(config, "ringi datasets versions support/f") == ["support/faq"]
    set_project(config, "contributor", "support")
    assert completed(config, "ringi datasets versions f") == ["faq"]


def silent(config: Path) -> bool:
    """Whether the prompt stays as it is: nothing offered, and no word of an error."""
    asked = ringi(config, _RINGI_COMPLETE="complete_bash", COMP_WORDS="ringi datasets versions sup", COMP_CWORD="3")
    return (asked.stdout.strip(), asked.stderr) == ("", "")


def test_completion_is_silent_where_the_profiles_cannot_be_read(config: Path) -> None:
    use_profile(config, "contributor")
    assert not silent(config)
    config.write_text("no profile file")
    assert silent(config)


def test_completion_is_silent_where_no_server_listens_and_soon_where_one_never_answers(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with socket.create_server(("127.0.0.1", 0)) as mute:
        for name, port in (("nobody", free_port()), ("mute", mute.getsockname()[1])):
            save_profile(path, name, Profile(server=f"http://127.0.0.1:{port}", token="hf_rgiX"), replace=False)
        use_profile(path, "nobody")
        assert silent(path)
        use_profile(path, "mute")
        begun = time.monotonic()
        assert silent(path)
        # Two seconds of patience, and what the program needs to start on a busy machine.
        assert 2 <= time.monotonic() - begun < 15
        mute.settimeout(10)
        connection, _ = mute.accept()
        with connection:
            assert connection.recv(4096).startswith(b"GET /api/v1/projects"), "it was asked"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_the_completion_script_of_a_shell_calls_this_program(config: Path, shell: str) -> None:
    script = ringi(config, "completion", shell)
    assert script.returncode == 0
    assert "_RINGI_COMPLETE" in script.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script.stdout, text=True, check=True)


def test_a_name_without_a_project_means_the_project_of_the_context(platform: Platform, config: Path) -> None:
    platform.as_("contributor").datasets.create("support", "faq")
    bare = ringi(config, "datasets", "versions", "faq", "--profile", "contributor", "--json")
    assert (bare.returncode, json.loads(bare.stderr)["code"]) == (2, "bad_reference")
    assert ringi(config, "context", "set", "--project", "support", "--profile", "contributor").returncode == 0
    # The profile stands behind the name here, and counts all the same.
    assert json.loads(ringi(config, "datasets", "versions", "faq", "--profile", "contributor", "--json").stdout) == []
    assert json.loads(ringi(config, "datasets", "versions", "faq", "--json", RINGI_PROFILE="contributor").stdout) == []
    other = ringi(config, "datasets", "versions", "faq", "--profile", "contributor", "--json", RINGI_PROJECT="elsewhere")
    assert json.loads(other.stderr)["code"] == "not_found"
    assert ringi(config, "context", "set", "--project", "-", "--profile", "contributor").returncode == 0
    assert ringi(config, "datasets", "versions", "faq", "--profile", "contributor").returncode == 2


def test_the_current_profile_is_used_until_another_is_named(platform: Platform, config: Path) -> None:
    assert ringi(config, "context", "use", "reviewer").returncode == 0
    assert json.loads(ringi(config, "whoami", "--json").stdout)["name"] == "reviewer"
    assert json.loads(ringi(config, "whoami", "--json", "--profile", "contributor").stdout)["name"] == "contributor"
    shown = json.loads(ringi(config, "context", "list", "--json").stdout)
    assert [(one["profile"], one["current"]) for one in shown] == [("contributor", False), ("reviewer", True)]
    assert platform.tokens["reviewer"] not in ringi(config, "context", "list", "--json").stdout


def test_a_removed_profile_is_gone_and_is_current_no_more(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    save_profile(path, "a", Profile(server="http://127.0.0.1:1", token="t"), replace=False)
    use_profile(path, "a")
    remove_profile(path, "a")
    assert read_config(path).current is None
    assert target({"RINGI_CONFIG": str(path)}, profile=None).token is None
    for change in (use_profile, remove_profile):
        with pytest.raises(NoSuchProfile):
            change(path, "a")


def test_a_result_is_the_same_document_in_json_and_yaml(config: Path) -> None:
    whoami = {form: ringi(config, "whoami", "--profile", "contributor", "-o", form).stdout for form in ("json", "yaml", "table")}
    assert yaml.safe_load(whoami["yaml"]) == json.loads(whoami["json"])
    assert "contributor" in whoami["table"]
    projects = ringi(config, "projects", "list", "--profile", "contributor", "--output", "yaml")
    assert yaml.safe_load(projects.stdout)[0]["display_name"] == "サポート"
    assert "サポート" in projects.stdout


def test_a_refusal_has_the_form_of_the_result(config: Path) -> None:
    refused = ringi(config, "datasets", "versions", "support/none", "--profile", "contributor", "-o", "yaml")
    assert (refused.returncode, yaml.safe_load(refused.stderr)["code"]) == (1, "not_found")
    both = ringi(config, "whoami", "--json", "--output", "yaml")
    assert (both.returncode, "contradict" in both.stderr) == (2, True)
