"""How far a sweep is: counted from its arms, and nothing is estimated before something was measured."""

from datetime import UTC, datetime, timedelta

from ringi.kit.ids import uuid7
from ringi.measurements.schemas import MeasurementState as State
from ringi.sweeps.progress import Arm, progress_of

BEGUN = datetime(2026, 11, 1, 9, tzinfo=UTC)


def arm(state: State, *, done: int = 0, began: float | None = None, took: float | None = None, reused: bool = False) -> Arm:
    started = None if began is None else BEGUN + timedelta(seconds=began)
    ended = None if took is None or started is None else started + timedelta(seconds=took)
    return Arm(uuid7(), state, 100, done, reused, started, ended)


def test_before_anything_was_measured_there_is_no_estimate() -> None:
    current = arm(State.PENDING, done=40, began=0)
    found = progress_of([current, arm(State.PENDING)], running=True)
    assert (found.seconds_per_item, found.eta_s, found.current) == (None, None, current.id)
    assert (found.items, found.items_done, found.items_saved) == (200, 40, 0)


def test_what_is_left_takes_as_long_as_what_was_measured_here() -> None:
    current = arm(State.PENDING, done=25, began=30)
    arms = [
        arm(State.MEASURED, done=100, began=0, took=20), arm(State.STOPPED, done=20, began=20, took=4),
        # Taken over within no time, and failed: neither tells a pace.
        arm(State.MEASURED, done=100, reused=True), arm(State.FAILED, began=24, took=1), arm(State.CANCELLED), current, arm(State.PENDING),
    ]  # fmt: skip
    found = progress_of(arms, running=True)
    assert found.seconds_per_item == 24 / 120
    assert found.eta_s == 24 / 120 * (75 + 100)
    assert found.current == current.id
    assert found.items_saved == 80
    counts = {"pending": 2, "measured": 2, "reused": 1, "stopped": 1, "failed": 1, "cancelled": 1}
    assert found.arms.model_dump() == counts


def test_while_nothing_runs_nothing_is_in_flight_and_nobody_knows_when_it_ends() -> None:
    arms = [arm(State.MEASURED, done=100, began=0, took=20), arm(State.PENDING, done=30, began=20)]
    found = progress_of(arms, running=False)
    assert (found.eta_s, found.current, found.seconds_per_item) == (None, None, 0.2)


def test_of_what_an_attempt_left_behind_the_later_one_is_in_flight() -> None:
    left, current = arm(State.PENDING, done=30, began=5), arm(State.PENDING, began=50)
    assert progress_of([left, current], running=True).current == current.id


def test_a_finished_sweep_has_nothing_left() -> None:
    assert progress_of([arm(State.MEASURED, done=100, began=0, took=20)], running=True).eta_s == 0
