"""Per-item results of lm-evaluation-harness (`--log_samples`, one `samples_TASK_TIME.jsonl` a task) as records. Pure.

A line holds `doc_id`, `doc`, `target`, `arguments` (the requests, since 0.4 as `gen_args_N` with `arg_0` and `arg_1`), `filtered_resps`, the
names of its `metrics`, and each metric's value under its name. A task with several filters has a line for each (lm_eval/evaluator.py, 0.4.13).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from ringi.jobs.contracts.suites import Item
from ringi.jobs.contracts.sweeps import Record
from ringi.kit.digests import sha256_json
from ringi.kit.errors import InvalidInput

_NAME = re.compile(r"samples_(?P<task>.+?)(?:_\d{4}-\d{2}-\d{2}T[\d.-]+)?\.jsonl")
_UNFILTERED = "none"
_PAIR = 2


class SamplesUnreadable(InvalidInput):
    """A file that the harness did not write so."""

    code: ClassVar[str] = "lm_eval_samples_unreadable"

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(
            f"{where} holds no samples of lm-evaluation-harness: {reason}.",
            next_step="Run it with --log_samples and --output_path, and name the files samples_*.jsonl that it writes.",
        )


class Sample(NamedTuple):
    """One item: what was asked, and what was answered."""

    record: Record
    item: Item


def task_of(file_name: str) -> str:
    """The task in the name of a file. Raises SamplesUnreadable."""
    found = _NAME.fullmatch(file_name)
    if found is None:
        raise SamplesUnreadable(file_name, "its name is not samples_TASK_TIME.jsonl")
    return found["task"]


def samples(task: str, lines: Iterable[bytes], *, slices: Sequence[str] = ()) -> list[Sample]:
    """The samples of a task in the order of the file; `slices` are fields of the documents that become tags. Raises SamplesUnreadable."""
    by_id: dict[str, Sample] = {}
    for number, line in enumerate(lines, start=1):
        one = _sample(task, number, line, slices)
        known = by_id.get(one.record.item)
        if known is None:
            by_id[one.record.item] = one
        else:
            twice = sorted(known.record.scores.keys() & one.record.scores.keys())
            if twice:
                raise SamplesUnreadable(
                    f"line {number} of task '{task}'", f"document {one.record.item} has '{twice[0]}' for the second time"
                )
            scores = {**known.record.scores, **one.record.scores}
            by_id[one.record.item] = known._replace(record=known.record.model_copy(update={"scores": scores}))
    if not by_id:
        raise SamplesUnreadable(f"task '{task}'", "there is no line")
    return list(by_id.values())


def _sample(task: str, number: int, line: bytes, slices: Sequence[str]) -> Sample:
    where = f"line {number} of task '{task}'"
    try:
        row = json.loads(line)
        name, metrics, doc = str(row["doc_id"]), list(row["metrics"]), row["doc"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SamplesUnreadable(where, f"{type(error).__name__}: {error}") from None
    filtered = str(row.get("filter", _UNFILTERED))
    scores = {metric if filtered == _UNFILTERED else f"{metric},{filtered}": _number(row.get(metric)) for metric in metrics}
    requests = list(_requests(row.get("arguments")))
    prompt = requests[0].context if requests else ""
    choices = tuple(one.told for one in requests if isinstance(one.told, str))
    # What was read has a number for an answer, and no text.
    written = any(isinstance(one.told, Mapping) for one in requests)
    tags = {key: str(doc[key]) for key in slices if isinstance(doc, Mapping) and key in doc}
    logprobs = _logprobs(row.get("filtered_resps"), len(choices))
    # The harness's own hashes are of the document and the first prompt; choices and decoding stand in the requests alone.
    told = json.dumps([one.told for one in requests], sort_keys=True)
    doc_digest = row.get("doc_hash") or json.dumps(doc, sort_keys=True)
    asked = sha256_json({"doc": doc_digest, "prompt": row.get("prompt_hash") or prompt, "told": told, "target": str(row.get("target"))})
    best = max(range(len(logprobs)), key=logprobs.__getitem__) if logprobs else None
    record = Record(
        task=task, item=name, asked=asked, tags=tags, scores=scores, logprobs=logprobs, choice=best,
        output=choices[best] if best is not None else _text(row.get("resps"), row.get("filtered_resps")) if written else None,
    )  # fmt: skip
    several = len(choices) >= _PAIR and len(set(choices)) == len(choices)
    item = Item(
        id=name, prompt=prompt, choices=choices if several else (), answer=_answer(row.get("target"), choices) if several else None,
        references=() if several else _references(row.get("target")), tags=tags,
    )  # fmt: skip
    return Sample(record, item)


def _number(value: Any) -> float | None:
    # A perplexity's value is a pair that means nothing for one item.
    return float(value) if isinstance(value, bool | int | float) and abs(float(value)) != float("inf") and value == value else None  # noqa: PLR0124  # NaN


class _Request(NamedTuple):
    """`told`: the continuation whose likelihood was asked for, the settings that a text was generated with, or nothing."""

    context: str
    told: Any


def _requests(arguments: Any) -> Iterator[_Request]:
    rows = arguments.values() if isinstance(arguments, Mapping) else arguments if isinstance(arguments, list) else []
    for row in rows:
        pair = [row.get("arg_0"), row.get("arg_1")] if isinstance(row, Mapping) else list(row) if isinstance(row, list) else []
        if pair:
            yield _Request(str(pair[0]), pair[1] if len(pair) >= _PAIR else None)


def _logprobs(answers: Any, choices: int) -> tuple[float, ...]:
    if not isinstance(answers, list) or len(answers) != choices or not choices:
        return ()
    try:
        return tuple(float(one[0]) for one in answers)
    except (TypeError, ValueError, IndexError):
        return ()


def _text(answers: Any, filtered: Any) -> str | None:
    """What was generated, before any filter: the first response of the first request; where that is missing, what a filter left."""
    first = answers[0] if isinstance(answers, list) and answers else None
    if isinstance(first, list) and first and isinstance(first[0], str):
        return first[0]
    return filtered[0] if isinstance(filtered, list) and filtered and isinstance(filtered[0], str) else None


def _answer(target: Any, choices: Sequence[str]) -> int | None:
    text = str(target)
    if text.isascii() and text.isdigit() and int(text) < len(choices):
        return int(text)
    return next((place for place, choice in enumerate(choices) if choice.strip() == text.strip()), None)


def _references(target: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in target) if isinstance(target, list) else (str(target),)


# `target_delimiter`, unless a task says otherwise.
_DELIMITER = " "
# Metrics of the harness by the scorer here that is the same.
_SCORERS = {"acc": "accuracy", "acc_norm": "accuracy_chars"}


def suite_of(tasks: Mapping[str, Sequence[Sample]], slices: Sequence[str]) -> dict[str, Any]:
    """The questions as a suite, to be read and changed by people: tasks that choose, with a requirement each. Others are left out."""
    made, requirements = [], []
    for name, some in tasks.items():
        metrics = [metric for metric in _SCORERS if any(metric in one.record.scores for one in some)]
        if not metrics or not all(one.item.choices for one in some):
            continue
        scorers = [{"name": _SCORERS[metric], "label": metric} for metric in metrics]
        # The harness puts its delimiter before every choice, and counts the characters behind it (acc_norm).
        delimiter = _DELIMITER if all(choice.startswith(_DELIMITER) for one in some for choice in one.item.choices) else ""
        items = [
            one.item.model_copy(update={"choices": tuple(choice.removeprefix(delimiter) for choice in one.item.choices)}) for one in some
        ]
        task = {"name": name, "answering": "choice", "render": "raw", "delimiter": delimiter, "scorers": scorers}
        made.append({**task, "items": [item.model_dump(mode="json", exclude_defaults=True) for item in items]})
        wanted = dict.fromkeys(slices, "supporting")
        requirements.append({"task": name, "metric": metrics[0], "tier": "supporting", "margin": 0.05, "slices": wanted})
    # Samples of the harness hold no answers to the off-task probe.
    return {"tasks": made, "requirements": requirements, "off_task": False}
