"""Every command explains itself, with an example that the program itself accepts as its own."""

import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest

from ringi.cli.main import COMMANDS, load


def walk() -> dict[str, Any]:
    """Every command by the words that call it."""
    found: dict[str, Any] = {}
    for name in COMMANDS:
        command = load(name)
        inner = getattr(command, "commands", None)
        found.update({f"{name} {verb}": one for verb, one in inner.items()} if inner else {name: command})
    return found


WALKED = walk()


@pytest.mark.parametrize("words", WALKED)
def test_every_command_has_help_json_and_an_example_of_itself(words: str) -> None:
    command = WALKED[words]
    assert command.help
    assert {option for param in command.params for option in param.opts} >= {"--json", "--profile"}
    examples = [line.strip() for line in command.epilog.split("\n\n")[1:]]
    assert examples
    for example in examples:
        assert f"ringi {words}" in example
        _, _, arguments = example.replace("\\[", "[").partition(f"ringi {words}")
        given = shlex.split(re.split(r"<| >>? |\) ", arguments)[0])
        # Parses the example with the command's own parser; a wrong option or a missing argument raises.
        command.make_context(words, given)


@pytest.mark.parametrize("words", WALKED)
def test_every_argument_and_option_is_described(words: str) -> None:
    bare = {"name", "project", "user", "role", "weight_decay"}
    missing = [param.name for param in WALKED[words].params if not getattr(param, "help", None) and param.name not in bare]
    assert missing == []


def test_the_table_of_commands_says_where_each_is() -> None:
    assert len(WALKED) > len(COMMANDS)
    for name, entry in COMMANDS.items():
        assert entry.verb is not hasattr(load(name), "commands"), name


def ringi(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from ringi.cli.main import run; run()", *arguments],
        capture_output=True, text=True, encoding="utf-8", check=False, env=os.environ | environment,
    )  # fmt: skip


def test_help_loads_neither_the_client_nor_the_web_framework() -> None:
    program = "import sys\nfrom ringi.cli.main import run\ntry: run(['--help'])\nexcept SystemExit: print('LOADED', *sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8", check=True)
    loaded = done.stdout.rpartition("LOADED")[2].split()
    assert not {"httpx", "fastapi", "sqlalchemy", "ringi.cli.client"} & set(loaded)
    assert "approvals" in done.stdout


def test_a_wrong_command_or_option_ends_with_code_2() -> None:
    assert ringi("aprovals").returncode == 2
    assert "Did you mean 'approvals'" in ringi("aprovals").stderr
    assert ringi("train", "risk/answers").returncode == 2


def test_the_program_says_its_version() -> None:
    assert ringi("--version").stdout.strip() == importlib.metadata.version("ringi")


def test_help_is_shown_in_a_c_locale_too() -> None:
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = ringi("--help", **plain)
    assert done.returncode == 0
    assert "稟議" in done.stdout
