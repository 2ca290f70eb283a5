"""What was measured before is taken over, unless a score is missing for a reason that may be gone."""

from uuid import UUID, uuid4

import pytest
from sqlalchemy import create_engine, text

from ringi.jobs.contracts.scorers import ScoreProblem
from ringi.kit.ids import uuid7
from ringi.measurements.schemas import MeasurementOut, RequestSweep
from ringi.suites.schemas import AddSuiteVersion
from support.copied_measurements import forget
from support.running_platform import PROJECT
from support.story import ADAPTER, DATASET, Ground


def measured(ground: Ground, suite: str) -> MeasurementOut:
    client = ground.platform.as_("contributor")
    swept = client.sweeps.request(PROJECT, RequestSweep(suite=suite, versions=[f"{ADAPTER}:v1"]))
    ground.platform.succeeded(swept.job_id)
    return client.measurements.get(PROJECT, swept.measurements[0].id)


@pytest.mark.parametrize(
    ("problem", "taken"),
    [
        (ScoreProblem.SCORER_CRASHED, False), (ScoreProblem.JUDGE_UNREACHABLE, False),
        # That lies in the answer, which would be the same again.
        (ScoreProblem.NO_OUTPUT, True),
    ],
)  # fmt: skip
def test_a_score_that_a_dead_scorer_left_out_is_asked_for_again(ground: Ground, problem: ScoreProblem, *, taken: bool) -> None:
    suites, name = ground.platform.as_("contributor").suites, f"k{uuid4().hex[:8]}"
    suites.create(PROJECT, name)
    task = {"name": "faq", "answering": "exact", "scorers": ["exact"], "max_length": 256, "dataset": {"version": DATASET}}
    suites.add_version(PROJECT, name, AddSuiteVersion.model_validate({"tasks": [task], "off_task": False}))
    first = measured(ground, name)
    newest = like(ground, first, problem)
    try:
        assert (measured(ground, name).reused_from == newest) is taken
    finally:
        forget(ground.platform.processes, [newest])


def like(ground: Ground, first: MeasurementOut, problem: ScoreProblem) -> UUID:
    """A measurement like the first in all but three answers that the scorer left out; what was measured is not changed any more."""
    newest, engine = uuid7(), create_engine(ground.platform.processes.urls.app_url)
    with engine.begin() as connection:
        every = text("SELECT column_name FROM information_schema.columns WHERE table_name = 'measurements'")
        names = ", ".join(row.column_name for row in connection.execute(every) if row.column_name not in {"id", "summary"})
        spoilt = "jsonb_set(summary, '{faq,problems}', jsonb_build_object(CAST(:problem AS text), 3))"
        connection.execute(
            text(
                f"INSERT INTO measurements (id, summary, {names}) SELECT :id, {spoilt}, {names} FROM measurements WHERE id = :like"
            ),  # columns
            {"id": newest, "problem": str(problem), "like": first.id},
        )
    engine.dispose()
    return newest
