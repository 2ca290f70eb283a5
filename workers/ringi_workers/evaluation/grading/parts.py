"""What scorers have in common: how they are called, and how they say that they have no score."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from ringi.jobs.contracts.scorers import ScoreProblem
from ringi.jobs.contracts.suites import Answer, Item


class Unscored(Exception):
    """There is no score, and never a number in its place. `code` is stable; `note` says more, for a person."""

    def __init__(self, code: ScoreProblem, note: str = "") -> None:
        super().__init__(f"{code}: {note}" if note else str(code))
        self.code = code
        self.note = note


class Scored(NamedTuple):
    """A score with what its scorer says of it; None with the code of its `problem`, or with none where it does not apply."""

    score: float | None
    problem: ScoreProblem | None = None
    note: str = ""


class Scorer(Protocol):
    """Scores one answer; `item` has its choices. Raises Unscored."""

    def __call__(self, item: Item, answer: Answer, /) -> float | None:
        """The score, or None where it was not measured."""


# Scores one text that a model generated.
TextScorer = Callable[[Item, str], float]


def references(item: Item) -> tuple[str, ...]:
    """Those of the item; raises Unscored where there are none."""
    if not item.references:
        raise Unscored(ScoreProblem.NO_REFERENCE)
    return item.references


def of_text(score: TextScorer) -> Scorer:
    """Scores what was generated; of several repeats the mean. One repeat without a score is an answer without one."""

    def scored(item: Item, answer: Answer) -> float:
        outputs = answer.outputs or ((answer.output,) if answer.output is not None else ())
        if not outputs:
            raise Unscored(ScoreProblem.NO_OUTPUT)
        return sum(score(item, output) for output in outputs) / len(outputs)

    return scored


def best_reference(compare: Callable[[str, str], float]) -> TextScorer:
    """The highest score over the references."""
    return lambda item, output: max(compare(output, reference) for reference in references(item))
