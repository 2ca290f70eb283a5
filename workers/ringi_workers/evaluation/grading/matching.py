"""Scorers that compare texts: equal, contained, found by a pattern, one of a list, of a length."""

import unicodedata

from ringi.jobs.contracts.scorer_parameters import Contains, Length, LengthWithin, OneOf, Regex
from ringi.jobs.contracts.scorers import ScoreProblem
from ringi.jobs.contracts.suites import Item
from ringi.suites.compiling import compiled_pattern
from ringi_workers.evaluation.grading.overlap import tokens
from ringi_workers.evaluation.grading.parts import TextScorer, Unscored, references
from ringi_workers.evaluation.scorers import normalise, normalised_match


def exact_match(item: Item, output: str) -> float:
    """Code point by code point, but for white space around it: no Unicode form is made equal to another."""
    return float(output.strip() in {reference.strip() for reference in references(item)})


def normalised(item: Item, output: str) -> float:
    """By the rule of `evaluation.scorers`. References of which nothing is left are passed over; where none is left, there is no score."""
    found = [same for reference in references(item) if (same := normalised_match(output, reference)) is not None]
    if not found:
        raise Unscored(ScoreProblem.REFERENCE_UNREADABLE, "nothing of a reference is left once it is normalised")
    return float(any(found))


def contains(told: Contains) -> TextScorer:
    """See `Contains`."""
    form = normalise if told.normalised else str

    def score(item: Item, output: str) -> float:
        wanted = [form(text) for text in told.texts or references(item)]
        if not all(wanted):
            raise Unscored(ScoreProblem.REFERENCE_UNREADABLE, "nothing of a text is left once it is normalised, and that stands everywhere")
        there = [text in form(output) for text in wanted]
        found = any(there) if told.absent or not told.every else all(there)
        return float(found is not told.absent)

    return score


def regex(told: Regex) -> TextScorer:
    """See `Regex`; raises ScorerMisused where RE2 does not know the pattern."""
    pattern = compiled_pattern(told)
    look = pattern.fullmatch if told.whole else pattern.search
    return lambda _, output: float((look(output) is not None) is not told.absent)


def one_of(told: OneOf) -> TextScorer:
    """See `OneOf`."""
    accepted = {normalise(text) for text in told.texts} - {""}
    return lambda _, output: float(normalise(output) in accepted)


def _length(told: Length, output: str) -> int:
    return len(tokens(output)) if told.unit == "words" else len(unicodedata.normalize("NFKC", output).strip())


def length(told: Length) -> TextScorer:
    """See `Length`."""
    return lambda _, output: float(_length(told, output))


def length_within(told: LengthWithin) -> TextScorer:
    """See `LengthWithin`."""
    return lambda _, output: float(
        told.minimum <= _length(told, output) and (told.maximum is None or _length(told, output) <= told.maximum)
    )
