"""Datasets: sealed versions of questions and answers, of conversations, of documents."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from ringi.cli.asked import Asked, AskedInOrder
from ringi.cli.client import RingiClient
from ringi.cli.dataset_tables import drawn, traced
from ringi.cli.errors import BadValue, Usage
from ringi.cli.follow import follow, uploading
from ringi.cli.invocation import Commands, connect, in_project
from ringi.cli.options import DatasetName, Description, Detach, IfMatch, Limit
from ringi.cli.output import emit, emit_list, facts, note, short, table
from ringi.cli.references import LATEST, Reference, parse_dataset, parse_dataset_version
from ringi.datasets.schemas import (
    DEFAULT_SPLIT,
    DatasetTerms,
    DatasetVersionAccepted,
    DatasetVersionOut,
    PersonalAction,
    SetDatasetPolicy,
)
from ringi.jobs.contracts.datasets import FileType, Recipe, RowFormat
from ringi.training.schemas import TraceRows

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
def versions(name: DatasetName, asked: AskedInOrder, limit: Limit = 50) -> None:
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
    emit(version, lambda: drawn(version))


Unicode = Literal["keep", "width", "nfkc"]
WhiteSpace = Literal["keep", "tidy"]
NearDuplicates = Literal["ignore", "report", "remove"]


@app.verb(
    "add",
    "ringi datasets add risk/questions questions.jsonl",
    "ringi datasets add risk/questions 質問.csv --unicode nfkc --white-space tidy --near-duplicates remove --personal-data redact",
    "ringi datasets add risk/questions chats.parquet --format chat --licence 'CC BY 4.0' --origin 'support desk, 2025' --retain-until 2028-03-31",
)
def add(
    name: DatasetName,
    file: Annotated[Path, typer.Argument(help="JSON lines, CSV, YAML or Parquet; text in UTF-8.")],
    row_format: Annotated[
        RowFormat | None, typer.Option("--format", help="What its rows are; recognised otherwise.", show_default=False)
    ] = None,
    file_type: Annotated[FileType | None, typer.Option(help="What the file is; recognised otherwise.", show_default=False)] = None,
    validation_fraction: Annotated[
        float, typer.Option(help="Share of the groups of equal prompts that is kept for validation; above 0, below 1.")
    ] = DEFAULT_SPLIT.validation_fraction,
    seed: Annotated[int, typer.Option(min=0, help="Decides the side of new rows; keep it over versions.")] = DEFAULT_SPLIT.seed,
    keep_validation_of: Annotated[
        str, typer.Option(metavar="previous|none|vN", help="The version whose rows keep their side; 'none' divides all anew.")
    ] = "previous",
    unicode: Annotated[Unicode, typer.Option(help="Fold full and half width, or every compatibility form (NFKC).")] = "keep",
    white_space: Annotated[WhiteSpace, typer.Option(help="Write white space in one way.")] = "keep",
    near_duplicates: Annotated[NearDuplicates, typer.Option(help="What becomes of rows that are nearly equal.")] = "report",
    near_threshold: Annotated[float, typer.Option(min=0.5, max=1, help="From which similarity on they are.")] = 0.8,
    personal_data: Annotated[PersonalAction, typer.Option(help="What becomes of e-mail addresses, telephones, My Numbers…")] = "report",
    licence: Annotated[str, typer.Option(help="Under which licence the rows are.")] = "",
    origin: Annotated[str, typer.Option(help="Where they come from.")] = "",
    consent: Annotated[str, typer.Option(help="On which ground they may be used.")] = "",
    retain_until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="The day until which they may be kept.", show_default=False)
    ] = None,
    detach: Detach = False,
) -> None:
    """Upload a file as the next version, and wait until it is prepared, divided and sealed. Equal bytes give the version that exists."""
    wanted = parse_dataset(name)
    if not file.is_file():
        raise Usage(f"'{file}' is not a file.", next_step="Name a file of rows.")
    if not 0 < validation_fraction < 1:
        raise Usage(
            f"A validation fraction of {validation_fraction} is not between 0 and 1.", next_step="Pass e.g. --validation-fraction 0.15."
        )
    recipe = Recipe(
        unicode=unicode,
        white_space=white_space,
        near_duplicates=near_duplicates,
        near_threshold=near_threshold,
        personal_data=personal_data,
    )
    terms = DatasetTerms(licence=licence, origin=origin, consent=consent, retain_until=retain_until.date() if retain_until else None)
    with connect() as client:
        with uploading(f"sending {file.name}") as on_bytes:
            source = client.upload(file, on_bytes=on_bytes).digest
        accepted = client.datasets.seal_source(
            wanted.project, wanted.name, source, validation_fraction=validation_fraction, seed=seed, row_format=row_format, file_type=file_type,
            keep_validation_of=keep_validation_of, recipe=recipe, terms=terms,
        )  # fmt: skip
        if accepted.job_id is not None and detach:
            emit(accepted, lambda: facts([("job", accepted.job_id)]))
            note(f"Follow it: ringi jobs wait {accepted.job_id}.")
            return
        sealed = _awaited(client, wanted, accepted)
    if sealed is not None:
        emit(sealed, lambda: drawn(sealed))


def _awaited(client: RingiClient, wanted: Reference, accepted: DatasetVersionAccepted) -> DatasetVersionOut | None:
    """The version once it is sealed."""
    if accepted.job_id is None:
        note("These bytes were known already; nothing was added.")
        return accepted.version
    job = follow(client, accepted.job_id, f"validation of {wanted}")
    produced = parse_dataset_version(job.produced or "")
    return client.datasets.version(produced.project, produced.name, produced.selector or LATEST)


@app.verb("trace", "ringi datasets trace risk --text 山田太郎", "ringi datasets trace risk/questions --id C-1042")
def trace(
    where: Annotated[str, typer.Argument(metavar="PROJECT[/DATASET]", help="The dataset, or the project for all of its datasets.")],
    text: Annotated[str | None, typer.Option(help="What stands in the rows.", show_default=False)] = None,
    item: Annotated[str | None, typer.Option("--id", help="The id of the row, Ringi's or that of its source.", show_default=False)] = None,
) -> None:
    """Show which rows of which versions hold a text or an id, and which adapters were trained on them. Nothing is deleted."""
    if text is None and item is None:
        raise Usage("Neither a text nor an id was given.", next_step="Pass --text or --id.")
    project, _, dataset = where.partition("/")
    try:
        wanted = TraceRows(text=text, id=item, dataset=dataset or None)
    except ValidationError as error:
        raise BadValue({str(one["loc"][0]): one["msg"] for one in error.errors()}) from None
    with connect() as client:
        found = client.datasets.trace(project, wanted)
    emit(found, lambda: traced(found))


@app.verb("policy", "ringi datasets policy risk", "ringi datasets policy risk --personal-data refuse")
def policy(
    project: str,
    personal_data: Annotated[
        PersonalAction | None, typer.Option(help="What is done with personal data at the least.", show_default=False)
    ] = None,
    if_match: IfMatch = None,
) -> None:
    """Show what a project wants of every new version, or set it."""
    with connect() as client:
        found = client.datasets.policy(project)
        if personal_data is not None:
            wanted = SetDatasetPolicy(personal_data=personal_data)
            found = client.datasets.set_policy(project, wanted, if_match=if_match or str(found.row_version))
    emit(found, lambda: facts([("project", found.project), ("personal data, at the least", found.personal_data)]))
