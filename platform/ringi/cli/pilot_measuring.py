"""What a pilot measures of its arms: one sweep over base and versions, found where there is one already, and what each arm came to."""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from ringi.cli.client import RingiClient
from ringi.cli.commands.suite_words import ensure, of_validation_rows
from ringi.cli.commands.sweep import followed
from ringi.cli.errors import ApiError, Usage
from ringi.cli.pilot_arms import Trained
from ringi.cli.references import Reference
from ringi.gating.schemas import Requirement, Tier
from ringi.jobs.contracts.adapters import AdapterFacts
from ringi.jobs.contracts.methods import Method
from ringi.jobs.contracts.scorers import measure_of
from ringi.jobs.contracts.suites import Answering, Operations
from ringi.jobs.schemas import OPEN, JobState, Placement
from ringi.measurements.schemas import MeasurementOut, MeasurementState, RequestSweep
from ringi.measurements.summaries import measured
from ringi.pilots.comparing import Found
from ringi.pilots.schemas import BASE, Estimated, Latency, Money, Origin, PeakMemory, Problem, Quality, Training
from ringi.suites.schemas import SuiteVersionOut
from ringi.sweeps.schemas import SweepOut

_OF_PAIRS = ("prompt", "completion")


class NothingToCompareBy(Usage):
    """The suite requires nothing, so no task and metric says which arm is better."""

    code = "pilot_nothing_to_compare_by"

    def __init__(self, suite: str) -> None:
        super().__init__(
            f"{suite} has no requirement, so nothing says which arm is better.",
            next_step="Add a requirement to it, or leave --suite out: the validation rows are then the suite.",
        )


class RowsAreNoPairs(Usage):
    """The validation rows are conversations or documents, which ask nothing that has one answer."""

    code = "pilot_rows_are_no_pairs"

    def __init__(self, dataset: str, column: str) -> None:
        super().__init__(
            f"Rows of {dataset} have no column '{column}', so they cannot judge the arms.",
            next_step="Write a suite (ringi suites add, docs/evaluation.md), and name it with --suite.",
            details={"dataset": dataset, "column": column},
        )


class Yard(NamedTuple):
    """By what the arms are compared: the suite and its first requirement. `right_or_wrong`: each row's score is 0 or 1, and 1 is right."""

    suite: SuiteVersionOut
    task: str
    metric: str
    lower_is_better: bool
    right_or_wrong: bool


def yard_of(client: RingiClient, project: str, suite: Reference) -> Yard:
    """By a suite that there is. Raises NothingToCompareBy."""
    return _yard(client.suites.version(project, suite.name, suite.selector or "latest"))


def yard_of_rows(
    client: RingiClient, rows: Reference, *, name: str, choices_from: str | None, answering: Answering | None
) -> Yard:  # fmt: skip
    """By the validation rows of a dataset version, as a suite of the pilot's name; the same rows give the same version of it.

    Raises RowsAreNoPairs.
    """
    # Nothing is gated by it, so it may have fewer rows than a gate would want.
    wanted = of_validation_rows(
        rows, choices_from=choices_from, answering=answering, slices=(), margin=0.05, tier=Tier.ADVISORY, off_task=False
    )
    ensure(client, rows.project, name)
    try:
        return _yard(client.suites.add_version(rows.project, name, wanted))
    except ApiError as refusal:
        column = refusal.details.get("column")
        if refusal.code != "suite_column_unknown" or column not in _OF_PAIRS:
            raise
        raise RowsAreNoPairs(f"{rows.name}:{rows.selector}", column) from None


def _yard(suite: SuiteVersionOut) -> Yard:
    wanted: Requirement | None = next(iter(suite.document.requirements), None)
    if wanted is None:
        raise NothingToCompareBy(suite.reference)
    task = next(one for one in suite.document.tasks if one.name == wanted.task)
    scorer = next((one for one in task.scorers if one.metric == wanted.metric), None)
    binary = scorer is not None and measure_of(scorer).binary and task.decoding.repeats == 1
    return Yard(suite, wanted.task, wanted.metric, wanted.lower_is_better, binary and not wanted.lower_is_better)


def swept_once(
    client: RingiClient, project: str, yard: Yard, *, base: str, versions: Sequence[str], at_once: int, placement: Placement | None, again: bool
) -> SweepOut:  # fmt: skip
    """The sweep of the bare base and these versions (`project/adapter:v1`): one that goes on or has ended, else a new one. Raises JobFailed."""
    wanted = {None, *versions}
    for line in client.sweeps.all(project, filter=[f"suite={yard.suite.reference}"]):
        if line.base != base or line.state not in OPEN | {JobState.SUCCEEDED}:
            continue
        known = client.sweeps.get(project, line.job_id)
        whole = all(one.state in {MeasurementState.MEASURED, MeasurementState.PENDING} for one in known.measurements)
        if {one.version for one in known.measurements} == wanted and (whole or not again):
            return followed(client, project, known) if known.state in OPEN else known
    body = RequestSweep(
        suite=yard.suite.reference.partition("/")[2], base_revision=base, versions=[one.partition("/")[2] for one in versions], include_base=True, batch_size=at_once,
        placement=placement,
    )  # fmt: skip
    return followed(client, project, client.sweeps.request(project, body))


def found_arms(
    client: RingiClient, project: str, yard: Yard, sweep: SweepOut, arms: Sequence[Trained], *, base_parameters: int | None
) -> list[Found]:
    """What there is to tell of the base and of every arm, whether it came to a version or not."""
    by_version = {one.version: one for one in sweep.measurements}
    found = [_measured(client, project, yard, Found(BASE, shipped_bytes=0), by_version.get(None))]
    for arm in arms:
        one = Found(arm.method, training=_training(arm, None, base_parameters), problem=arm.problem)
        if arm.version is not None:
            name, _, selector = arm.version.partition("/")[2].partition(":")
            version = client.adapters.version(project, name, selector)
            one = one._replace(
                version=arm.version, shipped_bytes=sum(file.size for file in version.files),
                training=_training(arm, _trainable(arm.method, version.facts), base_parameters),
            )  # fmt: skip
            one = _measured(client, project, yard, one, by_version.get(arm.version))
        found.append(one)
    return found


def _measured(client: RingiClient, project: str, yard: Yard, one: Found, measurement: MeasurementOut | None) -> Found:
    if measurement is None or measurement.state is not MeasurementState.MEASURED:
        state = measurement.state.value if measurement is not None else "missing"
        problem = measurement.problem if measurement is not None else None
        code, message = (
            (problem.code, problem.message) if problem is not None else (f"measurement_{state}", f"Its measurement is '{state}'.")
        )
        return one._replace(unmeasured=Problem(code=code, message=message))
    summary = (measurement.summary or {}).get(yard.task)
    figures = summary.metrics.get(yard.metric) if summary is not None else None
    quality = None
    if figures is not None and figures.mean is not None:
        mean = Estimated(value=figures.mean, low=figures.low, high=figures.high)
        quality = Quality(items=figures.n, scored=figures.scored, mean=mean)
    answers = [measured(record) for record in client.measurements.records(project, measurement.id, task=yard.task)]
    return one._replace(quality=quality, answers=answers, latency=_latency(measurement, yard.task))


def _latency(measurement: MeasurementOut, task: str) -> Latency | None:
    told = (measurement.operations or {}).get(task)
    if told is None:
        return None
    operations = Operations.model_validate(told)
    return Latency(median_s=operations.item_p50_s, p95_s=operations.item_p95_s, at_once=operations.batch_size)


def _training(arm: Trained, parameters: int | None, base_parameters: int | None) -> Training | None:
    run = arm.run
    if run is None:
        return None
    metrics = run.metrics
    cost = None
    if metrics is not None and metrics.cost is not None and metrics.currency is not None:
        cost = Money(amount=metrics.cost, currency=metrics.currency)
    return Training(
        run_id=run.id, learning_rate=run.spec.learning_rate, rank=run.spec.rank, steps=metrics.steps if metrics is not None else None,
        trainable_parameters=parameters, share=parameters / base_parameters if parameters is not None and base_parameters else None,
        memory=_memory(arm), seconds=metrics.seconds if metrics is not None else None, gpu_seconds=metrics.gpu_seconds if metrics is not None else None,
        energy_j=metrics.energy_j if metrics is not None else None, cost=cost,
    )  # fmt: skip


def _memory(arm: Trained) -> PeakMemory | None:
    measured_bytes = arm.run.metrics.peak_memory_bytes if arm.run is not None and arm.run.metrics is not None else None
    if measured_bytes is not None:
        return PeakMemory(bytes=measured_bytes, origin=Origin.MEASURED)
    return PeakMemory(bytes=arm.forecast_bytes, origin=Origin.FORECAST) if arm.forecast_bytes is not None else None


def _trainable(method: str, facts: AdapterFacts) -> int | None:
    """What was trained of the sealed tensors; None where they do not tell: AdaLoRA seals fewer than it trained."""
    if method == Method.ADALORA:
        return None
    # VeRA's two large matrices are drawn and stay as they are.
    return sum(prod(one.shape) for one in facts.tensors if not one.name.rpartition("base_model.")[2].startswith(("vera_A", "vera_B")))
