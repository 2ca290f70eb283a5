"""Why the gate decides nothing. It never falls back on something that happens to be there."""

from typing import ClassVar

from ringi.gates.schemas import MissingMeasurement
from ringi.kit.errors import Conflict


class MeasurementMissing(Conflict):
    """An arm was not measured with this suite; the details are what a sweep needs."""

    code: ClassVar[str] = "gate_measurement_missing"

    def __init__(self, missing: MissingMeasurement) -> None:
        what = "--include-base" if missing.version is None else missing.version
        name = missing.version or f"the bare base {missing.base}"
        super().__init__(
            f"The {missing.which} {name} was not measured with {missing.suite} on {missing.base}.",
            next_step=f"Run: ringi sweep {missing.suite} {what} --on {missing.base}.",
            details=missing.model_dump(mode="json"),
        )


class NothingServed(Conflict):
    """The channel serves no version of the candidate's adapter."""

    code: ClassVar[str] = "gate_channel_serves_nothing"

    def __init__(self, channel: str, adapter: str) -> None:
        super().__init__(
            f"'{channel}' serves no version of {adapter}, so there is nothing to compare with.",
            next_step="Compare with the bare base: --against base.",
        )


class RuntimeDiffers(Conflict):
    """The arms were measured under different runtimes: what differs may be the runtime's.

    The details are what differs, and what sweeps need.
    """

    code: ClassVar[str] = "gate_runtime_differs"

    def __init__(self, candidate: str, baseline: str, differing: list[str], missing: list[MissingMeasurement]) -> None:
        super().__init__(
            f"{candidate} and {baseline} were measured with different {', '.join(differing) or 'runtimes'}.",
            next_step="Measure both in one sweep, as `ringi gate … --sweep` does.",
            details={"differing": differing, "missing": [one.model_dump(mode="json") for one in missing]},
        )


class SuitesDiffer(Conflict):
    """A measurement named by its id was made with another suite."""

    code: ClassVar[str] = "gate_suite_differs"

    def __init__(self, which: str, wanted: str, found: str) -> None:
        super().__init__(f"The {which} was measured with {found}, and {wanted} is asked for.", next_step="Name one version of the suite.")


class NotMeasured(Conflict):
    """A measurement named by its id has no result."""

    code: ClassVar[str] = "gate_not_measured"

    def __init__(self, which: str, state: str) -> None:
        super().__init__(f"The {which}'s measurement is '{state}'.", next_step="Wait for its sweep, or ask for another one.")


class StoppedAgainstAnother(Conflict):
    """The candidate's measurement was stopped early against another baseline, and says nothing of this one."""

    code: ClassVar[str] = "gate_stopped_against_another"

    def __init__(self, candidate: str, against: str, asked: str) -> None:
        super().__init__(
            f"{candidate} was stopped early against {against}, and {asked} is asked for.",
            next_step="Measure it whole: ringi sweep … without --stop-early-against; or name the baseline that it was stopped against.",
        )


class SweepOpen(Conflict):
    """A sweep is judged once all its arms have ended."""

    code: ClassVar[str] = "gate_sweep_open"

    def __init__(self, job_id: object, pending: int) -> None:
        super().__init__(f"{pending} arms of sweep {job_id} have not ended yet.", next_step=f"Wait for it: ringi jobs wait {job_id}.")


class NothingToJudge(Conflict):
    """No arm of the sweep can be judged."""

    code: ClassVar[str] = "gate_nothing_to_judge"

    def __init__(self) -> None:
        super().__init__(
            "There is no version among the candidates that has answers.", next_step="See what became of them: ringi sweep show."
        )


class NothingRequired(Conflict):
    """A suite without requirements decides nothing."""

    code: ClassVar[str] = "gate_nothing_required"

    def __init__(self, suite: str) -> None:
        super().__init__(f"{suite} has no requirements, so nothing could fail.", next_step="Add a version of the suite with requirements.")


class BaselineIsCandidate(Conflict):
    """Candidate and baseline are one measurement."""

    code: ClassVar[str] = "gate_arms_equal"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} would be compared with itself.", next_step="Name another baseline.")
