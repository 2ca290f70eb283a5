"""The catalogue of scorers: their names, what they can be told, what their scores are and which answers they fit.

So a suite is checked where it is sealed, without the workers' code: `check(spec, answering)`. The scorers themselves are in
`ringi_workers.evaluation.grading`, and those that answering measures itself beside the answering. docs/scorers.md holds the same table.
"""

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from pydantic import ValidationError

from ringi.jobs.contracts import scorer_parameters as told
from ringi.jobs.contracts.parts import Part
from ringi.jobs.contracts.suites import Answering, ScorerSpec

# A dotted module, and a function of it.
CUSTOM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)

_GENERATE = frozenset({Answering.GENERATE})
_CHOICE = frozenset({Answering.CHOICE})
_SAID = frozenset({Answering.GENERATE, Answering.CHOICE})
_LIKELIHOOD = frozenset({Answering.LIKELIHOOD, Answering.EXACT})
_HARNESS = frozenset({Answering.HARNESS})
# The scorer of every metric of lm-evaluation-harness.
HARNESS_SCORER = "lm_eval"


class ScoreProblem(StrEnum):
    """Why an answer has no score: the codes of scorers. Those of answering itself are beside it."""

    NO_OUTPUT = "no_output"
    NO_REFERENCE = "no_reference"
    REFERENCE_UNREADABLE = "reference_unreadable"
    SCORER_CRASHED = "scorer_crashed"
    SCORER_RAISED = "scorer_raised"
    SCORER_TIMED_OUT = "scorer_timed_out"
    SCORER_OUT_OF_MEMORY = "scorer_out_of_memory"
    SCORER_NOT_FINITE = "scorer_not_finite"
    SCORER_WRONG_TYPE = "scorer_wrong_type"
    SCORER_OUT_OF_RANGE = "scorer_out_of_range"
    SCORER_OUTPUT_TOO_LARGE = "scorer_output_too_large"
    SCORER_NOT_ALLOWED = "scorer_not_allowed"
    SCORER_NOT_FOUND = "scorer_not_found"
    JUDGE_NOT_CONFIGURED = "judge_not_configured"
    JUDGE_REFUSED = "judge_refused"
    JUDGE_TOO_LATE = "judge_too_late"
    JUDGE_UNREACHABLE = "judge_unreachable"
    JUDGE_UNREADABLE = "judge_unreadable"


class Measure(NamedTuple):
    """One scorer of the catalogue.

    `binary`: scores are 0 or 1. `low` and `high` bound them, None where nothing does; no direction (`better` None) means that a mean says nothing
    of good and bad. `per_item` False: the figure is of all items together, and what one item gets is no share of it, so that no requirement can
    stand on its mean. `by_answering`: measured while answering, not from the text. `needs`: `reference` an accepted text, `answer` the place of the right choice.
    """

    name: str
    parameters: type[Part]
    answering: frozenset[Answering]
    says: str
    binary: bool = False
    low: float | None = 0.0
    high: float | None = 1.0
    better: str | None = "higher"
    per_item: bool = True
    by_answering: bool = False
    needs: str | None = None

    @property
    def lower_is_better(self) -> bool:
        """Whether less is better."""
        return self.better == "lower"

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which its scores lie; infinite where nothing bounds them."""
        if self.binary:
            return 0.0, 1.0
        return (-math.inf if self.low is None else self.low), (math.inf if self.high is None else self.high)

    @property
    def gateable(self) -> bool:
        """Whether a requirement can stand on the mean of its scores."""
        return self.per_item and self.better is not None


_ALL = (
    Measure("accuracy", told.Nothing, _CHOICE, "the likeliest choice is the right one", binary=True, by_answering=True, needs="answer"),
    Measure("accuracy_norm", told.Nothing, _CHOICE, "the same, likelihood per token", binary=True, by_answering=True, needs="answer"),
    Measure("accuracy_chars", told.Nothing, _CHOICE, "the same, likelihood per character", binary=True, by_answering=True, needs="answer"),
    Measure(
        "exact", told.Nothing, frozenset({Answering.EXACT}), "greedy decoding would give the first reference",
        binary=True, by_answering=True, needs="reference",
    ),
    Measure(
        "nll", told.Nothing, _LIKELIHOOD, "nats per token of the first reference",
        high=None, better="lower", by_answering=True, needs="reference",
    ),
    Measure(
        "perplexity", told.Nothing, _LIKELIHOOD, "e to the nll, item by item", low=1.0, high=None, better="lower", needs="reference",
    ),
    Measure("exact_match", told.Nothing, _GENERATE, "equal to a reference, but for white space around it", binary=True, needs="reference"),
    Measure("normalised_match", told.Nothing, _GENERATE, "equal to a reference once normalised", binary=True, needs="reference"),
    Measure("contains", told.Contains, _GENERATE, "a text stands in the answer, or does not", binary=True),
    Measure("regex", told.Regex, _GENERATE, "a pattern is found, or is not", binary=True),
    Measure("one_of", told.OneOf, _GENERATE, "the answer is one of a list", binary=True),
    Measure("numeric", told.Numeric, _GENERATE, "the number in the answer is that of a reference", binary=True, needs="reference"),
    Measure("json_valid", told.JsonValid, _GENERATE, "the answer is JSON", binary=True),
    Measure("json_schema", told.JsonSchema, _GENERATE, "the answer is JSON that a schema allows", binary=True),
    Measure("token_f1", told.Nothing, _GENERATE, "F1 of the shared words, best reference", needs="reference"),
    Measure("rouge_l", told.Nothing, _GENERATE, "F1 of the longest common subsequence, best reference", needs="reference"),
    Measure("chrf", told.Chrf, _GENERATE, "character n-grams, sentence by sentence", needs="reference"),
    Measure("bleu", told.Bleu, _GENERATE, "word n-grams, sentence by sentence, smoothed", needs="reference"),
    Measure("length", told.Length, _GENERATE, "how long the answer is", high=None, better=None),
    Measure("length_within", told.LengthWithin, _GENERATE, "the answer is neither too short nor too long", binary=True),
    Measure(
        "macro_f1", told.Labels, _SAID, "F1 of each label, averaged; an item gets 1 where its label is right", binary=True, per_item=False,
    ),
    Measure("refusal", told.Refusal, _GENERATE, "the answer refuses, or does not, as it should", binary=True),
    Measure("no_toxicity", told.Toxicity, _GENERATE, "no word of the lexicon stands in the answer", binary=True),
    Measure("no_personal_data", told.Personal, _GENERATE, "nothing that looks like personal data stands in the answer", binary=True),
    Measure("no_leak", told.Leak, _GENERATE, "no planted or sampled secret is repeated", binary=True, needs="reference"),
    Measure(
        "exposure", told.Nothing, _CHOICE, "bits by which the secret's rank among its rivals gives it away", high=None, better="lower", needs="answer",
    ),
    Measure("judge", told.Judge, _GENERATE, "what a model says of the answer by a rubric"),
    Measure(HARNESS_SCORER, told.HarnessMetric, _HARNESS, "what lm-evaluation-harness says of the answer", high=None, by_answering=True),
)  # fmt: skip

CATALOGUE: Mapping[str, Measure] = MappingProxyType({one.name: one for one in _ALL})


class ScorerMisused(ValueError):
    """A suite names a scorer that there is not, tells it what it does not know, or asks it about answers that it cannot score.

    `code` is `suite_scorer_unknown`, `suite_scorer_parameters` or `suite_scorer_unfit`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def check(spec: ScorerSpec, answering: Answering | None = None) -> Part:
    """The scorer's parameters, defaults filled in; raises ScorerMisused. Patterns and schemas are compiled in `ringi.suites.compiling`."""
    measure = measure_of(spec)
    if answering is not None and answering not in measure.answering:
        fits = ", ".join(sorted(measure.answering))
        raise ScorerMisused("suite_scorer_unfit", f"'{spec.name}' scores answers of {fits}, and the task's are of '{answering}'")
    return _parameters(spec, measure.parameters)


def measure_of(spec: ScorerSpec) -> Measure:
    """What is known of a scorer's scores; of a custom one what its parameters say. Raises ScorerMisused."""
    if (known := CATALOGUE.get(spec.name)) is not None:
        return known if spec.name != HARNESS_SCORER else _as_told(known, _parameters(spec, told.HarnessMetric))
    if not CUSTOM.fullmatch(spec.name):
        raise ScorerMisused(
            "suite_scorer_unknown", f"there is no scorer '{spec.name}'; there are {', '.join(CATALOGUE)} and module:function"
        )
    written = Measure(spec.name, told.Custom, frozenset(Answering) - _HARNESS, "a function of the user's")
    return _as_told(written, _parameters(spec, told.Custom))


def _as_told(measure: Measure, own: Part) -> Measure:
    if not isinstance(own, told.Custom | told.HarnessMetric):
        raise TypeError(measure.name)
    better = "lower" if own.lower_is_better else "higher"
    return measure._replace(binary=own.binary, low=own.low, high=own.high, better=better)


def _parameters(spec: ScorerSpec, model: type[Part]) -> Part:
    try:
        return model.model_validate(dict(spec.parameters))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'parameters'}: {one['msg']}" for one in error.errors())
        raise ScorerMisused("suite_scorer_parameters", f"'{spec.name}' cannot be told this: {wrong}") from None
