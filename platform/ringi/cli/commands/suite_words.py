"""What the verbs of suites share."""

from rich.console import Group, RenderableType

from ringi.cli.client import RingiClient
from ringi.cli.errors import ApiError
from ringi.cli.output import facts, table
from ringi.suites.schemas import SuiteVersionOut


def ensure(client: RingiClient, project: str, suite: str) -> None:
    """Create the suite where there is none."""
    try:
        client.suites.create(project, suite)
    except ApiError as refusal:
        if refusal.code != "suite_exists":
            raise


def drawn(version: SuiteVersionOut) -> RenderableType:
    """A version and its tasks."""
    tasks = table(
        ["task", "answered by", "items", "metrics", "slices"],
        [
            (
                task.name, task.answering, task.count, [one.metric for one in task.scorers],
                [f"{name} ({count})" for name, count in list(version.facts[task.name].slices.items())[:12]],
            )
            for task in version.document.tasks
        ],
    )  # fmt: skip
    wanted = table(
        ["task", "metric", "tier", "margin", "slices", "floor", "must pass"],
        [
            (one.task, one.metric, one.tier, one.margin, [f"{name}: {tier}" for name, tier in one.slices.items()], one.floor, len(one.must_pass) or None)
            for one in version.document.requirements
        ],
    )  # fmt: skip
    return Group(facts([("version", version.reference), ("digest", version.digest), ("items", version.items)]), "", tasks, "", wanted)
