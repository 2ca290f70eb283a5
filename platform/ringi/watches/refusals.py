"""What a watch refuses, and the codes of looks that could not be taken."""

from typing import ClassVar

from ringi.kit.errors import Conflict, InvalidInput


class WatchExists(Conflict):
    """The name is in use."""

    code: ClassVar[str] = "watch_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is already a watch '{name}' in this project.", next_step="Change it, or choose another name.")


class TooManyWatches(Conflict):
    """Each costs a worker its time, again and again."""

    code: ClassVar[str] = "watch_limit"

    def __init__(self, limit: int) -> None:
        super().__init__(f"This project has {limit} watches already.", next_step="Remove one that nobody needs: ringi watches list.")


class AdapterNeeded(InvalidInput):
    """A version is a baseline for its own adapter alone."""

    code: ClassVar[str] = "watch_adapter_needed"

    def __init__(self, baseline: str) -> None:
        adapter = baseline.partition(":")[0]
        super().__init__(
            f"'{baseline}' is a baseline of the adapter '{adapter}', and the watch is not of that adapter alone.",
            next_step=f"Make a watch with adapter '{adapter}', or take 'release' or 'base' as the baseline.",
        )


class LookOnItsWay(Conflict):
    """One look at a time."""

    code: ClassVar[str] = "watch_look_pending"

    def __init__(self, watch: str) -> None:
        super().__init__(f"A look of '{watch}' is on its way already.", next_step=f"Wait for it: ringi watches history PROJECT {watch}.")


class ServesNothing(Conflict):
    """The channel serves nothing that could be looked at."""

    code: ClassVar[str] = "watch_channel_serves_nothing"

    def __init__(self, channel: str, adapter: str | None) -> None:
        what = f"no version of {adapter}" if adapter else "no adapter"
        super().__init__(f"'{channel}' serves {what}.", next_step="Release a version to it, or change the watch.")


class VersionStopped(Conflict):
    """What the channel points at was revoked: nobody can pull it."""

    code: ClassVar[str] = "watch_version_revoked"

    def __init__(self, channel: str, version: str) -> None:
        super().__init__(
            f"'{channel}' points at {version}, which was revoked.", next_step="Roll the channel back, or release another version."
        )


class NotInTime(Conflict):
    """No worker brought a result within the watch's time."""

    code: ClassVar[str] = "watch_not_measured_in_time"

    def __init__(self, within_s: int, job_state: str) -> None:
        # One that has ended was cancelled by another look of the same sweep a moment ago, as a rule.
        found = f"was '{job_state}', and was cancelled" if job_state in {"queued", "running"} else f"is '{job_state}'"
        super().__init__(
            f"There is no measurement after {within_s} s; its job {found}.",
            next_step="See whether a worker can take it: ringi workers list. Or give the watch more time.",
        )


class JobCancelled(Conflict):
    """Somebody cancelled the sweep."""

    code: ClassVar[str] = "watch_job_cancelled"

    def __init__(self, job_id: object) -> None:
        super().__init__(f"Job {job_id} was cancelled, so nothing was measured.", next_step="Nothing: the next look asks again.")


class JobFailed(Conflict):
    """The sweep failed for good, and took its measurements with it."""

    code: ClassVar[str] = "watch_job_failed"

    def __init__(self, why: str) -> None:
        super().__init__(f"The sweep failed: {why}", next_step="Look at the worker's log; the next look asks again.")


class MeasurementCancelled(Conflict):
    """Somebody took this measurement out of its sweep."""

    code: ClassVar[str] = "watch_measurement_cancelled"

    def __init__(self, measurement_id: object) -> None:
        super().__init__(f"Measurement {measurement_id} was cancelled.", next_step="Nothing: the next look asks again.")


class NotJudged(Conflict):
    """Nothing could be made of what was measured within the watch's time."""

    code: ClassVar[str] = "watch_not_judged"

    def __init__(self, within_s: int, why: str) -> None:
        super().__init__(
            f"The look could not be ended within {within_s} s: {why}", next_step="See the watcher's log; the next look measures again."
        )


class MetricUnknown(InvalidInput):
    """A limit of a metric that the suite does not measure would never be crossed."""

    code: ClassVar[str] = "watch_metric_unknown"

    def __init__(self, unknown: list[str], suite: str, known: list[str]) -> None:
        super().__init__(
            f"{suite} does not measure {', '.join(unknown)}.",
            next_step=f"Its metrics are: {', '.join(known)}.",
            details={"unknown": unknown},
        )


class BaselineNotMeasured(Conflict):
    """The version was measured, and what it is compared with was not."""

    code: ClassVar[str] = "watch_baseline_not_measured"

    def __init__(self, baseline: str, why: str) -> None:
        super().__init__(f"The baseline '{baseline}' was not measured: {why}", next_step="Mend that, or change the baseline of the watch.")


class RuntimeChanged(Conflict):
    """The first measurements of this version are of another runtime: what differs may be the runtime's."""

    code: ClassVar[str] = "watch_runtime_changed"

    def __init__(self, differing: list[str]) -> None:
        super().__init__(
            f"Other {', '.join(differing) or 'runtime'} than in the first measurement of this version, so the two are not compared.",
            next_step="Nothing: later looks are compared with this measurement. Look at both: ringi measurements show.",
            details={"differing": differing},
        )
