"""Forecast a workload on a registered base, and look at a run before a worker is taken. The rules are checks.py; what is known, known.py."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from ringi.base_models.models import BaseRevision
from ringi.datasets.models import Dataset, DatasetVersion
from ringi.fleet import service as fleet
from ringi.fleet.models import Worker
from ringi.fleet.schemas import Device
from ringi.identity.models import Project
from ringi.identity.permissions import visible
from ringi.jobs.contracts.base_models import BaseFacts
from ringi.jobs.contracts.datasets import DatasetReport
from ringi.jobs.contracts.kinds import Queue
from ringi.jobs.contracts.parts import FileRef
from ringi.jobs.contracts.training import Gravity, PreflightFinding
from ringi.kit.actor import Actor
from ringi.kit.errors import Conflict, NotFound
from ringi.preflight import known
from ringi.preflight.checks import Facts, WorkerMemory, examine
from ringi.preflight.estimating import Known, Machine, estimate, machines, require_targets, worker_machine
from ringi.preflight.lengths import Lengths
from ringi.preflight.memory import memory_of
from ringi.preflight.prices import read_prices
from ringi.preflight.schemas import AskEstimate, Estimate, Precision, PreflightOut, Workload
from ringi.preflight.shapes import Shape
from ringi.settings import get_settings
from ringi.tags.models import Tag
from ringi.web.selectors import number_of

# Either spelling of the tag that names a dataset's licence.
_LICENCE = ("license", "licence")


class RunRefused(Conflict):
    """The run would waste its worker. `details['reasons']` has every finding, the warnings too."""

    code = "training_preflight_refused"

    def __init__(self, findings: Sequence[PreflightFinding]) -> None:
        refused = [one for one in findings if one.gravity is Gravity.REFUSE]
        super().__init__(
            " ".join(["The run was not started.", *(one.message for one in refused)]),
            next_step=" ".join([*(one.next_step for one in refused if one.next_step), "All that was found: ringi train … --check."]),
            details={"reasons": [one.model_dump(mode="json") for one in findings]},
        )


def forecast(session: Session, actor: Actor, *, revision: BaseRevision, ask: AskEstimate) -> Estimate:
    """What a workload needs on a registered base, on the kinds asked for, or on all of them and the registered workers' own devices.

    Raises UnknownShape, ShapeInvalid, EstimateTargetsUnmatched, PriceTableInvalid, and NotFound for a dataset that is not in sight.
    """
    shape = known.shape_of_base(revision)
    work = ask.workload
    require_targets(shape, work)
    if ask.dataset is not None:
        work = _measured(session, actor, work, revision, _dataset(session, actor, ask.dataset))
    devices = machines(ask.gpu) + ([] if ask.gpu else _machines(fleet.seen(session, actor)))
    return _estimate(session, actor, revision=revision, shape=shape, work=work, devices=devices)


def _dataset(session: Session, actor: Actor, reference: str) -> DatasetVersion:
    project, _, rest = reference.partition("/")
    name, _, selector = rest.partition(":")
    query = (
        visible(actor, DatasetVersion)
        .join(Dataset, Dataset.id == DatasetVersion.dataset_id)
        .join(Project, Project.id == Dataset.project_id)
    )
    query = query.where(Project.name == project, Dataset.name == name).options(joinedload(DatasetVersion.dataset))
    number = number_of(selector, "v") if selector else None
    if selector not in {"", "latest"} and number is None:
        raise NotFound("dataset version", reference)
    if number is not None:
        query = query.where(DatasetVersion.number == number)
    version = session.scalars(query.order_by(DatasetVersion.number.desc()).limit(1)).one_or_none()
    if version is None:
        raise NotFound("dataset version", reference)
    return version


def _estimate(
    session: Session, actor: Actor, *, revision: BaseRevision, shape: Shape, work: Workload, devices: Sequence[Machine]
) -> Estimate:
    stored = sum(file.size for file in map(FileRef.model_validate, revision.files))
    facts = Known(read_prices(get_settings().price_table), known.samples(session, actor), revision.digest, stored)
    return estimate(shape, work, facts, base=f"{revision.base_model.name}:r{revision.number}", devices=devices)


def _machines(seen: Sequence[fleet.Seen]) -> list[Machine]:
    """Each device of the registered workers that train, once."""
    trains = [one.worker for one in seen if Queue.GPU in one.worker.queues]
    return list(dict.fromkeys(worker_machine(one.device, one.device_name, one.memory_bytes) for one in trains))


class Planned(NamedTuple):
    """A run before it starts: on what, what it needs, on which kind of device; `known_labels` of the version that it goes on from, `patterns` with a rank or alpha of their own."""

    revision: BaseRevision
    dataset: DatasetVersion
    work: Workload
    device: Device | None
    known_labels: tuple[str, ...] = ()
    patterns: frozenset[str] = frozenset()


def findings(session: Session, actor: Actor, run: Planned) -> list[PreflightFinding]:
    """What is to be said of a run before it starts; reads sealed bytes, and writes nothing."""
    return examine(_facts(session, actor, run))


def check(session: Session, actor: Actor, run: Planned) -> PreflightOut:
    """The dry run: the findings, and the forecast on the registered workers' devices. Raises PriceTableInvalid."""
    facts = _facts(session, actor, run)
    found = examine(facts)
    shown = None
    if facts.shape is not None:
        devices = _machines(fleet.seen(session, actor)) or machines()
        work = _longest_of(_measured(session, actor, facts.work, run.revision, run.dataset), facts.lengths)
        # One forecast of memory is shown for all: where they would compute differently, that of a GPU.
        computing = {_precision(one, facts.base) for one in _trainers(session, actor, run.device)}
        if len(computing) == 1:
            work = work.model_copy(update={"precision": computing.pop()})
        shown = _estimate(session, actor, revision=run.revision, shape=facts.shape, work=work, devices=devices)
    return PreflightOut(refused=any(one.gravity is Gravity.REFUSE for one in found), findings=found, estimate=shown)


def _measured(session: Session, actor: Actor, work: Workload, revision: BaseRevision, dataset: DatasetVersion) -> Workload:
    """The workload with its rows, and with their tokens as an earlier run of the same rows counted them, or as the sample says.

    What was given with the workload stays.
    """
    lengths = _lengths(revision, dataset, work)
    counted = known.tokens_seen(known.samples(session, actor), base=revision.digest, rows=dataset.train_digest)
    tokens: tuple[float, float] | None = None
    # What a language model read of these rows is not what a classifier reads of them.
    if counted is not None and work.classes is None:
        tokens = counted.tokens_per_row, counted.label_tokens_per_row
    elif lengths is not None and lengths.mean > 0 and lengths.mean_answer > 0:
        tokens = lengths.mean, lengths.mean_answer
    update: dict[str, object] = {"rows": work.rows or DatasetReport.model_validate(dataset.report).train_rows}
    if tokens is not None:
        whole, answer = (min(one, float(work.max_length)) for one in tokens)
        update |= {"tokens_per_row": work.tokens_per_row or whole, "label_tokens_per_row": work.label_tokens_per_row or answer}
    return work.model_copy(update=update)


def _facts(session: Session, actor: Actor, run: Planned) -> Facts:
    revision, dataset, work, device, known_labels, patterns = run
    shape, why = known.shape_or_why(revision)
    base = BaseFacts.model_validate(revision.facts) if revision.facts else None
    labels = known.labels_of(dataset) if work.classes is not None else None
    if labels is not None:
        work = work.model_copy(update={"classes": max(1, len(known_labels or labels.train))})
    if shape is not None and work.classes is not None:
        shape = shape.with_head_for(work.classes)
    lengths = _lengths(revision, dataset, work)
    longest = _longest_of(work, lengths)
    workers = [_worker_memory(one, shape, _on(longest, one, base)) for one in _trainers(session, actor, device)]
    return Facts(
        work=work, shape=shape, why_unknown=why, modules=frozenset() if shape is not None else known.linear_modules(revision), base=base,
        report=DatasetReport.model_validate(dataset.report), licence=_licence(session, dataset), lengths=lengths, workers=workers,
        labels=labels, known_labels=known_labels, patterns=patterns,
    )  # fmt: skip


def _longest_of(work: Workload, lengths: Lengths | None) -> Workload:
    """The longest row of the sample stands for the longest batch; what a template adds is not counted (lengths.py), but by runs that were measured."""
    if lengths is None:
        return work
    longest = max(8, lengths.longest, ceil(work.tokens_per_row or 0))
    return work.model_copy(update={"max_length": min(work.max_length, longest)})


def _lengths(revision: BaseRevision, dataset: DatasetVersion, work: Workload) -> Lengths | None:
    """Of what the run reads of the rows."""
    lengths = known.lengths_of(revision, dataset)
    return lengths.texts if lengths is not None and work.classes is not None else lengths


def _on(work: Workload, worker: Worker, base: BaseFacts | None) -> Workload:
    """The workload in the precision that the worker will choose (`base_dtype` of the training worker)."""
    return work.model_copy(update={"precision": _precision(worker, base)})


def _precision(worker: Worker, base: BaseFacts | None) -> Precision:
    half = worker.device == Device.CUDA or (base is not None and set(base.dtypes) == {"BF16"})
    return Precision.BF16 if half else Precision.FP32


def _trainers(session: Session, actor: Actor, device: Device | None) -> list[Worker]:
    """The registered workers that may get the run."""
    return [one.worker for one in fleet.seen(session, actor) if Queue.GPU in one.worker.queues and device in {None, one.worker.device}]


def _worker_memory(worker: Worker, shape: Shape | None, work: Workload) -> WorkerMemory:
    machine = worker_machine(worker.device, worker.device_name, worker.memory_bytes)
    needs = memory_of(shape, work, device=machine.kind) if shape is not None else None
    return WorkerMemory(worker.name, worker.memory_bytes, needs)


def _licence(session: Session, version: DatasetVersion) -> str | None:
    """What was sealed with the version, or else what its tag `license` says, or the dataset's."""
    if version.licence:
        return version.licence
    # unscoped: the caller holds the dataset already.
    query = select(Tag.object_id, Tag.value).where(
        Tag.object_id.in_([version.id, version.dataset_id]), Tag.key.in_(_LICENCE), Tag.value != ""
    )
    said: dict[UUID, str] = {one.object_id: one.value for one in session.execute(query)}
    return said.get(version.id) or said.get(version.dataset_id)
