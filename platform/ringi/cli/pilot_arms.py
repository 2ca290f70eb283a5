"""The arms of a pilot: each method an adapter of its own with one run, found where it was trained before and started where it was not."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from ringi.adapters.schemas import VersionState
from ringi.cli.client import RingiClient
from ringi.cli.errors import ApiError, JobFailed, Usage
from ringi.cli.follow import follow
from ringi.cli.output import note
from ringi.jobs.contracts.base_models import BaseFacts
from ringi.jobs.schemas import OPEN, JobState, Placement
from ringi.pilots.schemas import Problem
from ringi.training.schemas import RunOut, TrainingPlan

# A refusal with one of these is the arm's own; any other would meet every arm alike, and ends the command.
_OF_ONE_ARM = frozenset({400, 409, 422})
_TOO_MANY_OPEN = "quota_open_jobs"
# Somebody else made the same thing at the same moment; so often it is looked for again.
_MADE_MEANWHILE, _LOOKS = "conflict", 5
_IN_PROGRESS = "training_run_in_progress"
Made = TypeVar("Made")


class AdapterElsewhere(Usage):
    """The adapter of an arm exists over another base."""

    code = "pilot_adapter_elsewhere"

    def __init__(self, adapter: str, base: str, wanted: str) -> None:
        super().__init__(
            f"The adapter {adapter} is over {base}, and this pilot is over {wanted}.",
            next_step="Give the pilot another name: --name.",
            details={"adapter": adapter, "base": base},
        )


class Setting(NamedTuple):
    """On what all arms are trained: `name` of the pilot, the dataset version as `name:v1`, the base, its revision's number, and what is known of it."""

    project: str
    name: str
    dataset: str
    base: str
    revision: int
    facts: BaseFacts | None

    def adapter(self, method: str) -> str:
        """The adapter's name of an arm."""
        return f"{self.name}-{method}"


class Trained(NamedTuple):
    """An arm whose run has ended, or was refused; `forecast_bytes`: the peak of memory that was forecast, where none was measured."""

    method: str
    plan: TrainingPlan
    run: RunOut | None
    problem: Problem | None
    forecast_bytes: int | None

    @property
    def version(self) -> str | None:
        """The reference of what is judged; None where the run made nothing, or what it made was revoked."""
        return self.run.version if self.run is not None and self.problem is None else None


def looking_again(step: Callable[[], Made]) -> Made:
    """What a step of a pilot comes to; each finds what is there, so that two people may give the same command at once."""
    for _ in range(_LOOKS):
        try:
            return step()
        except ApiError as refusal:
            if refusal.code != _MADE_MEANWHILE:
                raise
            note(f"{refusal.message} It is looked for again.")
    return step()


def trained(
    client: RingiClient, setting: Setting, plans: Mapping[str, TrainingPlan], *, placement: Placement | None, retry_failed: bool
) -> list[Trained]:
    """Every arm once its run has ended. All are started before the first is followed, so that leaving here leaves them going.

    Raises AdapterElsewhere, and what the platform refuses every arm alike.
    """
    started: dict[str, RunOut | Problem] = {}
    for method, plan in plans.items():
        started[method] = _found_or_started(
            client, setting, method, plan, placement=placement, retry_failed=retry_failed, before=_open(started)
        )
    return [_ended(client, setting, method, plans[method], one) for method, one in started.items()]


def _open(started: Mapping[str, RunOut | Problem]) -> list[RunOut]:
    return [one for one in started.values() if isinstance(one, RunOut) and one.state in OPEN]


def _found_or_started(
    client: RingiClient, setting: Setting, method: str, plan: TrainingPlan, *, placement: Placement | None, retry_failed: bool, before: list[RunOut]
) -> RunOut | Problem:  # fmt: skip
    adapter = setting.adapter(method)
    _ensure(client, setting, adapter)
    known = _known(client, setting, adapter, plan)
    if known is not None and not (retry_failed and known.state in {JobState.FAILED, JobState.CANCELLED}):
        note(f"{method}: run {known.id} is {known.state} and taken over.")
        return known
    waiting = iter(before)
    while True:
        try:
            run = client.training.start(
                setting.project, adapter, dataset=setting.dataset, base_revision=f"r{setting.revision}", plan=plan, placement=placement
            )
        except ApiError as refusal:
            # A place becomes free as soon as an earlier arm has ended.
            if refusal.code == _TOO_MANY_OPEN and (earlier := next(waiting, None)) is not None:
                _followed(client, earlier, "an earlier arm")
                continue
            if refusal.status not in _OF_ONE_ARM or refusal.code == _MADE_MEANWHILE:
                raise
            # The same command, given by somebody else at the same time.
            if refusal.code == _IN_PROGRESS and (same := _known(client, setting, adapter, plan)) is not None and same.state in OPEN:
                return same
            note(f"{method}: {refusal.message} [{refusal.code}]")
            return Problem(code=refusal.code, message=refusal.message)
        for found in run.preflight:
            note(f"{method}: {found.gravity}: {found.message} [{found.code}]")
        return run


def _ensure(client: RingiClient, setting: Setting, adapter: str) -> None:
    try:
        client.adapters.create(setting.project, adapter, base=setting.base, description=f"{setting.name}: {setting.dataset}")
    except ApiError as refusal:
        if refusal.code != "adapter_exists":
            raise
        known = client.adapters.get(setting.project, adapter)
        if known.base != setting.base:
            raise AdapterElsewhere(known.reference, known.base, setting.base) from None


def _known(client: RingiClient, setting: Setting, adapter: str, plan: TrainingPlan) -> RunOut | None:
    """The run of the very same recipe, rows and base: one that has succeeded, else one that goes on, else the newest."""
    spec = plan.resolved(setting.facts)
    same = [
        run
        for run in client.training.all(setting.project, adapter)
        if (run.dataset, run.base) == (f"{setting.project}/{setting.dataset}", f"{setting.base}:r{setting.revision}")
        and run.spec == spec and run.started_from is None
    ]  # fmt: skip
    return next(_in_order(same), None)


def _in_order(runs: list[RunOut]) -> Iterator[RunOut]:
    for states in ({JobState.SUCCEEDED}, OPEN | {JobState.PAUSED}, {JobState.FAILED, JobState.CANCELLED}):
        yield from (run for run in runs if run.state in states)


def _ended(client: RingiClient, setting: Setting, method: str, plan: TrainingPlan, started: RunOut | Problem) -> Trained:
    if isinstance(started, Problem):
        return Trained(method, plan, None, started, None)
    if started.state is not JobState.SUCCEEDED:
        _followed(client, started, f"training {method}")
    run = client.training.get(setting.project, setting.adapter(method), started.id)
    measured = run.metrics is not None and run.metrics.peak_memory_bytes is not None
    forecast = None if measured else _forecast(client, setting, method, plan)
    if run.version is not None:
        return Trained(method, plan, run, _revoked(client, setting, method, run.version), forecast)
    if run.error is not None and run.state is JobState.FAILED:
        return Trained(method, plan, run, Problem(code=run.error.code, message=run.error.message), forecast)
    return Trained(method, plan, run, Problem(code=f"job_{run.state}", message=f"The run {run.id} is '{run.state}'."), forecast)


def _revoked(client: RingiClient, setting: Setting, method: str, reference: str) -> Problem | None:
    """Why a version that an earlier pilot made may not be judged any more; None for one that stands."""
    version = client.adapters.version(setting.project, setting.adapter(method), reference.rpartition(":")[2])
    if version.state is not VersionState.REVOKED:
        return None
    return Problem(code="version_revoked", message=f"The version {reference} was revoked: {version.state_reason}")


def _followed(client: RingiClient, run: RunOut, what: str) -> None:
    """Wait for the run, however it ends. One that rests is nobody's end: raises JobFailed, which says how it goes on."""
    try:
        follow(client, run.job_id, what)
    except JobFailed as failure:
        if failure.details["state"] == JobState.PAUSED:
            raise
        note(f"{what}: {failure.message} [{failure.code}]")


def _forecast(client: RingiClient, setting: Setting, method: str, plan: TrainingPlan) -> int | None:
    """The peak of memory in bytes; None where the platform forecasts none."""
    try:
        found = client.training.check(
            setting.project, setting.adapter(method), dataset=setting.dataset, base_revision=f"r{setting.revision}", plan=plan
        )
    except ApiError:
        return None
    return found.estimate.memory.total if found.estimate is not None else None
