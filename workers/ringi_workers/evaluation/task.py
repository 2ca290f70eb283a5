"""The evaluation job: answer every item with both arms and bring the records home. Judged by platform/ringi/evaluation/verdict.py."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from ringi.evaluation import service
from ringi.jobs.contracts.evaluation import Arm, EvaluatePayload, EvaluateResult, ItemRecord
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import Progress
from ringi_workers.adapters.full_weights import is_full_weights
from ringi_workers.evaluation.arms import ArmFolders, load_arms
from ringi_workers.evaluation.classify import classifies, evaluate_classes, load_class_arm
from ringi_workers.evaluation.engine import answering_facts
from ringi_workers.evaluation.generate import evaluate
from ringi_workers.following import JobSink
from ringi_workers.runtime import job
from ringi_workers.tracking import mirror
from ringi_workers.workspace import Workspace


@job(JobKind.EVALUATE, finish=service.complete)
def evaluate_version(payload: EvaluatePayload, workspace: Workspace, sink: JobSink) -> EvaluateResult:
    """Records of all items, as one JSON lines blob."""
    begun = time.monotonic()
    sink.report(Progress(phase="fetching"))
    candidate, baseline = (
        _folders(workspace, arm, side) for arm, side in ((payload.candidate, "candidate"), (payload.baseline, "baseline"))
    )
    sink.report(Progress(phase="loading"))
    subject = payload.candidate.adapter.name.partition(":")[0] if payload.candidate.adapter else payload.candidate.base.name
    sink.mirror = mirror(
        experiment=f"{workspace.job.organization_id}/{subject}",
        name=f"evaluation {payload.evaluation_id}", parameters={"rows": payload.rows, "max_new_tokens": str(payload.max_new_tokens)},
        tags={"ringi.evaluation": str(payload.evaluation_id)},
    )  # fmt: skip
    found = _answered(payload, candidate, baseline, workspace.fetch(payload.rows), sink)
    counted = _Counted(found.records)
    file = workspace.upload_bytes(counted.lines(), name="records.jsonl")
    counted.log(sink)
    runtime = answering_facts(found.device, found.dtype)
    return EvaluateResult(
        records=file, items=counted.items, seconds=time.monotonic() - begun, runtime=runtime, mlflow_run_id=sink.mirror.run_id
    )


class _Answered(NamedTuple):
    """Records as they are made, and in what."""

    records: Iterator[ItemRecord]
    device: torch.device
    dtype: torch.dtype


def _answered(payload: EvaluatePayload, candidate: ArmFolders, baseline: ArmFolders, rows: Path, sink: JobSink) -> _Answered:
    if candidate.adapter is not None and classifies(candidate.adapter):
        first = load_class_arm(candidate.base, candidate.adapter)
        second = load_class_arm(baseline.base, baseline.adapter) if baseline.adapter is not None else None
        records = evaluate_classes(first, second, rows, max_length=payload.max_length, batch_size=payload.batch_size, sink=sink)
        return _Answered(records, first.device, first.model.dtype)
    arms = load_arms(candidate, baseline)
    records = evaluate(
        arms.candidate, arms.baseline, rows, max_new_tokens=payload.max_new_tokens, max_length=payload.max_length, batch_size=payload.batch_size,
        sink=sink,
    )  # fmt: skip
    return _Answered(records, arms.candidate.device, arms.candidate.model.dtype)


def _folders(workspace: Workspace, arm: Arm, side: str) -> ArmFolders:
    adapter = workspace.fetch_tree(arm.adapter.files, name=side) if arm.adapter else None
    if adapter is not None and is_full_weights(adapter):
        return ArmFolders(adapter, None)
    return ArmFolders(workspace.base(arm.base), adapter)


class _Counted:
    """Records on their way into the blob, counted and averaged for the metrics sink."""

    def __init__(self, records: Iterator[ItemRecord]) -> None:
        self._records = records
        self.items = 0
        self._sums = {"candidate_nll": 0.0, "baseline_nll": 0.0}
        self._scored = 0

    def lines(self) -> Iterator[bytes]:
        """One JSON line a record."""
        for record in self._records:
            self.items += 1
            if record.candidate.nll is not None and record.baseline.nll is not None:
                self._scored += 1
                self._sums["candidate_nll"] += record.candidate.nll
                self._sums["baseline_nll"] += record.baseline.nll
            yield record.model_dump_json().encode() + b"\n"

    def log(self, sink: JobSink) -> None:
        """Mean likelihoods over the scored items; nothing when nothing was scored."""
        if self._scored:
            sink.log({name: total / self._scored for name, total in self._sums.items()}, self.items)
