"""Scorers that measure how much of a reference an answer shares. Established metrics are the libraries': sacrebleu, and rapidfuzz for subsequences."""

import re
import unicodedata
from collections import Counter

from rapidfuzz.distance import LCSseq
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from ringi.jobs.contracts.scorer_parameters import Bleu, Chrf
from ringi.jobs.contracts.scorers import ScoreProblem
from ringi.jobs.contracts.suites import Item
from ringi_workers.evaluation.grading.parts import TextScorer, Unscored, references

# Kana, CJK ideographs with their extensions, and the marks of iteration and length that are letters.
_JAPANESE = r"\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_JAPANESE_CHARACTER = re.compile(f"[{_JAPANESE}]")
# A number keeps its point, and a word its apostrophe.
_TOKEN = re.compile(rf"[{_JAPANESE}]|\d+(?:[.,]\d+)*|(?:(?![{_JAPANESE}])[^\W_])+(?:['’](?:(?![{_JAPANESE}])[^\W_])+)*")
_ARTICLES = frozenset({"a", "an", "the"})


def tokens(text: str) -> list[str]:
    """Words and numbers, case folded, in NFKC; of Japanese each kana and each Chinese character is one. Punctuation is none.

    No dictionary is asked: the same text gives the same tokens on each machine and in each release.
    """
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


def _f1(shared: int, said: int, wanted: int) -> float:
    """Of two empty texts 1: they are equal."""
    if not said or not wanted:
        return float(said == wanted)
    return 2 * shared / (said + wanted)


def _wanted(item: Item, *, without: frozenset[str] = frozenset()) -> list[list[str]]:
    found = [[token for token in tokens(reference) if token not in without] for reference in references(item)]
    if not any(found):
        raise Unscored(ScoreProblem.REFERENCE_UNREADABLE, "no reference has a word")
    return [one for one in found if one]


def token_f1(item: Item, output: str) -> float:
    """As SQuAD (Rajpurkar et al. 2016): F1 of the bag of words without English articles; the best reference counts."""
    said = [token for token in tokens(output) if token not in _ARTICLES]
    return max(_f1((Counter(said) & Counter(wanted)).total(), len(said), len(wanted)) for wanted in _wanted(item, without=_ARTICLES))


def rouge_l(item: Item, output: str) -> float:
    """ROUGE-L (Lin 2004) at beta 1, of the whole text as one sentence: F1 of the longest common subsequence of tokens, without stemming."""
    said = tokens(output)
    return max(_f1(LCSseq.similarity(said, wanted), len(said), len(wanted)) for wanted in _wanted(item))


def chrf(told: Chrf) -> TextScorer:
    """The sentence chrF of sacrebleu, 0 to 1."""
    metric = CHRF(word_order=told.word_order)
    return lambda item, output: metric.sentence_score(output, list(references(item))).score / 100


def bleu(told: Bleu) -> TextScorer:
    """The sentence BLEU of sacrebleu, 0 to 1: effective order and exponential smoothing, as it recommends for single sentences."""
    metrics: dict[str, BLEU] = {}

    def score(item: Item, output: str) -> float:
        wanted = list(references(item))
        name = told.tokenize
        if name == "auto":
            name = "char" if any(_JAPANESE_CHARACTER.search(reference) for reference in wanted) else "13a"
        metric = metrics.setdefault(name, BLEU(tokenize=name, effective_order=True))
        # A perfect match gives 100.00000000000004.
        return min(metric.sentence_score(output, wanted).score / 100, 1.0)

    return score
