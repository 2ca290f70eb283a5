"""A clock that jumps lengthens no lease and shortens no wait: the wall clock of a machine is read where a moment is named, nowhere else."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from architecture.lint import ROOT, Function, dotted

WALL_CLOCK = {f"time.{name}" for name in ("time", "time_ns", "ctime", "localtime", "gmtime")} | {
    f"datetime.{name}" for name in ("datetime.now", "datetime.utcnow", "datetime.today", "date.today")
}
# Where a moment is named, and why a jump does no harm there.
NAMED = {
    "platform/ringi/kit/ids.py:uuid7": "the first bits of an id give it a place among the others; its last ones make it unique",
    "platform/ringi/embedded/supervise.py:_spawn": "`ringi status` shows since when a process runs",
    "platform/ringi/web/as_of.py:past": "a time to come has no past, and the answer says so",
    "platform/ringi/backup/take.py:_filled": "a backup says when it was taken",
    "platform/ringi/cli/bearer.py:over_at": "a saved login says when its token ends; the server's refusal renews it as well",
    "platform/ringi/cli/bearer.py:auth_flow": "whether that is soon: a jump renews a token too early, or the server's refusal renews it",
    "platform/ringi/cli/commands/members.py:list_roles": "`--ending-within 30` counts from now on the caller's machine",
    "platform/ringi/monitor/main.py:_write_metrics": "its figures say when it looked last",
    "platform/ringi/succession/__main__.py:propose": "a proposal says when it was made, beside what the database says",
    "platform/ringi/witness/protocol.py:__init__": "a cosignature holds the time of the witness (C2SP tlog-cosignature)",
    "platform/ringi/cli/commands/logs.py:parse_since": "`--since 10m` counts back from now on the caller's machine",
    "workers/ringi_workers/evaluation/grading/judge.py:_retry_after": "a judge's Retry-After may be a date; the judge waits for its longest wait at most",
    "workers/ringi_workers/notifications/webhook.py:_wait_s": "a receiver's Retry-After may be a date; it is granted for a day at most",
    "workers/ringi_workers/tracking.py:log": "MLflow wants the time of each figure",
}


def readings(source: str) -> Iterator[str]:
    """The function around every mention of the wall clock, called or handed on, under whatever name it was imported."""
    tree = ast.parse(source)
    names = {
        alias.asname or alias.name: f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }

    def within(node: ast.AST, function: str) -> Iterator[str]:
        inner = node.name if isinstance(node, Function) else function
        if isinstance(node, ast.Name | ast.Attribute):
            first, _, rest = dotted(node).partition(".")
            if first in names and ".".join(filter(None, (names[first], rest))) in WALL_CLOCK:
                yield inner
        for child in ast.iter_child_nodes(node):
            yield from within(child, inner)

    yield from within(tree, "")


def test_the_wall_clock_is_read_only_where_a_moment_is_named() -> None:
    files = (path for root in ("platform", "workers") for path in Path(ROOT, root).rglob("*.py"))
    found = Counter(
        f"{file.relative_to(ROOT).as_posix()}:{function}" for file in files for function in readings(file.read_text(encoding="utf-8"))
    )
    assert found == dict.fromkeys(NAMED, 1)


@pytest.mark.parametrize(
    "reading",
    [
        "import time\n\ndef f():\n    return time.time()",
        "from time import time\n\ndef f():\n    return time()",
        "from time import time_ns as now\n\ndef f():\n    return now()",
        "import datetime as d\n\ndef f():\n    return d.datetime.now(d.UTC)",
        "from datetime import datetime\n\ndef f():\n    return field(default_factory=datetime.now)",
    ],
    ids=["called", "imported by name", "renamed", "the module renamed", "handed on"],
)
def test_a_reading_is_found_however_it_is_written(reading: str) -> None:
    assert list(readings(reading)) == ["f"]


def test_other_clocks_and_other_peoples_names_are_none() -> None:
    assert (
        list(readings("import time\nfrom datetime import datetime\ntime.monotonic(), datetime.fromisoformat(text), row.time.time()")) == []
    )
