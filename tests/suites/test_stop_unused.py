"""A rule of early stopping that was not looked at says so: where nothing was stopped, it matters whether anything could have been."""

from typing import Any

from ringi.jobs.models import Job
from ringi.measurements.models import Measurement
from ringi.measurements.schemas import MeasurementState
from ringi.measurements.stops import unused

HERE, ELSEWHERE = (f"sha256:{letter * 64}" for letter in "ab")
RULE = {"name": "support/道案内:v1", "runtime": HERE}


def told(**changes: Any) -> str | None:
    job = Job(payload={"arms": [{}, {"stop": RULE}, {"stop": None}]})
    one = {"job": job, "place": 1, "state": MeasurementState.MEASURED, "runtime_digest": ELSEWHERE}
    return unused(Measurement(**(one | changes)))


def test_what_was_measured_under_another_runtime_than_its_baseline_says_that_nothing_was_looked_at() -> None:
    assert told() == "support/道案内:v1 was measured under another runtime, so all items were asked."


def test_nothing_is_said_where_the_rule_was_used_or_there_was_none() -> None:
    assert told(runtime_digest=HERE) is None
    assert told(place=0) is None
    assert told(place=2) is None
    assert told(job=None) is None
    assert told(state=MeasurementState.PENDING, runtime_digest=None) is None
    assert told(state=MeasurementState.STOPPED) is None
    assert told(reused_from=HERE) is None
