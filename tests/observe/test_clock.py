"""A clock that jumps lengthens no lease and shortens no wait: the wall clock of a machine is read where a moment is named, nowhere else."""

import ast
from pathlib import Path

from architecture.lint import ROOT, dotted

WALL_CLOCK = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.datetime.now", "date.today"}
# Where a moment is named, and why a jump does no harm there.
NAMED = {
    "platform/ringi/kit/ids.py": "the first bits of an id give it a place among the others; its last ones make it unique",
    "platform/ringi/embedded/supervise.py": "`ringi status` shows since when a process runs",
    "platform/ringi/web/as_of.py": "a time to come has no past, and the answer says so",
    "platform/ringi/cli/commands/logs.py": "`--since 10m` counts back from now on the caller's machine",
    "workers/ringi_workers/notifications/webhook.py": "a webhook's timestamp is part of what is signed",
    "workers/ringi_workers/tracking.py": "MLflow wants the time of each figure",
}


def test_the_wall_clock_is_read_only_where_a_moment_is_named() -> None:
    found = set()
    for file in (path for root in ("platform", "workers") for path in Path(ROOT, root).rglob("*.py")):
        calls = (node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        if any(dotted(call.func) in WALL_CLOCK for call in calls):
            found.add(file.relative_to(ROOT).as_posix())
    assert found == set(NAMED)
