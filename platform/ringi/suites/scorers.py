"""Which scorers there are, what they need, and in which direction they are good. Pure.

Workers hold the functions (ringi_workers.evaluation.scoring); here stands what a suite is checked against before anything runs. A scorer
that is added there has its line here.
"""

from collections.abc import Mapping
from typing import NamedTuple

from ringi.jobs.contracts.suites import Answering

_A = Answering


class ScorerFacts(NamedTuple):
    """`answerings`: what it can score. `needs`: `answer` the place of the right choice, `reference` an accepted text, None neither."""

    answerings: frozenset[Answering]
    needs: str | None
    lower_is_better: bool = False


SCORERS: Mapping[str, ScorerFacts] = {
    "accuracy": ScorerFacts(frozenset({_A.CHOICE}), "answer"),
    "accuracy_norm": ScorerFacts(frozenset({_A.CHOICE}), "answer"),
    "accuracy_chars": ScorerFacts(frozenset({_A.CHOICE}), "answer"),
    "exact": ScorerFacts(frozenset({_A.EXACT}), "reference"),
    "nll": ScorerFacts(frozenset({_A.EXACT, _A.LIKELIHOOD}), "reference", lower_is_better=True),
}
