"""Profiles: one private file, and the variables that override it."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ringi.cli.contexts import (
    BadServer,
    ConfigUnusable,
    NoSuchProfile,
    Profile,
    ProfileExists,
    Target,
    clean_server,
    config_path,
    read_profiles,
    save_profile,
    target,
)

HERE, THERE = "http://127.0.0.1:8400", "https://ringi.example.org"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "config.json"


def environ_of(config: Path, **more: str) -> dict[str, str]:
    return {"RINGI_CONFIG": str(config), **more}


def test_a_saved_profile_is_readable_by_its_owner_alone_and_leaves_nothing_aside(config: Path) -> None:
    before = os.umask(0)
    try:
        save_profile(config, "default", Profile(server=HERE, token="hf_rgiX"), replace=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert stat.S_IMODE(config.parent.stat().st_mode) == 0o700
    assert {file.name for file in config.parent.iterdir()} == {"config.json", ".config.json.lock"}


def test_profiles_saved_by_many_processes_at_once_are_all_kept(config: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from ringi.cli.contexts import *\n"
        "save_profile(Path(sys.argv[1]), sys.argv[2], Profile(server='http://127.0.0.1:1', token=sys.argv[2]), replace=False)"
    )
    names = [f"p{number}" for number in range(8)]
    writers = [subprocess.Popen([sys.executable, "-c", program, str(config), name]) for name in names]
    assert [writer.wait(timeout=60) for writer in writers] == [0] * 8
    assert sorted(read_profiles(config)) == names


def test_a_profile_is_not_overwritten_unless_asked(config: Path) -> None:
    save_profile(config, "default", Profile(server=HERE, token="first"), replace=False)
    with pytest.raises(ProfileExists):
        save_profile(config, "default", Profile(server=HERE, token="second"), replace=False)
    assert read_profiles(config)["default"].token == "first"
    save_profile(config, "default", Profile(server=HERE, token="second"), replace=True)
    assert read_profiles(config)["default"].token == "second"


def test_variables_override_the_profile_and_a_chosen_profile_the_default_one(config: Path) -> None:
    save_profile(config, "default", Profile(server=HERE, token="mine"), replace=False)
    save_profile(config, "reviewer", Profile(server=THERE, token="theirs"), replace=False)
    assert target(environ_of(config), profile=None) == Target(HERE, "mine", "default")
    assert target(environ_of(config, RINGI_PROFILE="reviewer"), profile=None) == Target(THERE, "theirs", "reviewer")
    assert target(environ_of(config, RINGI_PROFILE="reviewer"), profile="default") == Target(HERE, "mine", "default")
    assert target(environ_of(config, RINGI_TOKEN="other"), profile=None) == Target(HERE, "other", "default")


def test_a_profiles_token_goes_to_no_other_server(config: Path) -> None:
    save_profile(config, "default", Profile(server=HERE, token="mine"), replace=False)
    assert target(environ_of(config, RINGI_SERVER=THERE), profile=None) == Target(THERE, None, "default")
    assert target(environ_of(config, RINGI_SERVER=HERE + "/"), profile=None).token == "mine"


def test_without_any_profile_the_local_server_is_meant_and_there_is_no_token(config: Path) -> None:
    assert target(environ_of(config), profile=None) == Target("http://127.0.0.1:8400", None, "default")
    with pytest.raises(NoSuchProfile, match="no profile 'reviewer'"):
        target(environ_of(config), profile="reviewer")


def test_a_file_that_others_may_read_is_refused_with_the_command_that_closes_it(config: Path) -> None:
    save_profile(config, "default", Profile(server=HERE, token="mine"), replace=False)
    config.chmod(0o644)
    with pytest.raises(ConfigUnusable) as refusal:
        read_profiles(config)
    assert refusal.value.next_step == f"Close it: chmod 600 {config}."


@pytest.mark.parametrize("content", ["", "{", "[]", '{"profiles": {"default": {"server": "x"}}}', "\udcff"])
def test_a_damaged_file_is_refused_and_never_silently_replaced(config: Path, content: str) -> None:
    config.parent.mkdir()
    config.write_bytes(content.encode("utf-8", "surrogateescape"))
    config.chmod(0o600)
    with pytest.raises(ConfigUnusable):
        save_profile(config, "default", Profile(server=HERE, token="mine"), replace=True)
    assert config.read_bytes() == content.encode("utf-8", "surrogateescape")


def test_the_file_lies_where_the_environment_says(tmp_path: Path) -> None:
    assert config_path({"RINGI_CONFIG": "/x/y.json"}) == Path("/x/y.json")
    assert config_path({"XDG_CONFIG_HOME": str(tmp_path)}) == tmp_path / "ringi" / "config.json"
    assert config_path({}) == Path.home() / ".config" / "ringi" / "config.json"


@pytest.mark.parametrize("text", ["ringi.example.org", "ftp://x", "http://", "http://user:secret@x", "http://x:99999", "http://x/?a=1", ""])
def test_what_is_no_servers_address_is_refused(text: str) -> None:
    with pytest.raises(BadServer):
        clean_server(text)
