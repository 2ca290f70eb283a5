"""How far a sweep is, from where its arms stand. Pure; nothing is estimated before something was measured."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from ringi.measurements.schemas import MeasurementState
from ringi.sweeps.schemas import ArmCounts


class Arm(NamedTuple):
    """Where one arm stands. `items_done` of `items` have an answer."""

    id: UUID
    state: MeasurementState
    items: int
    items_done: int
    reused: bool
    started_at: datetime | None
    completed_at: datetime | None


class Progress(NamedTuple):
    """Over all arms; see `schemas.SweepLine`."""

    arms: ArmCounts
    items: int
    items_done: int
    items_saved: int
    seconds_per_item: float | None
    eta_s: float | None
    current: UUID | None


def progress_of(arms: Sequence[Arm], *, running: bool) -> Progress:
    """`running`: whether an attempt is at work, and was not asked to stop."""
    states = Counter(one.state for one in arms)
    pending = [one for one in arms if one.state is MeasurementState.PENDING]
    begun = [one for one in pending if one.started_at is not None] if running else []
    # Of an arm that an attempt left behind, `started_at` is older than that of the arm in flight.
    current = max(begun, key=lambda one: (one.started_at, one.id), default=None)
    pace = _pace(arms)
    left = sum(max(0, one.items - one.items_done) for one in pending)
    return Progress(
        arms=ArmCounts(
            pending=len(pending), measured=states[MeasurementState.MEASURED], reused=sum(one.reused for one in arms),
            stopped=states[MeasurementState.STOPPED], failed=states[MeasurementState.FAILED], cancelled=states[MeasurementState.CANCELLED],
        ),
        items=sum(one.items for one in arms), items_done=sum(one.items_done for one in arms),
        items_saved=sum(one.items - one.items_done for one in arms if one.state is MeasurementState.STOPPED),
        seconds_per_item=pace, eta_s=pace * left if running and pace is not None else None, current=current.id if current else None,
    )  # fmt: skip


def _pace(arms: Sequence[Arm]) -> float | None:
    """Seconds from an arm's begin to its end, for each of its items; an arm that was taken over was not measured here."""
    told = [
        ((one.completed_at - one.started_at).total_seconds(), one.items_done)
        for one in arms
        if one.state in {MeasurementState.MEASURED, MeasurementState.STOPPED} and not one.reused and one.items_done
        if one.started_at is not None and one.completed_at is not None
    ]
    items = sum(count for _, count in told)
    return max(0.0, sum(seconds for seconds, _ in told)) / items if items else None
