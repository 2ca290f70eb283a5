"""What an arm's turn begins with: a scorer of the user's that died over one arm's answers is tried again with the next arm's, and not before."""

from pathlib import Path
from uuid import UUID

from ringi.jobs.contracts.suites import Answer, Answering, Item, Operations, ScorerSpec, Task
from ringi.jobs.contracts.sweeps import SweepArm
from ringi.kit.digests import sha256_bytes
from ringi.kit.ids import uuid7
from ringi_workers.evaluation.grading.custom import GIVEN_UP_AFTER
from ringi_workers.evaluation.grading.registry import Access, Grading
from ringi_workers.evaluation.sweep import Measured
from ringi_workers.evaluation.turns import ArmTurns, Graded
from support.following import Follower

SCORER = ScorerSpec(name="house_scorers:fragile", label="形")
MODULE = """
import os

def fragile(item, answer):
    if answer["output"] == "crash": os._exit(7)
    return 1.0
"""


class Wanted:
    """A platform that wants every arm."""

    def begin(self, measurement_id: UUID) -> bool:  # noqa: ARG002  # of the protocol
        return True

    def answered(self, measurement_id: UUID, items: int) -> bool:  # noqa: ARG002  # of the protocol
        return True


def task_of(name: str, count: int) -> tuple[Task, list[Item]]:
    task = Task(name=name, answering=Answering.GENERATE, items=sha256_bytes(b"items"), count=count, scorers=(SCORER,))
    return task, [Item(id=f"i{number}", prompt="質問") for number in range(count)]


def scores(graded: Graded, arm: str, task: str, *outputs: str) -> list[float | None]:
    answers = tuple(Answer(item=f"i{number}", asked=sha256_bytes(b"asked"), output=output) for number, output in enumerate(outputs))
    operations = Operations(
        items=len(outputs), seconds=1.0, prompt_tokens=1, output_tokens=1, read_tokens_per_s=None, tokens_per_s=None, first_token_s=None,
        item_p50_s=None, item_p95_s=None, peak_memory_bytes=None,
    )  # fmt: skip
    result = graded(Measured(arm, task, answers, operations, {}))
    assert isinstance(result, Measured)
    return [answer.scores["形"] for answer in result.answers]


def test_a_scorer_that_was_given_up_is_tried_again_with_the_next_arm_and_not_with_the_next_task(tmp_path: Path) -> None:
    (tmp_path / "house_scorers.py").write_text(MODULE, "utf-8")
    arms = {name: SweepArm(measurement_id=uuid7(), name=name, adapter=None) for name in ("a", "b")}
    dead = ["crash"] * GIVEN_UP_AFTER
    with Grading(Access(modules=("house_scorers",), folder=tmp_path)) as grading:
        graded = Graded(grading, [task_of("長い", len(dead) + 1), task_of("短い", 1)], Follower())
        turns = ArmTurns(Wanted(), arms, graded, {})
        assert turns.begins("a")
        assert scores(graded, "a", "長い", *dead, "よい") == [None] * (len(dead) + 1)
        assert scores(graded, "a", "短い", "よい") == [None]
        assert turns.begins("b")
        assert scores(graded, "b", "長い", *["よい"] * (len(dead) + 1)) == [1.0] * (len(dead) + 1)
