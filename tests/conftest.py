"""What every test may ask for: a database of its own, a running platform with real processes, and nothing beyond this machine."""

import gc
import os
import socket
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from support.object_store import object_store
from support.postgres import database, migrated_template, postgres_server
from support.running_platform import broker, platform, shared_platform
from support.story import ground, sources

__all__ = ["broker", "database", "ground", "migrated_template", "object_store", "platform", "postgres_server", "shared_platform", "sources"]


# Code of the API that a test calls in its own process finds its key here, and not in the working folder.
os.environ.setdefault("RINGI_PERSONAL_KEY_FILE", str(Path(tempfile.mkdtemp(prefix="ringi-test-key-")) / "personal.key"))


# Thousands of tests are collected in each process, and none of them is garbage.
gc.disable()


def pytest_collection_finish() -> None:
    """What is collected stays to the end; what tests make is looked through as ever."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes a minute or more (marker `long`) begins first, so that the processes of a run end together."""
    long = {_unit(item) for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: _unit(item) not in long)


def _unit(item: pytest.Item) -> str:
    file = item.nodeid.partition("::")[0]
    return _shared_folder(file) or file


class OneProcessForOnePlatform(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """A file goes to one process as a whole. The files of a folder that is a package share a platform, so the folder does."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return _shared_folder(file) or file


@cache
def _shared_folder(file: str) -> str | None:
    folder = Path(file).parent
    return str(folder) if (Path(__file__).parents[1] / folder / "__init__.py").exists() else None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneProcessForOnePlatform:
    """How a run in several processes is divided."""
    return OneProcessForOnePlatform(config, log)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Whether the audit log was also checked by code that is not ours; published figures need `ran`."""
    reports = [report for found in terminalreporter.stats.values() for report in found if isinstance(report, pytest.TestReport)]
    said = {str(value) for report in reports for name, value in report.user_properties if name == "independent verifier"}
    for value in sorted(said):
        terminalreporter.write_line(f"independent verifier: {value}")


_connect = socket.socket.connect
_LOCAL = ("127.0.0.1", "::1", "localhost")


def _connect_here(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in _LOCAL:
        pytest.fail(f"a test tried to connect to {address[0]}")
    _connect(self, address)


# replaces: the one door to the network, so that no test can depend on what is beyond this machine.
socket.socket.connect = _connect_here  # type: ignore[method-assign, assignment]
