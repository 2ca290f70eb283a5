"""Validate and split an uploaded dataset. The rule is platform/ringi/datasets/validation.py."""

from ringi.datasets import service
from ringi.datasets.validation import as_json_lines, read_rows, validate_and_split
from ringi.jobs.contracts.datasets import ValidateDatasetPayload, ValidateDatasetResult
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import Progress
from ringi_workers.following import JobSink
from ringi_workers.runtime import job
from ringi_workers.workspace import Workspace


@job(JobKind.VALIDATE_DATASET, finish=service.complete)
def validate_dataset(payload: ValidateDatasetPayload, workspace: Workspace, sink: JobSink) -> ValidateDatasetResult:
    """Read, report and split; both splits become blobs."""
    sink.report(Progress(phase="reading"))
    with workspace.fetch(payload.source).open("rb") as stream:
        split = validate_and_split(read_rows(stream), payload.split)
    sink.report(Progress(phase="sealing"))
    return ValidateDatasetResult(
        report=split.report,
        train=workspace.upload_bytes(as_json_lines(split.train), name="train.jsonl"),
        validation=workspace.upload_bytes(as_json_lines(split.validation), name="validation.jsonl"),
    )
