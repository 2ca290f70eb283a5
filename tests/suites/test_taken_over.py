"""What was measured before is taken over, unless a score is missing for a reason that may be gone."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from ringi.jobs.contracts.scorers import ScoreProblem
from ringi.jobs.contracts.sweeps import Record
from ringi.kit.digests import sha256_bytes, sha256_json
from ringi.measurements.schemas import MeasurementOut, RequestSweep
from ringi.measurements.summaries import summarised
from ringi.suites.schemas import AddSuiteVersion
from ringi_workers.evaluation.engine import ENGINE
from support.copied_measurements import copied, forget
from support.running_platform import PROJECT
from support.story import ADAPTER, DATASET, Ground


def measured(ground: Ground, suite: str) -> MeasurementOut:
    client = ground.platform.as_("contributor")
    swept = client.sweeps.request(PROJECT, RequestSweep(suite=suite, versions=[f"{ADAPTER}:v1"]))
    ground.platform.succeeded(swept.job_id)
    return client.measurements.get(PROJECT, swept.measurements[0].id)


def like(ground: Ground, first: MeasurementOut, **changes: Any) -> UUID:
    return copied(ground.platform.processes, first.id, **changes)


@pytest.fixture
def suite(ground: Ground) -> str:
    """One of its own: nothing was measured with it."""
    suites, name = ground.platform.as_("contributor").suites, f"k{uuid4().hex[:8]}"
    suites.create(PROJECT, name)
    task = {"name": "faq", "answering": "exact", "scorers": ["exact"], "max_length": 256, "dataset": {"version": DATASET}}
    suites.add_version(PROJECT, name, AddSuiteVersion.model_validate({"tasks": [task], "off_task": False}))
    return name


@pytest.mark.parametrize(
    ("first_problem", "of_metric", "taken"),
    [
        (ScoreProblem.SCORER_CRASHED, None, False),
        (ScoreProblem.JUDGE_UNREACHABLE, None, False),
        (ScoreProblem.SCORER_NOT_ALLOWED, None, False),
        # That lies in the answer, which would be the same again.
        (ScoreProblem.NO_OUTPUT, None, True),
        (ScoreProblem.NO_REFERENCE, ScoreProblem.NO_REFERENCE, True),
        # The first problem of an answer hides that of another scorer.
        (ScoreProblem.NO_REFERENCE, ScoreProblem.JUDGE_UNREACHABLE, False),
    ],
)
def test_a_score_that_a_dead_scorer_left_out_is_asked_for_again(
    ground: Ground, suite: str, first_problem: ScoreProblem, of_metric: ScoreProblem | None, *, taken: bool
) -> None:
    first = measured(ground, suite)
    newest = like(ground, first, problems={first_problem: 3}, of_metric={of_metric: 3} if of_metric else {})
    try:
        assert measured(ground, suite).reused_from == (newest if taken else None)
    finally:
        forget(ground.platform.processes, [newest])


@pytest.mark.parametrize(("before", "taken"), [(3, True), (2, False)])
def test_what_is_missing_the_second_time_too_is_missing_for_good(ground: Ground, suite: str, before: int, *, taken: bool) -> None:
    first = measured(ground, suite)
    copies = [
        like(ground, first, problems={ScoreProblem.SCORER_CRASHED: count}, of_metric={ScoreProblem.SCORER_CRASHED: count})
        for count in (before, 3)
    ]
    try:
        assert measured(ground, suite).reused_from == (copies[-1] if taken else None)
    finally:
        forget(ground.platform.processes, copies)


def test_what_was_taken_over_is_no_second_measurement(ground: Ground, suite: str) -> None:
    crashed = {ScoreProblem.SCORER_CRASHED: 1}
    first = measured(ground, suite)
    copies = [like(ground, first, problems=crashed)]
    copies.append(like(ground, first, problems=crashed, reused_from=copies[0]))
    try:
        assert measured(ground, suite).reused_from is None
    finally:
        forget(ground.platform.processes, copies)


def test_what_an_older_engine_measured_is_measured_again(ground: Ground, suite: str) -> None:
    first = measured(ground, suite)
    assert (first.runtime or {})["engine"] == ENGINE
    assert first.runtime_digest == sha256_json(first.runtime)
    before = {name: version for name, version in (first.runtime or {}).items() if name != "engine"}
    older = like(ground, first, runtime=before, runtime_digest=sha256_json(before))
    try:
        assert measured(ground, suite).reused_from == first.id
    finally:
        forget(ground.platform.processes, [older])


def test_a_summary_counts_the_problems_of_every_scorer() -> None:
    def answer(item: str, problem: str | None, **notes: str) -> Record:
        scores = dict.fromkeys(("own", "tone"), None) | ({"own": 0.5} if problem is None else {})
        return Record(task="faq", item=item, asked=sha256_bytes(b"asked"), scores=scores, problem=problem, notes=notes)

    away = "judge_unreachable 4 tries failed"
    found = summarised(
        {
            "faq": [
                answer("a", "scorer_not_allowed", own="scorer_not_allowed the operator", tone=away),
                answer("b", "judge_unreachable", own="scorer_raised ValueError", tone=away),
                # A note beside a score is the scorer's own, whatever it says.
                answer("c", None, own="scorer_crashed is what it asked about", tone="その他"),
                answer("d", "prompt_too_long"),
            ]
        }
    )["faq"]
    assert found.problems == {"judge_unreachable": 1, "prompt_too_long": 1, "scorer_not_allowed": 1}
    assert found.metrics["own"].problems == {"scorer_not_allowed": 1, "scorer_raised": 1}
    assert found.metrics["tone"].problems == {"judge_unreachable": 2}
    # A summary without any is what it was before they were counted.
    assert "problems" not in summarised({"faq": [answer("c", None)]})["faq"].metrics["own"].model_dump()
