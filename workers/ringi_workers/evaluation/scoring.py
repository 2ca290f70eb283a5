"""Scores of answers: those that lie in the answering itself, and the door for all others.

A scorer is a function of an item (with its choices) and its answer, and gives a number or None, not measured. `accuracy`: the choice with
the largest sum is the right one. `accuracy_norm`: largest per token. `accuracy_chars`: largest per character, which is `acc_norm` of
lm-evaluation-harness. `exact`: greedy decoding would give the reference. `nll`: of the reference, per token.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ringi.jobs.contracts.suites import Answer, Item, Problem, ScorerSpec
from ringi.kit.errors import RingiError


class Scorer(Protocol):
    """Scores one answer. May raise; then the answer has no such score, and says so."""

    def __call__(self, item: Item, answer: Answer, /) -> float | None:
        """The score, or None where it was not measured."""


# Finds the scorer of a spec, or None where it knows none of that name. Raises where the parameters are wrong.
Scorers = Callable[[ScorerSpec], Scorer | None]


class UnknownScorer(RingiError):
    """A task names a scorer that nothing here provides."""

    code, status = "evaluation_unknown_scorer", 400

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"There is no scorer named '{name}'.",
            next_step=f"Those of answering itself are {', '.join(known)}.",
            details={"scorer": name, "known": list(known)},
        )


def _right(item: Item, weights: Sequence[float]) -> float | None:
    """Whether the right choice has the largest weight; of equal ones the first counts, as in numpy's argmax and the harness."""
    if item.answer is None or not weights:
        return None
    return float(max(range(len(weights)), key=weights.__getitem__) == item.answer)


def accuracy(item: Item, answer: Answer) -> float | None:
    """By the sums."""
    return _right(item, answer.logprobs)


def accuracy_norm(item: Item, answer: Answer) -> float | None:
    """By the mean per token."""
    return _right(item, [total / tokens for total, tokens in zip(answer.logprobs, answer.choice_tokens, strict=True)])


def accuracy_chars(item: Item, answer: Answer) -> float | None:
    """By the sum per character of the choice's text."""
    return _right(item, [total / len(choice) for total, choice in zip(answer.logprobs, item.choices, strict=False)])


def exact(_: Item, answer: Answer) -> float | None:
    """1 or 0, None where it was not asked."""
    return None if answer.exact is None else float(answer.exact)


def nll(_: Item, answer: Answer) -> float | None:
    """In nats; lower is better."""
    return answer.nll


OWN: Mapping[str, Scorer] = {
    "accuracy": accuracy, "accuracy_norm": accuracy_norm, "accuracy_chars": accuracy_chars, "exact": exact, "nll": nll,
}  # fmt: skip


def resolved(specs: Sequence[ScorerSpec], others: Scorers | None = None) -> dict[str, Scorer]:
    """Scorer by metric; `others` are asked for what is not answering's own. Raises UnknownScorer."""
    found: dict[str, Scorer] = {}
    for spec in specs:
        scorer = OWN.get(spec.name) or (others(spec) if others is not None else None)
        if scorer is None:
            raise UnknownScorer(spec.name, sorted(OWN))
        found[spec.metric] = scorer
    return found


def scored(item: Item, answer: Answer, scorers: Mapping[str, Scorer]) -> Answer:
    """The answer with its scores. An answer with a problem has none, and a scorer that fails spoils only its own score."""
    scores: dict[str, float | None] = {}
    problem = answer.problem
    for metric, scorer in scorers.items():
        scores[metric] = None
        if answer.problem is not None:
            continue
        try:
            score = scorer(item, answer)
        except Exception:  # noqa: BLE001 - a user's code may raise anything
            problem = problem or Problem.SCORER_FAILED
            continue
        if score is not None and not math.isfinite(score):
            problem = problem or Problem.SCORE_NOT_FINITE
            continue
        scores[metric] = score
    return answer.model_copy(update={"scores": scores, "problem": problem})
