"""Every scorer by its spec, and all scores of answers. What a worker may do for it (modules, judges) comes from its operator: `Access`.

Answering asks `Grading.scorer` for what it does not measure itself; or `Grading.graded` scores a whole batch, which judges at once and keeps what a
scorer says of its score.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, Self

from ringi.jobs.contracts.scorer_parameters import Custom, Judge
from ringi.jobs.contracts.scorers import CATALOGUE, CUSTOM, ScoreProblem, check
from ringi.jobs.contracts.suites import Answer, Item, ScorerSpec
from ringi.settings import Settings
from ringi_workers.evaluation.grading import formats, labels, leaks, matching, overlap, personal, refusals, toxicity
from ringi_workers.evaluation.grading.custom import CustomScorer, is_allowed
from ringi_workers.evaluation.grading.judge import LIMIT_S, Bounds, Endpoint, JudgeScorer
from ringi_workers.evaluation.grading.numbers import numeric
from ringi_workers.evaluation.grading.parts import Scored, Scorer, TextScorer, Unscored, of_text

# From what a scorer was told to the scorer; those that are told nothing take it all the same.
_TEXT: Mapping[str, Callable[[Any], TextScorer]] = MappingProxyType(
    {
        "exact_match": lambda _: matching.exact_match,
        "normalised_match": lambda _: matching.normalised,
        "contains": matching.contains,
        "regex": matching.regex,
        "one_of": matching.one_of,
        "length": matching.length,
        "length_within": matching.length_within,
        "numeric": numeric,
        "json_valid": formats.json_valid,
        "json_schema": formats.json_schema,
        "token_f1": lambda _: overlap.token_f1,
        "rouge_l": lambda _: overlap.rouge_l,
        "chrf": overlap.chrf,
        "bleu": overlap.bleu,
        "refusal": refusals.refusal,
        "no_toxicity": toxicity.no_toxicity,
        "no_personal_data": personal.no_personal_data,
        "no_leak": leaks.no_leak,
    }
)
_OTHERS: Mapping[str, Callable[[Any], Scorer]] = MappingProxyType(
    {
        "perplexity": lambda _: labels.perplexity,
        "macro_f1": lambda told: partial(labels.right_label, told),
        "exposure": lambda _: leaks.exposure,
    }
)


class Access(NamedTuple):
    """What the operator of a worker lets scorers do."""

    modules: tuple[str, ...] = ()
    folder: Path | None = None
    memory_bytes: int = 1024**3
    judges: Mapping[str, Endpoint] = MappingProxyType({})
    judges_at_once: int = 4
    judge_limit_s: float = LIMIT_S

    @classmethod
    def of(cls, settings: Settings) -> "Access":
        """From the process's settings."""
        judges = {name: Endpoint(url, settings.judge_keys.get(name)) for name, url in settings.judge_endpoints.items()}
        return cls(
            settings.scorer_modules, settings.scorer_folder, settings.scorer_memory_bytes, judges, settings.judge_requests, settings.judge_limit_s
        )  # fmt: skip


class Grading:
    """The scorers of one job; it owns their processes. Use it with `with`. Where `should_stop`, judges are not waited for."""

    def __init__(self, access: Access, *, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.access, self.should_stop = access, should_stop
        self._built: dict[str, Scorer] = {}
        self._processes: list[CustomScorer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the processes of custom scorers."""
        for process in self._processes:
            process.close()

    def try_again(self) -> None:
        """Before another arm: custom scorers that were given up are tried anew."""
        for process in self._processes:
            process.try_again()

    def scorer(self, spec: ScorerSpec) -> Scorer | None:
        """The scorer of a spec; None for those that answering measures and for names that nobody knows. Raises ScorerMisused."""
        known = CATALOGUE.get(spec.name)
        if (known is None and not CUSTOM.fullmatch(spec.name)) or (known is not None and known.by_answering):
            return None
        key = spec.model_dump_json(exclude={"label"})
        if key not in self._built:
            self._built[key] = self._build(spec)
        return self._built[key]

    def graded(self, items: Sequence[Item], answers: Sequence[Answer], specs: Sequence[ScorerSpec]) -> list[Answer]:
        """The answers with the scores of all `specs` that are not answering's own added; `items` have their choices. Raises ScorerMisused.

        An answer with a problem gets no score. A scorer that fails spoils its own score only; the first problem is the answer's.
        """
        scored = list(answers)
        for spec in specs:
            if (scorer := self.scorer(spec)) is None:
                continue
            places = [place for place, answer in enumerate(answers) if answer.problem is None]
            found = _scored(scorer, [(items[place], answers[place]) for place in places])
            by_place = dict(zip(places, found, strict=True))
            scored = [_with(answer, spec.metric, by_place.get(place, Scored(None))) for place, answer in enumerate(scored)]
        return scored

    def _build(self, spec: ScorerSpec) -> Scorer:
        told = check(spec)
        if spec.name in _TEXT:
            return of_text(_TEXT[spec.name](told))
        if spec.name in _OTHERS:
            return _OTHERS[spec.name](told)
        if isinstance(told, Custom):
            if not is_allowed(spec.name, self.access.modules):
                return _never(Unscored(ScoreProblem.SCORER_NOT_ALLOWED, f"the worker's operator has not allowed '{spec.name}'"))
            process = CustomScorer(spec.name, told, memory_bytes=self.access.memory_bytes, folder=self.access.folder)
            self._processes.append(process)
            return process
        if isinstance(told, Judge):
            bounds = Bounds(self.access.judges_at_once, self.access.judge_limit_s, self.should_stop)
            return JudgeScorer(told, self.access.judges.get(told.endpoint), bounds)
        # A test builds every name of the catalogue, so that none ends here.
        raise TypeError(spec.name)


def _scored(scorer: Scorer, pairs: Sequence[tuple[Item, Answer]]) -> list[Scored]:
    if isinstance(scorer, JudgeScorer):
        return scorer.many(pairs)
    return [_one(scorer, item, answer) for item, answer in pairs]


def _one(scorer: Scorer, item: Item, answer: Answer) -> Scored:
    try:
        found = scorer.scored(item, answer) if isinstance(scorer, CustomScorer) else Scored(scorer(item, answer))
    except Unscored as error:
        return Scored(None, error.code, error.note)
    if found.score is not None and not math.isfinite(found.score):
        return Scored(None, ScoreProblem.SCORER_NOT_FINITE)
    return found


def _with(answer: Answer, metric: str, scored: Scored) -> Answer:
    note = " ".join(part for part in (scored.problem, scored.note) if part)
    return answer.model_copy(
        update={
            "scores": {**answer.scores, metric: scored.score},
            "problem": answer.problem or scored.problem,
            "notes": {**answer.notes, metric: note} if note else answer.notes,
        }
    )


def _never(why: Unscored) -> Scorer:
    def refused(_: Item, __: Answer) -> float | None:
        raise Unscored(why.code, why.note)

    return refused
