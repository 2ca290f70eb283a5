"""Read, prepare, divide and seal an uploaded dataset. The rules are in platform/ringi/datasets: reading, preparation, validation."""

import json
from pathlib import Path

from sqlalchemy.orm import Session

from ringi.datasets import service
from ringi.datasets.contents import Row, from_sealed
from ringi.datasets.preparation import lengths_of, prepare, scripts_of
from ringi.datasets.validation import Sides, Split, as_json_lines, normalise, read_rows, validate_and_split
from ringi.jobs.contracts.datasets import DatasetReport, Kept, Recipe, ValidateDatasetPayload, ValidateDatasetResult
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.models import Job
from ringi.retraining import service as retraining
from ringi_workers.datasets.near import near_of
from ringi_workers.datasets.parquet import ALL_READERS
from ringi_workers.datasets.personal import look
from ringi_workers.following import JobSink
from ringi_workers.runtime import job
from ringi_workers.workspace import Workspace

_EXAMPLES = 5


def complete(session: Session, finished: Job, result: ValidateDatasetResult) -> None:
    """Seal the version, and note which adapters are to learn from its new rows where the project wants that."""
    version = service.complete(session, finished, result)
    if version is not None:
        retraining.plan(session, finished, version)


@job(JobKind.VALIDATE_DATASET, finish=complete)
def validate_dataset(payload: ValidateDatasetPayload, workspace: Workspace, sink: JobSink) -> ValidateDatasetResult:
    """Read, prepare, report and split; both splits become blobs."""
    sink.report(Progress(phase="reading"))
    kept = payload.kept
    parts = (workspace.fetch(kept.train), workspace.fetch(kept.validation)) if kept is not None else None
    split = divided(payload, workspace.fetch(payload.source), parts, sink)
    sink.report(Progress(phase="sealing"))
    return ValidateDatasetResult(
        report=split.report,
        train=workspace.upload_bytes(as_json_lines(split.train), name="train.jsonl"),
        validation=workspace.upload_bytes(as_json_lines(split.validation), name="validation.jsonl"),
    )


def divided(payload: ValidateDatasetPayload, source: Path, kept: tuple[Path, Path] | None, sink: JobSink) -> Split:
    """The rows of `source`, prepared and divided, and all that was found. Raises what reading, preparing and dividing raise."""
    recipe = payload.recipe
    with source.open("rb") as stream:
        read = read_rows(stream, payload.read_as, readers=ALL_READERS)
    sink.report(Progress(phase="preparing"))
    prepared = prepare(read.rows, recipe)
    looked = look(prepared.rows, recipe)
    sides = sides_of(payload.kept, kept, recipe) if payload.kept is not None and kept is not None else None
    sink.report(Progress(phase="dividing"))
    split = validate_and_split(read._replace(rows=looked.rows), payload.split, sides=sides, near=near_of(recipe))
    rows = [item.row for item in (*split.train, *split.validation)]
    found = {f"personal_data_{kind}": lines for kind, lines in looked.lines.items()}
    further = DatasetReport.model_validate(
        split.report.model_dump()
        | {"prepared": prepared.changed | looked.changed, "personal_data": looked.by_kind, "scripts": scripts_of(rows), "lengths": lengths_of(rows)}
        | {"examples": split.report.examples | found}
    )  # fmt: skip
    return split._replace(report=further)


def sides_of(kept: Kept, parts: tuple[Path, Path], recipe: Recipe) -> Sides:
    """The prompts of an earlier version's two parts, as the recipe of the new version leaves them, so that both are written alike."""
    train, validation = (frozenset(normalise(row.prompt) for row in _prepared(part, recipe)) for part in parts)
    return Sides(kept.version, train, validation)


def _prepared(part: Path, recipe: Recipe) -> list[Row]:
    with part.open("rb") as lines:
        rows = [from_sealed(json.loads(line), number) for number, line in enumerate(lines, start=1)]
    # What was sealed is not judged again: where the recipe refuses personal data it has nothing to say of an earlier version.
    told = recipe if recipe.personal_data == "redact" else recipe.model_copy(update={"personal_data": "ignore"})
    return look(prepare(rows, recipe).rows, told).rows
