"""Suites and their sealed versions."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from ringi.cli.asked import Asked, AskedInOrder
from ringi.cli.client import RingiClient
from ringi.cli.commands.suite_canaries import CANARIES, PLANT, canaries, plant
from ringi.cli.commands.suite_words import drawn, ensure, of_validation_rows
from ringi.cli.errors import Usage
from ringi.cli.invocation import Commands, connect, in_project
from ringi.cli.options import Description, Limit, OffTask, SuiteName, SuiteVersion
from ringi.cli.output import emit, emit_list, facts, note, short, table
from ringi.cli.references import parse_dataset_version, parse_suite, parse_suite_version
from ringi.gating.schemas import Tier
from ringi.jobs.contracts.suites import Answering, Item
from ringi.suites.diff import changes, tasks_to_compare
from ringi.suites.harness_files import beside
from ringi.suites.reading import read_document
from ringi.suites.schemas import AddSuiteVersion, AdviceOut
from ringi.suites.shipping import document_of

app = Commands("Suites: sealed questions, how they are answered and scored, and what must hold.")


class ShippedSuite(StrEnum):
    """What comes with Ringi."""

    SAFETY = "safety"
    OFF_TASK = "off-task"


@app.verb("create", "ringi suites create support/quality --description 問い合わせの品質")
def create(name: SuiteName, description: Description = "") -> None:
    """Create a suite without versions."""
    wanted = parse_suite(name)
    with connect() as client:
        made = client.suites.create(wanted.project, wanted.name, description=description)
    emit(made, lambda: facts([("suite", f"{made.project}/{made.name}"), ("description", made.description), ("id", made.id)]))


@app.verb("list", "ringi suites list support", "ringi suites list support --search 品質")
def list_suites(project: str, asked: Asked, limit: Limit = 50) -> None:
    """List the suites of a project."""
    with connect() as client:
        emit_list(
            client.suites.all(project, **asked), limit=limit,
            render=lambda found: table(
                ["suite", "description", "created"], [(f"{one.project}/{one.name}", one.description, one.created_at) for one in found]
            ),
        )  # fmt: skip


@app.verb("versions", "ringi suites versions support/quality")
def versions(name: SuiteName, asked: AskedInOrder, limit: Limit = 50) -> None:
    """List the sealed versions of a suite."""
    wanted = parse_suite(name)
    with connect() as client:
        emit_list(
            client.suites.versions(wanted.project, wanted.name, **asked), limit=limit,
            render=lambda found: table(["version", "tasks", "items", "requirements", "digest", "created"], [
                (one.reference, len(one.document.tasks), one.items, len(one.document.requirements), short(one.digest), one.created_at)
                for one in found
            ]),
        )  # fmt: skip


@app.verb("show", "ringi suites show support/quality", "ringi suites show support/quality:v1 --json")
def show(reference: SuiteVersion) -> None:
    """Show a version: its tasks, their slices, and what they must show."""
    wanted = parse_suite_version(reference)
    with connect() as client:
        version = client.suites.version(wanted.project, wanted.name, wanted.selector or "latest")
    emit(version, lambda: drawn(version))


@app.verb("add", "ringi suites add support/quality suite.yaml", "ringi suites add support/safety --shipped safety --no-off-task")
def add(
    name: SuiteName,
    file: Annotated[
        Path | None, typer.Argument(help="YAML or JSON; items_file names JSON lines beside it (docs/evaluation.md).", show_default=False)
    ] = None,
    shipped: Annotated[ShippedSuite | None, typer.Option(help="In place of a file: one that comes with Ringi.", show_default=False)] = None,
    off_task: Annotated[
        bool | None,
        typer.Option(
            "--off-task/--no-off-task",
            help="Whether the off-task probe is sealed with it; as the file says unless given.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Seal the next version of a suite. Equal content gives the version that exists."""
    wanted = parse_suite(name)
    if (file is None) == (shipped is None):
        raise Usage("A file or --shipped is needed, and not both.", next_step="See: ringi suites add --help.")
    document = _read(file) if file is not None else read_document(document_of(shipped.value if shipped is not None else "safety"))
    if off_task is not None:
        document["off_task"] = off_task
    with connect() as client:
        for task in document.get("tasks") or []:
            if isinstance(task, dict):
                _from_files(client, (file or Path()).parent, task)
        body = AddSuiteVersion.model_validate(document)
        version = client.suites.add_version(wanted.project, wanted.name, body)
    emit(version, lambda: drawn(version))
    if shipped is None and body.off_task and len(version.document.tasks) == len(body.tasks):
        note("It has tasks of an off-task probe of its own: the shipped one is not sealed with it.")


def _from_files(client: RingiClient, folder: Path, task: dict[str, Any]) -> None:
    """Put in what a task names beside its suite: a YAML of lm-evaluation-harness with its data, and its items."""
    told, data = task.get("harness"), None
    if isinstance(told, dict) and "yaml_file" in told:
        told["config"], data = beside(folder, str(told.pop("yaml_file")), task=str(task.get("name")))
    file = folder / str(task.pop("items_file")) if "items_file" in task else data
    if file is not None:
        task["items_digest"] = client.upload(file).digest


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise Usage(f"'{file}' is not a file.", next_step="Name a suite in YAML or JSON.")
    if file.suffix != ".json":
        return read_document(file.read_bytes())
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise Usage(f"'{file}' is no JSON: {error}.", next_step="Mend it.") from None
    return document if isinstance(document, dict) else {}


@app.verb(
    "from-dataset",
    "ringi suites from-dataset support/faq:v3 --choices-from category",
    "ringi suites from-dataset support/faq --answering exact --slices category --name quality",
)
def from_dataset(
    dataset: Annotated[
        str, typer.Argument(metavar="[PROJECT/]DATASET[:vN]", help="Its validation split becomes the items.", callback=in_project)
    ],
    name: Annotated[str | None, typer.Option(help="The suite's name; the dataset's unless given.", show_default=False)] = None,
    choices_from: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Choose among the values of this column.", show_default=False)
    ] = None,
    answering: Annotated[Answering | None, typer.Option(help="Unless there are choices: exact.", show_default=False)] = None,
    slices: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column that makes slices; repeat it.", show_default=False)
    ] = None,
    margin: Annotated[float, typer.Option(help="A loss so large, and larger, is worse; in units of the metric.")] = 0.05,
    tier: Annotated[Tier, typer.Option(help="critical: that it is not worse must be shown.")] = Tier.CRITICAL,
    off_task: OffTask = True,
) -> None:
    """Make a suite of a dataset's validation split, and seal its first version, or the next."""
    source = parse_dataset_version(dataset)
    suite = name or source.name
    wanted = of_validation_rows(
        source, choices_from=choices_from, answering=answering, slices=slices or [], margin=margin, tier=tier, off_task=off_task
    )
    with connect() as client:
        ensure(client, source.project, suite)
        version = client.suites.add_version(source.project, suite, wanted)
    emit(version, lambda: drawn(version))


app.verb("plant", *PLANT)(plant)
app.verb("canaries", *CANARIES)(canaries)


@app.verb("items", "ringi suites items support/quality:v1 --task faq --limit 5")
def items(reference: SuiteVersion, task: Annotated[str, typer.Option(help="The task.")], limit: Limit = 50) -> None:
    """Show the items of a task."""
    wanted = parse_suite_version(reference)
    with connect() as client:
        emit_list(
            client.suites.items(wanted.project, wanted.name, wanted.selector or "latest", task=task), limit=limit,
            render=lambda found: table(["item", "asked", "right", "tags"], [
                (one.id, _asked(one), _right(one), [f"{key}={value}" for key, value in one.tags.items()]) for one in found
            ]),
        )  # fmt: skip


def _asked(item: Item) -> object:
    if item.document is not None:
        return json.dumps(item.document, ensure_ascii=False)
    return item.prompt or (item.messages[-1].content if item.messages else None)


def _right(item: Item) -> object:
    if item.answer is not None:
        return item.choices[item.answer] if item.choices else item.answer
    return list(item.references)


@app.verb("advise", "ringi suites advise support/quality:v1")
def advise(reference: SuiteVersion) -> None:
    """Say what the items can show, before anything is run."""
    wanted = parse_suite_version(reference)
    with connect() as client:
        found = client.suites.advice(wanted.project, wanted.name, wanted.selector or "latest")
    emit(found, lambda: _advised(found))


def _advised(found: AdviceOut) -> RenderableType:
    shares = list(found.advice[0].needed) if found.advice else []
    columns = ["task", "slice", "items", "margin", "finest margin", *(f"needed at {share} flips" for share in shares)]
    rows = [
        (one.task, one.slice or "all", one.items, one.margin, one.finest, *(one.needed[share] for share in shares)) for one in found.advice
    ]
    return table(columns, rows, title=found.reference) if rows else "nothing critical is asked for: nothing must be shown"


@app.verb("diff", "ringi suites diff support/quality:v1 support/quality:v2")
def diff(before: SuiteVersion, now: SuiteVersion) -> None:
    """Show what changed between two versions: tasks, items, requirements."""
    sides = [parse_suite_version(one) for one in (before, now)]
    with connect() as client:
        old, new = (client.suites.version(one.project, one.name, one.selector or "latest") for one in sides)
        both = {
            task: tuple(
                list(client.suites.items(one.project, one.name, f"v{version.number}", task=task))
                for one, version in zip(sides, (old, new), strict=True)
            )
            for task in tasks_to_compare(old.document, new.document)
        }
    found = changes(old.document, new.document, {task: (pair[0], pair[1]) for task, pair in both.items()})
    if not found:
        note("The versions are the same.")
    emit([one._asdict() for one in found], lambda: table(["where", "what", "before", "now"], found))
