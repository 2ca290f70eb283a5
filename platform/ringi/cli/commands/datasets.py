"""Datasets and their sealed versions."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ringi.cli.asked import Asked
from ringi.cli.errors import Usage
from ringi.cli.follow import follow, uploading
from ringi.cli.invocation import Commands, connect, in_project
from ringi.cli.options import DatasetName, Description, Detach, Limit
from ringi.cli.output import cell, emit, emit_list, facts, note, short, table
from ringi.cli.references import LATEST, parse_dataset, parse_dataset_version
from ringi.datasets.schemas import DEFAULT_SPLIT, DatasetVersionOut

app = Commands("Datasets: sealed versions of questions and answers.")


@app.verb("create", "ringi datasets create risk/questions --description 問い合わせ")
def create(name: DatasetName, description: Description = "") -> None:
    """Create a dataset without versions."""
    wanted = parse_dataset(name)
    with connect() as client:
        made = client.datasets.create(wanted.project, wanted.name, description=description)
    emit(made, lambda: facts([("dataset", f"{made.project}/{made.name}"), ("description", made.description), ("id", made.id)]))


@app.verb("list", "ringi datasets list risk")
def list_datasets(project: str, asked: Asked, limit: Limit = 50) -> None:
    """List the datasets of a project."""
    with connect() as client:
        emit_list(
            client.datasets.all(project, **asked), limit=limit,
            render=lambda found: table(
                ["dataset", "description", "created"], [(f"{one.project}/{one.name}", one.description, one.created_at) for one in found]
            ),
        )  # fmt: skip


@app.verb("versions", "ringi datasets versions risk/questions")
def versions(name: DatasetName, asked: Asked, limit: Limit = 50) -> None:
    """List the sealed versions of a dataset."""
    wanted = parse_dataset(name)
    columns = ["version", "rows", "train", "validation", "digest", "created"]
    with connect() as client:
        emit_list(
            client.datasets.versions(wanted.project, wanted.name, **asked), limit=limit,
            render=lambda found: table(columns, [
                (one.reference, one.report.rows, one.report.train_rows, one.report.validation_rows, short(one.digest), one.created_at) for one in found
            ]),
        )  # fmt: skip


@app.verb("show", "ringi datasets show risk/questions", "ringi datasets show risk/questions:v1 --json")
def show(
    reference: Annotated[
        str, typer.Argument(metavar="[PROJECT/]DATASET[:vN]", help="A version; the latest without a number.", callback=in_project)
    ],
) -> None:
    """Show a version and what its validation found."""
    wanted = parse_dataset_version(reference)
    with connect() as client:
        version = client.datasets.version(wanted.project, wanted.name, wanted.selector or "latest")
    emit(version, lambda: _drawn(version))


@app.verb(
    "add",
    "ringi datasets add risk/questions questions.jsonl",
    "ringi datasets add risk/questions 質問.jsonl --validation-fraction 0.2 --seed 7",
)
def add(
    name: DatasetName,
    file: Annotated[Path, typer.Argument(help="JSON lines in UTF-8: one object with prompt and completion a line.")],
    validation_fraction: Annotated[
        float, typer.Option(help="Share of the groups of equal prompts that is kept for validation; above 0, below 1.")
    ] = DEFAULT_SPLIT.validation_fraction,
    seed: Annotated[int, typer.Option(min=0, help="Decides the split; keep it over versions.")] = DEFAULT_SPLIT.seed,
    detach: Detach = False,
) -> None:
    """Upload a file as the next version, and wait until it is validated, split and sealed. Equal bytes give the version that exists."""
    wanted = parse_dataset(name)
    if not file.is_file():
        raise Usage(f"'{file}' is not a file.", next_step="Name a JSON lines file.")
    if not 0 < validation_fraction < 1:
        raise Usage(
            f"A validation fraction of {validation_fraction} is not between 0 and 1.", next_step="Pass e.g. --validation-fraction 0.15."
        )
    with connect() as client:
        with uploading(f"sending {file.name}") as on_bytes:
            source = client.upload(file, on_bytes=on_bytes).digest
        accepted = client.datasets.seal_source(wanted.project, wanted.name, source, validation_fraction=validation_fraction, seed=seed)
        if accepted.job_id is not None and detach:
            emit(accepted, lambda: facts([("job", accepted.job_id)]))
            note(f"Follow it: ringi jobs wait {accepted.job_id}.")
            return
        if accepted.job_id is None:
            note("These bytes were known already; nothing was added.")
            sealed = accepted.version
        else:
            job = follow(client, accepted.job_id, f"validation of {wanted}")
            produced = parse_dataset_version(job.produced or "")
            sealed = client.datasets.version(produced.project, produced.name, produced.selector or LATEST)
    if sealed is not None:
        emit(sealed, lambda: _drawn(sealed))


def _drawn(version: DatasetVersionOut) -> Table:
    report = version.report
    found = [
        ("empty rows", report.empty_rows, "empty_rows"),
        ("duplicate rows", report.duplicate_rows, "duplicate_rows"),
        ("pairs that occur more than once", report.duplicated_pairs, "duplicated_pairs"),
        ("prompts with different answers", report.conflicting_prompts, "conflicting_prompts"),
        ("leaks into validation prevented", report.leakage_prevented, "leakage_prevented"),
    ]
    findings = table(["finding", "count", "lines"], [(name, count, report.examples.get(key)) for name, count, key in found])
    tags = table(
        ["tag", "rows by value"],
        [(tag, [f"{value} {cell(n)}" for value, n in values.items()]) for tag, values in report.categories.items()],
    )
    drawn = facts(
        [
            ("version", version.reference),
            ("digest", version.digest),
            ("source", version.source_digest),
            ("rows", f"{report.rows} ({report.unique_pairs} unique pairs, {report.characters:,} characters)"),
            ("train", f"{report.train_rows} rows  {version.train_digest}"),
            ("validation", f"{report.validation_rows} rows  {version.validation_digest}"),
        ]
    )
    whole = Table.grid()
    for part in (drawn, "", findings, "", tags) if report.categories else (drawn, "", findings):
        whole.add_row(part)
    return whole
