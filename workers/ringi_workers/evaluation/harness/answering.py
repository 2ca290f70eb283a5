"""One arm answers a task of lm-evaluation-harness: the library asks and scores, and its samples become answers like all others."""

import json
import traceback
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from ringi.jobs.contracts.scorer_parameters import HarnessMetric
from ringi.jobs.contracts.suites import Answer, Item, Problem
from ringi.jobs.contracts.sweeps import Record
from ringi.kit.digests import Digest
from ringi.kit.errors import RingiError
from ringi.measurements.lm_eval import samples
from ringi_workers.evaluation.ask import OnBatch, Pass
from ringi_workers.evaluation.fitting import DeviceFull, Fit
from ringi_workers.evaluation.harness import library
from ringi_workers.evaluation.harness.loading import Loaded
from ringi_workers.evaluation.harness.refusals import HarnessFailed, HarnessRefused, brief
from ringi_workers.evaluation.operations import Meter
from ringi_workers.evaluation.reach import Reach
from ringi_workers.evaluation.rendering import is_raw
from ringi_workers.failures import ran_out_of_memory

if TYPE_CHECKING:
    from ringi_workers.evaluation.harness.model import Engine, LoadedModel

_ENGINE = "ringi_workers.evaluation.harness.model"


def answer(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    loaded: Loaded,
    *,
    reach: Reach,
    stop_tokens: frozenset[int],
    context: int | None,
    batch_size: int,
    on_batch: OnBatch = lambda _items, _work: None,
) -> Pass:
    """All answers of `model` as it stands. A task that cannot be asked has answers without scores, which say why.

    Raises HarnessFailed where the library did not come to an end: what it would have said is not known, and is no answer.
    """
    meter, fit = Meter(model.device), Fit(batch_size)
    told = _Told(loaded, on_batch)
    if loaded.refusal is not None:
        return _refused(loaded, loaded.refusal, meter, told, batch_size)
    # Loaded only now: a worker without the library imports everything else of this package.
    from ringi_workers.evaluation.harness.model import Engine  # noqa: PLC0415

    engine = Engine(model, tokenizer, reach, stop_tokens, context, fit, meter, told)
    try:
        lm, found = _evaluated(loaded, engine)
    except HarnessFailed:
        raise
    except HarnessRefused as refusal:
        return _refused(loaded, refusal, meter, told, fit.size)
    answers = tuple(_answer(loaded, place, lm, found.get(str(place))) for place in range(len(loaded.items)))
    told.rest()
    generating = loaded.built.OUTPUT_TYPE == "generate_until"
    return Pass(answers, meter.operations(answers, generated=generating, pace=reach.pace, batch_size=fit.size))


class _Told:
    """Items that are done, as progress; what nobody told of is told at the end."""

    def __init__(self, loaded: Loaded, on_batch: OnBatch) -> None:
        self.left, self.work, self.on_batch = len(loaded.items), loaded.work_of_item, on_batch

    def __call__(self, items: int) -> None:
        self.left -= items
        self.on_batch(items, items * self.work)

    def rest(self) -> None:
        """The items that are left."""
        self(self.left)


def _evaluated(loaded: Loaded, engine: "Engine") -> tuple["LoadedModel", dict[str, Record]]:
    """Every document's record by its number. Raises HarnessRefused, and whatever ends the sweep."""
    from ringi_workers.evaluation.harness.model import LoadedModel  # noqa: PLC0415  # as above

    task, chat = loaded.task, not is_raw(engine.tokenizer, loaded.task)
    lm = LoadedModel(task, engine)
    name = loaded.built.config.task
    try:
        with library.seeded(), library.offline(unless=False), library.rendering(sandboxed=loaded.named is None):
            # The examples before a question are drawn anew for every arm, and must be the same.
            loaded.built.set_fewshot_seed(seed=library.OTHER_SEED)
            results = library.module("lm_eval.evaluator").evaluate(
                lm=lm, task_dict={"tasks": {name: loaded.built}, "groups": {}, "group_map": {}}, limit=len(loaded.items), bootstrap_iters=0,
                system_instruction=task.system, apply_chat_template=chat, fewshot_as_multiturn=chat,
            )  # fmt: skip
        lines = (json.dumps(one, ensure_ascii=False, default=_plain).encode() for one in results["samples"][name])
        return lm, {one.record.item: one.record for one in samples(task.name, lines)}
    except (HarnessRefused, DeviceFull):
        raise
    except RingiError as error:
        # Whoever stopped the sweep is not the library; samples that cannot be read are its own.
        if error.code.startswith("lm_eval"):
            raise HarnessFailed(task.name, error.message) from error
        raise
    except Exception as error:
        if ran_out_of_memory(error) or _of_the_engine(error):
            raise
        raise HarnessFailed(task.name, brief(error)) from error


def _of_the_engine(error: Exception) -> bool:
    """Whether the model or its device raised it, and not the library: it ends the sweep as in any other task."""
    places = (frame.f_globals.get("__name__") for frame, _ in traceback.walk_tb(error.__traceback__))
    return isinstance(error, RuntimeError) and _ENGINE in places


def _plain(value: Any) -> Any:
    """Numbers of numpy; anything else that JSON cannot carry is in a document of the library, and is not looked at again."""
    return value.item() if hasattr(value, "item") else str(value)


def _answer(loaded: Loaded, place: int, lm: "LoadedModel", record: Record | None) -> Answer:
    item, asked = loaded.items[place], loaded.asked[place]
    problem = lm.problems.get(place) or loaded.problems.get(place)
    if record is None or problem is not None:
        return _without(loaded, item, asked, problem or Problem.HARNESS_NO_SCORE)
    metrics = {spec.metric: HarnessMetric.model_validate(dict(spec.parameters)) for spec in loaded.task.scorers}
    scores = {name: record.scores.get(_called(told)) for name, told in metrics.items()}
    return Answer(
        item=item.id, asked=asked, tags=item.tags, source=item.source, output=record.output, choice=record.choice, logprobs=record.logprobs,
        scores=scores, problem=Problem.HARNESS_NO_SCORE if None in scores.values() else None,
        prompt_tokens=lm.prompt_tokens[place], output_tokens=lm.output_tokens[place], seconds=lm.seconds.get(place),
    )  # fmt: skip


def _called(told: HarnessMetric) -> str:
    """What the score is called in the records of `ringi.measurements.lm_eval`."""
    return told.metric if told.filter == "none" else f"{told.metric},{told.filter}"


def _refused(loaded: Loaded, refusal: HarnessRefused, meter: Meter, told: _Told, batch_size: int) -> Pass:
    """Every item without a score; the refusal stands at each metric."""
    problem = getattr(refusal, "problem", None) or refusal.code
    notes = dict.fromkeys((spec.metric for spec in loaded.task.scorers), str(refusal)[:500])
    answers = tuple(
        _without(loaded, item, asked, problem).model_copy(update={"notes": notes})
        for item, asked in zip(loaded.items, loaded.asked, strict=True)
    )
    told.rest()
    return Pass(answers, meter.operations(answers, generated=False, pace="none", batch_size=batch_size))


def _without(loaded: Loaded, item: Item, asked: Digest, problem: str) -> Answer:
    scores: Mapping[str, float | None] = dict.fromkeys((spec.metric for spec in loaded.task.scorers), None)
    return Answer(item=item.id, asked=asked, tags=item.tags, source=item.source, scores=scores, problem=str(problem))
