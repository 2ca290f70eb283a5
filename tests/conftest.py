"""What every test may ask for: a database of its own, a running platform with real processes, and nothing beyond this machine."""

import socket
from typing import Any

import pytest

from support.object_store import object_store
from support.postgres import database, migrated_template, postgres_server
from support.running_platform import broker, platform, shared_platform
from support.story import ground, sources

__all__ = ["broker", "database", "ground", "migrated_template", "object_store", "platform", "postgres_server", "shared_platform", "sources"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take a minute or more (marker `long`) begin first, so that the processes of a run end together."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


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
