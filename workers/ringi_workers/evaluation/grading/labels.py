"""Scores of labels, and figures of all items together: macro-F1 and the perplexity of a corpus.

Macro-F1 is no mean over items. What an item gets is whether its label is right, so that pairing has something to stand on; the figure and its
interval are computed here over all items, by resampling whole sources (cluster bootstrap), and so is the difference of two arms on the same items.
The gate's paired tests are of means and are not for it: the catalogue calls it not gateable.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ringi.jobs.contracts.scorer_parameters import Labels
from ringi.jobs.contracts.scorers import ScoreProblem
from ringi.jobs.contracts.suites import Answer, Item
from ringi_workers.evaluation.grading.parts import Unscored, references
from ringi_workers.evaluation.scorers import normalise

_LOW, _HIGH = 5.0, 95.0


class Labelled(NamedTuple):
    """One item: the right label, what was said (None: no label at all), and what it depends on."""

    item: str
    wanted: str
    said: str | None
    source: str


class Figure(NamedTuple):
    """A figure of a corpus with its 90 % interval; None where it cannot be told."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def labelled(item: Item, answer: Answer, told: Labels) -> Labelled:
    """Of a choice its text, of a generated text the label that it equals once normalised. Raises Unscored."""
    source = item.source or item.id
    if item.choices:
        if item.answer is None or answer.choice is None:
            raise Unscored(ScoreProblem.NO_REFERENCE if item.answer is None else ScoreProblem.NO_OUTPUT)
        return Labelled(item.id, item.choices[item.answer], item.choices[answer.choice], source)
    if answer.output is None:
        raise Unscored(ScoreProblem.NO_OUTPUT)
    wanted, said = normalise(references(item)[0]), normalise(answer.output)
    if not wanted:
        raise Unscored(ScoreProblem.REFERENCE_UNREADABLE)
    known = {normalise(text) for text in told.texts}
    return Labelled(item.id, wanted, said if said == wanted or not known or said in known else None, source)


def right_label(told: Labels, item: Item, answer: Answer) -> float:
    """1 or 0."""
    one = labelled(item, answer, told)
    return float(one.said == one.wanted)


class _Counts(NamedTuple):
    """By source and label: how often it was right, wanted and said."""

    both: NDArray[np.float64]
    wanted: NDArray[np.float64]
    said: NDArray[np.float64]


def _counted(rows: Sequence[Labelled], sources: dict[str, int], labels: dict[str, int]) -> _Counts:
    counts = _Counts(*(np.zeros((len(sources), len(labels))) for _ in range(3)))
    for row in rows:
        at = sources[row.source]
        counts.wanted[at, labels[row.wanted]] += 1
        if row.said in labels:
            counts.said[at, labels[row.said]] += 1
            counts.both[at, labels[row.said]] += row.said == row.wanted
    return counts


def _macro(counts: _Counts, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """One figure a row of `weights`; a label that is neither wanted nor said in a resample is left out of its mean."""
    both, either = weights @ counts.both, weights @ (counts.wanted + counts.said)
    present = either > 0
    f1 = np.divide(2 * both, either, out=np.zeros_like(both), where=present)
    return np.asarray(f1.sum(axis=1) / present.sum(axis=1), dtype=np.float64)


def _indexed(names: Iterable[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(sorted(set(names)))}


def _figure(value: float, resampled: NDArray[np.float64] | None, n: int) -> Figure:
    if resampled is None:
        return Figure(value, None, None, n)
    low, high = np.percentile(resampled, [_LOW, _HIGH])
    return Figure(value, float(low), float(high), n)


def _weights(sources: int, resamples: int, seed: int) -> NDArray[np.float64] | None:
    """How often each source is drawn; None where there is one alone, which says nothing of others."""
    if sources < 2:  # noqa: PLR2004 - two are the fewest that differ
        return None
    return np.random.default_rng(seed).multinomial(sources, np.full(sources, 1 / sources), size=resamples).astype(np.float64)


def macro_f1(rows: Sequence[Labelled], *, resamples: int = 1000, seed: int = 0) -> Figure:
    """The mean over labels of 2 both / (wanted + said), as scikit-learn's `f1_score(average="macro")` over the labels that were wanted or said.

    An answer that is no label counts against the label that was wanted and for none.
    """
    if not rows:
        return Figure(None, None, None, 0)
    sources, labels = (
        _indexed(row.source for row in rows),
        _indexed(label for row in rows for label in (row.wanted, row.said) if label is not None),
    )
    counts, drawn = _counted(rows, sources, labels), _weights(len(sources), resamples, seed)
    whole = float(_macro(counts, np.ones((1, len(sources))))[0])
    return _figure(whole, None if drawn is None else _macro(counts, drawn), len(rows))


def macro_f1_difference(baseline: Sequence[Labelled], candidate: Sequence[Labelled], *, resamples: int = 1000, seed: int = 0) -> Figure:
    """Candidate less baseline over the items that both have, each resample of the same sources in both arms."""
    before = {row.item: row for row in baseline}
    after = [row for row in candidate if row.item in before and row.wanted == before[row.item].wanted]
    pairs = [before[row.item] for row in after]
    if not after:
        return Figure(None, None, None, 0)
    sources = _indexed(row.source for row in pairs)
    labels = _indexed(label for row in (*pairs, *after) for label in (row.wanted, row.said) if label is not None)
    moved = [row._replace(source=before[row.item].source) for row in after]
    arms = _counted(pairs, sources, labels), _counted(moved, sources, labels)
    whole, drawn = np.ones((1, len(sources))), _weights(len(sources), resamples, seed)
    difference = float((_macro(arms[1], whole) - _macro(arms[0], whole))[0])
    return _figure(difference, None if drawn is None else _macro(arms[1], drawn) - _macro(arms[0], drawn), len(after))


def perplexity(_: Item, answer: Answer) -> float | None:
    """Of one item: e to its nll. The mean over items is not the perplexity of the corpus, which is `corpus_perplexity`."""
    try:
        return None if answer.nll is None else math.exp(answer.nll)
    except OverflowError:
        raise Unscored(ScoreProblem.SCORER_NOT_FINITE, f"e to {answer.nll} is beyond a float") from None


def corpus_perplexity(answers: Iterable[Answer]) -> float | None:
    """Of all tokens: e to their nll; None where nothing was measured."""
    measured = [(answer.nll, answer.output_tokens) for answer in answers if answer.nll is not None and answer.output_tokens]
    count = sum(tokens for _, tokens in measured)
    return math.exp(sum(nll * tokens for nll, tokens in measured) / count) if count else None
