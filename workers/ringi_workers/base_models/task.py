"""Fingerprint a base revision, and compare two. No torch: config and tensors are read with the standard library and numpy."""

from pathlib import Path

from ringi.base_models import service as base_models
from ringi.base_models.fingerprint_weights import records_to_lines
from ringi.compatibility import service as compatibility
from ringi.jobs.contracts.base_models import CompareBasesPayload, CompareBasesResult, FingerprintPayload, FingerprintResult
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import FileRef, Progress
from ringi_workers.base_models.compare import compare
from ringi_workers.base_models.fingerprint import fingerprint
from ringi_workers.following import JobSink
from ringi_workers.runtime import job
from ringi_workers.workspace import Workspace


@job(JobKind.FINGERPRINT, finish=base_models.complete, failed=base_models.refused)
def fingerprint_base(payload: FingerprintPayload, workspace: Workspace, sink: JobSink) -> FingerprintResult:
    """Parts F1 and F2 of the fingerprint, and what config and tokenizer say."""
    sink.report(Progress(phase="fetching"))
    folder = workspace.fetch_tree(payload.files, name="base")
    sink.report(Progress(phase="hashing"))
    found = fingerprint(folder)
    return FingerprintResult(
        f1=found.f1,
        f1_document=workspace.upload_bytes([found.f1_document], name="f1.json"),
        f2=found.f2,
        tensors=workspace.upload_bytes([records_to_lines(found.records)], name="tensors.jsonl"),
        facts=found.facts,
    )


@job(JobKind.COMPARE_BASES, finish=compatibility.complete)
def compare_bases(payload: CompareBasesPayload, workspace: Workspace, sink: JobSink) -> CompareBasesResult:
    """What differs between two revisions; weights are fetched only where the stored digests cannot tell."""
    sink.report(Progress(phase="comparing"))

    def opened(file: FileRef) -> Path:
        return workspace.fetch(file.digest)

    return compare(payload.old, payload.new, open_old=opened, open_new=opened)
