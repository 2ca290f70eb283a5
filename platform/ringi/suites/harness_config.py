"""The YAML of a task of lm-evaluation-harness as data, or a refusal with a code. Pure, and nothing of the library is loaded.

In the library a YAML can name Python functions, classes, dataset scripts and metrics of a hub; it may not here. What is left is data: templates
(harness_words.py), delimiters, examples, filters, and metrics of which an item has a number of its own.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from ringi.jobs.contracts.parts import Part
from ringi.jobs.contracts.suites import Decoding
from ringi.suites import refusals
from ringi.suites.harness_patterns import WordsRefused, check_pattern
from ringi.suites.harness_words import names_of

Template = Annotated[str, StringConstraints(max_length=20_000)]
Short = Annotated[str, StringConstraints(max_length=1000)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=100)]
# Metrics that give an item a number; others give it a pair or a text, and the whole task a number.
PER_ITEM: Mapping[str, tuple[str, ...]] = {
    "multiple_choice": ("acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match"),
    "generate_until": ("exact_match",),
    "loglikelihood": ("acc",),
}
# Where a YAML names none: DEFAULT_METRIC_REGISTRY of lm_eval/api/registry.py, 0.4.13.
_BY_ITSELF = {"multiple_choice": ("acc", "acc_norm"), "generate_until": ("exact_match",), "loglikelihood": ("acc",)}
# Those that the library has itself; for another name it fetches a script.
_OF_THE_LIBRARY = frozenset(
    {
        "acc", "acc_norm", "acc_bytes", "acc_mutual_info", "acc_all", "exact_match", "perplexity", "word_perplexity", "byte_perplexity",
        "bits_per_byte", "bleu", "chrf", "chrf++", "ter", "f1", "mcc", "brier_score", "likelihood", "bypass",
    }
)  # fmt: skip
_CODE = (
    "class", "custom_dataset", "process_docs", "process_results", "doc_to_image", "doc_to_audio", "unsafe_code", "use_prompt", "metric_class",
)  # fmt: skip
# Where data come from is said by the suite: what a split is called changes nothing.
_IGNORED = frozenset(
    {
        "dataset_path", "test_split", "validation_split", "training_split", "tag", "group", "task_alias", "should_decontaminate",
        "doc_to_decontamination_query",
    }
)  # fmt: skip
_DATA = ("json", None)


class Metric(Part):
    """One entry of `metric_list`."""

    metric: Label
    aggregation: Literal["mean"] | None = None
    higher_is_better: Literal[True] = True
    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_numbers: bool = False
    regexes_to_ignore: tuple[str, ...] = ()


class FilterStep(Part):
    """One function of the library that an answer goes through."""

    function: Literal[
        "regex", "multi_choice_regex", "remove_whitespace", "lowercase", "uppercase", "map", "take_first", "format_span"
    ]  # fmt: skip
    regex_pattern: str | None = None
    group_select: int = 0
    fallback: str | None = None
    ignore_case: bool = False
    ignore_punctuation: bool = False
    regexes_to_ignore: tuple[str, ...] = ()
    mapping_dict: Mapping[str, str] = {}
    default_value: str | None = None


class Filters(Part):
    """One entry of `filter_list`."""

    name: Label
    filter: Annotated[tuple[FilterStep, ...], Field(min_length=1, max_length=16)]


class Examples(Part):
    """`fewshot_config`: solved documents that stand before the question, given here."""

    samples: Annotated[tuple[Mapping[str, Any], ...], Field(min_length=1, max_length=1000)]
    sampler: Literal["default", "first_n"] = "default"
    doc_to_text: Template | None = None
    doc_to_target: Template | int | None = None
    doc_to_choice: Template | tuple[str, ...] | None = None
    target_delimiter: Short | None = None
    fewshot_delimiter: Short | None = None


class Generation(Part):
    """`generation_kwargs`. Greedy: what is drawn is not the same twice. A task that draws is Ringi's own `generate`."""

    until: tuple[Short, ...] | None = None
    max_gen_toks: Annotated[int, Field(ge=1, le=4096)] = 256
    do_sample: Literal[False] = False
    temperature: Annotated[float, Field(ge=0, le=0)] = 0.0

    @field_validator("until", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class Config(Part):
    """What a YAML may say; names and defaults are those of lm_eval/config/task.py, 0.4.13."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    task: Label | None = None
    output_type: Literal["multiple_choice", "generate_until", "loglikelihood"] = "generate_until"
    doc_to_text: Template
    doc_to_target: Template | int
    doc_to_choice: Template | tuple[str, ...] | Mapping[str, str] | None = None
    description: Template = ""
    gen_prefix: Template | None = None
    target_delimiter: Short = " "
    fewshot_delimiter: Short = "\n\n"
    num_fewshot: Annotated[int, Field(ge=0, le=1000)] = 0
    fewshot_config: Examples | None = None
    metric_list: Annotated[tuple[Metric, ...], Field(min_length=1, max_length=16)] | None = None
    filter_list: Annotated[tuple[Filters, ...], Field(min_length=1, max_length=16)] | None = None
    generation_kwargs: Generation | None = None
    repeats: Literal[1] = 1
    metadata: Mapping[str, Any] | None = None
    _TEMPLATES: ClassVar[tuple[str, ...]] = ("doc_to_text", "doc_to_target", "doc_to_choice", "description", "gen_prefix")

    @model_validator(mode="after")
    def _fits_together(self) -> "Config":
        if self.output_type == "multiple_choice" and self.doc_to_choice is None:
            raise ValueError("multiple_choice needs doc_to_choice")
        if self.num_fewshot > (len(self.fewshot_config.samples) if self.fewshot_config else 0):
            raise ValueError("num_fewshot examples must stand in fewshot_config.samples")
        if self.generation_kwargs is not None and self.output_type != "generate_until":
            raise ValueError("generation_kwargs belong to generate_until")
        return self

    @property
    def metrics(self) -> tuple[str, ...]:
        """What an item has a number of."""
        named = tuple(one.metric for one in self.metric_list) if self.metric_list is not None else None
        return named or _BY_ITSELF[self.output_type]

    @property
    def filters(self) -> tuple[str, ...]:
        """The filters, of which each gives scores of its own."""
        return tuple(one.name for one in self.filter_list) if self.filter_list else ("none",)

    @property
    def decoding(self) -> Decoding:
        """How its text is generated: what the library makes of `generation_kwargs`."""
        if self.output_type != "generate_until":
            return Decoding()
        told = self.generation_kwargs or Generation()
        until = told.until if told.until is not None else (self.fewshot_delimiter,)
        return Decoding(max_new_tokens=told.max_gen_toks, stop=tuple(one for one in until if one))

    def templates(self) -> Iterator[tuple[str, str]]:
        """Every template by its key, but for those of the examples, which read other documents."""
        for key in self._TEMPLATES:
            if isinstance(value := getattr(self, key), str):
                yield key, value

    def patterns(self) -> Iterator[str]:
        """Every pattern."""
        for metric in self.metric_list or ():
            yield from metric.regexes_to_ignore
        for step in (step for one in self.filter_list or () for step in one.filter):
            yield from step.regexes_to_ignore
            if step.regex_pattern is not None:
                yield step.regex_pattern


def read(task: str, raw: Mapping[str, Any]) -> Config:
    """The YAML of a task. Raises SuiteHarnessCode, SuiteHarnessInclude, SuiteHarnessInvalid."""
    _refuse_code(task, raw)
    try:
        config = Config.model_validate({key: value for key, value in raw.items() if key not in _IGNORED})
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(str(step) for step in one['loc']) or 'config'}: {one['msg']}" for one in error.errors()[:3])
        raise refusals.SuiteHarnessInvalid(task, said) from None
    without = [name for name in config.metrics if name not in PER_ITEM[config.output_type]]
    if without:
        known = ", ".join(PER_ITEM[config.output_type])
        raise refusals.SuiteHarnessInvalid(task, f"of '{without[0]}' an item has no number of its own; these have one: {known}")
    try:
        for pattern in config.patterns():
            check_pattern(pattern)
        for template in _of_examples(config):
            names_of(template)
    except WordsRefused as error:
        raise refusals.SuiteHarnessCode(task, str(error)) from None
    return config


def check_fields(task: str, config: Config, fields: frozenset[str]) -> None:
    """Every field that a template reads is one of the documents'. Raises SuiteHarnessCode, SuiteHarnessInvalid."""
    for key, template in config.templates():
        try:
            missing = sorted(names_of(template) - fields)
        except WordsRefused as error:
            raise refusals.SuiteHarnessCode(task, f"{key}: {error}") from None
        if missing:
            raise refusals.SuiteHarnessInvalid(task, f"{key} reads '{missing[0]}', and the documents have {', '.join(sorted(fields))}")


def _of_examples(config: Config) -> Iterator[str]:
    if config.fewshot_config is not None:
        told = config.fewshot_config
        yield from (value for value in (told.doc_to_text, told.doc_to_target, told.doc_to_choice) if isinstance(value, str))


def _refuse_code(task: str, raw: Mapping[str, Any]) -> None:
    if "include" in raw:
        raise refusals.SuiteHarnessInclude(task, "there is no folder to include from; the command line puts included files in")
    named = [key for key in _CODE if raw.get(key)]
    if named:
        raise refusals.SuiteHarnessCode(task, f"'{named[0]}' names code")
    if raw.get("dataset_path") not in _DATA or any(raw.get(key) for key in ("dataset_name", "dataset_kwargs")):
        raise refusals.SuiteHarnessCode(
            task, "it names a dataset to be loaded; its documents are the task's items, or stand in a file beside it"
        )
    if any(isinstance(value, str) and value.lstrip().startswith("!function") for value in raw.values()):
        raise refusals.SuiteHarnessCode(task, "'!function' names code")
    metrics = raw.get("metric_list")
    for one in metrics if isinstance(metrics, list) else []:
        name = one.get("metric") if isinstance(one, Mapping) else None
        if isinstance(one, Mapping) and (one.get("hf_evaluate") or (isinstance(name, str) and name not in _OF_THE_LIBRARY)):
            raise refusals.SuiteHarnessCode(task, f"the metric '{name}' is a script to be fetched")
