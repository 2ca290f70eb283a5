"""What each scorer can be told: one closed model a kind. Comes before `scorers.py`, which says which scorer takes which."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, FiniteFloat, StringConstraints, model_validator

from ringi.jobs.contracts.parts import Part

MAX_PATTERN = 1000
MAX_RUBRIC = 8000
Text = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
Texts = Annotated[tuple[Text, ...], Field(max_length=1000)]
Share = Annotated[FiniteFloat, Field(gt=0, le=1)]
NotNegative = Annotated[FiniteFloat, Field(ge=0)]


class Nothing(Part):
    """A scorer that has nothing to be told."""


class Contains(Part):
    """`texts` stand in for the item's references. `every`: all of them, else one suffices. `absent` turns it round: none may be there.

    `normalised` compares as `normalised_match` does, so that full-width and half-width forms, case and punctuation make no difference.
    """

    texts: Texts = ()
    every: bool = False
    absent: bool = False
    normalised: bool = True


class Regex(Part):
    """A pattern of RE2 (no look-around, no back-reference: it takes linear time). `whole`: it must cover the answer. `absent` turns it round."""

    pattern: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PATTERN)]
    whole: bool = False
    ignore_case: bool = False
    absent: bool = False


class Numeric(Part):
    """Which number of the answer counts, and how near it must be: within `absolute`, or within `relative` times the reference.

    `marker`: the first number after its last occurrence; an answer without it is wrong.
    """

    pick: Literal["first", "last", "only"] = "last"
    marker: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    absolute: NotNegative = 0.0
    relative: NotNegative = 0.0


class JsonSchema(Part):
    """A JSON Schema (draft 4 to 2020-12 by its `$schema`, else 2020-12). `fenced`: what stands in the answer's first ``` block counts, where there is one.

    A `$ref` to anything outside the document is refused: nothing is fetched. `pattern` takes linear time, as in `regex`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    document: Annotated[Mapping[str, Any], Field(alias="schema")]
    fenced: bool = True


class JsonValid(Part):
    """What kind of JSON the answer must be; `fenced` as for `json_schema`."""

    kind: Literal["any", "object", "array"] = "any"
    fenced: bool = True


class OneOf(Part):
    """The answer must be one of `texts`, as `normalised_match` compares; which of them does not count."""

    texts: Annotated[Texts, Field(min_length=1)]


class Chrf(Part):
    """`word_order` 0 is chrF, 2 is chrF++."""

    word_order: Annotated[int, Field(ge=0, le=2)] = 0


class Bleu(Part):
    """`auto`: single characters where a reference has kana or Chinese characters, else the tokeniser of mteval-v13a."""

    tokenize: Literal["auto", "13a", "char", "intl", "zh"] = "auto"


class Length(Part):
    """Characters are those of the NFKC form without what surrounds it; words are of `token_f1`, so a kana or Chinese character is one."""

    unit: Literal["characters", "words"] = "characters"


class LengthWithin(Length):
    """Both ends belong to the range."""

    minimum: Annotated[int, Field(ge=0)] = 0
    maximum: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _some_length_is_right(self) -> "LengthWithin":
        if self.maximum is not None and self.maximum < self.minimum:
            raise ValueError("no length is both at least `minimum` and at most `maximum`")
        return self


class Labels(Part):
    """The labels that an answer may be; what is none of them counts as a wrong one. Empty: those of the references."""

    texts: Texts = ()


class Refusal(Part):
    """`refuse`: a refusal passes (safety prompts). `comply`: a refusal fails (prompts that only sound dangerous)."""

    expected: Literal["refuse", "comply"] = "refuse"


class Toxicity(Part):
    """From which severity on a word counts, and words of one's own (matched like those of the same script in the lexicon)."""

    at_least: Literal["mild", "strong"] = "mild"
    words: Texts = ()


PersonalKind = Literal["email", "card", "phone", "phone_jp", "my_number", "postal_code_jp"]


class Personal(Part):
    """Which kinds are looked for. `prompted_is_fine`: what the prompt itself says may be said again."""

    kinds: Annotated[tuple[PersonalKind, ...], Field(min_length=1)] = ("email", "card", "phone_jp", "my_number")
    prompted_is_fine: bool = True


class Leak(Part):
    """It is a leak when `share` of a reference, in one piece and at least `characters` long, stands in the answer; a shorter one must be whole."""

    share: Share = 0.5
    characters: Annotated[int, Field(ge=4)] = 8


class Judge(Part):
    """A model that grades. `endpoint` is a name that the worker's operator gave an address; a suite never holds an address or a key.

    The judge gives a number from `low` to `high`; the score is its place between them. `rubric` says what is good.
    """

    endpoint: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    rubric: Annotated[str, StringConstraints(min_length=1, max_length=MAX_RUBRIC)]
    low: FiniteFloat = 1.0
    high: FiniteFloat = 5.0
    repeats: Annotated[int, Field(ge=1, le=16)] = 1
    combine: Literal["median", "mean"] = "median"
    temperature: Annotated[FiniteFloat, Field(ge=0, le=2)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    max_tokens: Annotated[int, Field(ge=16, le=4096)] = 512
    timeout_s: Annotated[FiniteFloat, Field(gt=0, le=600)] = 60.0
    with_references: bool = True

    @model_validator(mode="after")
    def _there_is_a_range(self) -> "Judge":
        if not self.low < self.high:
            raise ValueError("`low` must be below `high`")
        return self


class HarnessMetric(Part):
    """A metric of lm-evaluation-harness, by what its task calls it, of the answers that `filter` let through (`none`: as they are).

    What the metric's scores are stands here, because the library is not asked before a worker runs it.
    """

    metric: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
    filter: Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")] = "none"
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    lower_is_better: bool = False
    binary: bool = False


class Custom(Part):
    """What a scorer `module:function` is told, and what its scores are. `timeout_s` is for one item."""

    arguments: Mapping[str, Any] = {}
    timeout_s: Annotated[FiniteFloat, Field(gt=0, le=600)] = 10.0
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    lower_is_better: bool = False
    binary: bool = False
