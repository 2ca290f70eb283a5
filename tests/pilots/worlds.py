"""Reports of pilots that nobody ran: arms with so many right answers, for the rules and the page."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from ringi.gating.binary import wilson_bound
from ringi.gating.schemas import Measured
from ringi.pilots.comparing import Found, compared
from ringi.pilots.schemas import BASE, Estimated, Figures, Ground, Latency, Money, Origin, PeakMemory, Problem, Quality, Report, Training

ROWS = 200
GROUND = Ground(
    name="pilot-faq-v1", dataset="desk/faq:v1", dataset_digest="sha256:" + "0" * 64, train_rows=800, validation_rows=ROWS, items=ROWS, on_validation=True,
    base="tiny:r1", base_parameters=1_000_000, suite="desk/pilot-faq-v1:v1", suite_digest="sha256:" + "1" * 64, task="faq", metric="accuracy",
    lower_is_better=False, right_or_wrong=True, plan={"rank": 8, "seed": 0},
)  # fmt: skip
FIGURES = Figures(
    currency="JPY", requests_per_month=1000, minutes_saved=6, hourly_wage=2000, wrong_answer_cost=50, months=10, running_cost=10_000, one_off_cost=300_000,
)  # fmt: skip


def quality(right: int) -> Quality:
    low, high = (wilson_bound(right, ROWS, 0.05, upper=upper) for upper in (False, True))
    return Quality(items=ROWS, scored=ROWS, mean=Estimated(value=right / ROWS, low=low, high=high))


def answers(right: Sequence[int]) -> list[Measured]:
    """One row an item: right where its number is among these."""
    return [Measured(item=f"q{number}", scores={"accuracy": float(number in right)}) for number in range(ROWS)]


def training(*, seconds: float | None = 100.0, cost: float | None = None, **more: Any) -> Training:
    known = {
        "run_id": UUID(int=1), "learning_rate": 0.001, "rank": 8, "steps": 60, "trainable_parameters": 9000, "share": 0.009,
        "memory": PeakMemory(bytes=3 * 2**30, origin=Origin.FORECAST), "seconds": seconds, "gpu_seconds": None, "energy_j": None,
        "cost": Money(amount=cost, currency="JPY") if cost is not None else None,
    }  # fmt: skip
    return Training.model_validate(known | more)


def arm(name: str, right: range, *, size: int = 1000, **took: Any) -> Found:
    """An arm that is right on these rows."""
    return Found(
        name, version=None if name == BASE else f"desk/pilot-faq-v1-{name}:v1", training=None if name == BASE else training(**took),
        quality=quality(len(right)), answers=answers(right), latency=Latency(median_s=0.012, p95_s=0.034, at_once=1),
        shipped_bytes=0 if name == BASE else size,
    )  # fmt: skip


def failed(name: str, code: str, message: str) -> Found:
    return Found(name, problem=Problem(code=code, message=message))


def report(*arms: Found, figures: Figures = FIGURES, **ground: Any) -> Report:
    return compared(GROUND.model_copy(update=ground), arms, figures, measured_at=datetime(2026, 11, 23, 9, 0, tzinfo=UTC))


def usual(figures: Figures = FIGURES, **ground: Any) -> Report:
    """The base right on 60 of 200, two methods that differ by noise, and one that failed."""
    return report(
        arm(BASE, range(60)), arm("lora", range(150), seconds=100.0), arm("dora", range(2, 153), seconds=200.0),
        failed("full", "training_out_of_memory", "A single row does not fit."), figures=figures, **ground,
    )  # fmt: skip
