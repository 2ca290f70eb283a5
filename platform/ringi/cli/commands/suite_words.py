"""What the verbs of suites share."""

from collections.abc import Sequence

from rich.console import Group, RenderableType

from ringi.cli.client import RingiClient
from ringi.cli.errors import ApiError, Usage
from ringi.cli.output import facts, table
from ringi.cli.references import Reference
from ringi.gating.schemas import Requirement, Tier
from ringi.jobs.contracts.suites import Answering, Decoding
from ringi.suites.schemas import AddSuiteVersion, AddTask, FromDataset, SuiteVersionOut

_METRICS = {Answering.CHOICE: "accuracy", Answering.EXACT: "exact", Answering.LIKELIHOOD: "nll"}


def ensure(client: RingiClient, project: str, suite: str) -> None:
    """Create the suite where there is none."""
    try:
        client.suites.create(project, suite)
    except ApiError as refusal:
        if refusal.code != "suite_exists":
            raise


def of_validation_rows(
    source: Reference, *, choices_from: str | None, answering: Answering | None, slices: Sequence[str], margin: float, tier: Tier, off_task: bool
) -> AddSuiteVersion:  # fmt: skip
    """A suite of one task, named as the dataset: its validation split. Raises Usage where the way of answering needs scorers of its own."""
    way = answering or (Answering.CHOICE if choices_from else Answering.EXACT)
    metric = _METRICS.get(way)
    if metric is None:
        raise Usage(f"Answers by '{way}' need scorers of their own.", next_step="Write a suite in YAML: ringi suites add.")
    mapping = FromDataset(version=f"{source.name}:{source.selector or 'latest'}", slices=list(slices), choices_from=choices_from)
    wanted = Requirement(
        task=source.name, metric=metric, tier=tier, margin=margin, lower_is_better=way is Answering.LIKELIHOOD,
        slices=dict.fromkeys(slices, Tier.SUPPORTING),
    )  # fmt: skip
    task = AddTask.model_validate(
        {"name": source.name, "answering": way, "dataset": mapping, "scorers": [metric], "decoding": Decoding(max_new_tokens=32)}
    )
    return AddSuiteVersion(tasks=[task], requirements=[wanted], off_task=off_task)


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
