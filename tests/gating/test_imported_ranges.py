"""Scores that were made elsewhere are such as their scorers give, or are refused: a 3 among zeros would hide two lost items."""

import pytest

from ringi.jobs.contracts.suites import Answering, Decoding, ScorerSpec, Task
from ringi.jobs.contracts.sweeps import Record
from ringi.kit.digests import sha256_bytes
from ringi.measurements.summaries import RecordsForeign, check_ranges

TASKS = [
    Task(
        name="道", answering=Answering.CHOICE, items=sha256_bytes(b"items"), count=2, choices=("はい", "いいえ"),
        scorers=(ScorerSpec(name="accuracy"), ScorerSpec(name="nll", label="驚き")),
    )
]  # fmt: skip


def records(**scores: float | None) -> dict[str, list[Record]]:
    return {"道": [Record(task="道", item="問1", asked=sha256_bytes(b"asked"), scores=scores)]}


@pytest.mark.parametrize("scores", [{"accuracy": 1.0}, {"accuracy": 0.0, "驚き": 12.5}, {"accuracy": None}, {"another": 7.0}])
def test_what_a_scorer_can_give_is_taken(scores: dict[str, float | None]) -> None:
    check_ranges(records(**scores), TASKS)


def test_of_several_answers_to_an_item_the_mean_is_taken_and_nothing_beyond_it() -> None:
    often = [TASKS[0].model_copy(update={"decoding": Decoding(temperature=0.7, repeats=4)})]
    check_ranges(records(accuracy=0.25), often)
    for score in (-0.25, 1.25):
        with pytest.raises(RecordsForeign, match="between 0 and 1"):
            check_ranges(records(accuracy=score), often)


@pytest.mark.parametrize(("metric", "score"), [("accuracy", 3.0), ("accuracy", 0.5), ("accuracy", -1.0), ("驚き", -0.1)])
def test_what_no_scorer_gives_is_refused_by_name(metric: str, score: float) -> None:
    with pytest.raises(RecordsForeign) as refusal:
        check_ranges(records(**{metric: score}), TASKS)
    assert all(word in refusal.value.message for word in ("問1", "道", metric))
