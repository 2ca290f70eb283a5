"""A suite's task as the library's: built once a sweep, before the model is there. What cannot be built is kept as its refusal.

Documents of a YAML are the suite's items and come from nowhere else; those of a named task are the library's, and their digest belongs to the
runtime of a measurement: other documents are another measurement.
"""

import copy
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, NamedTuple

from ringi.jobs.contracts.suites import Harness, Item, Problem, Task
from ringi.kit.digests import Digest, sha256_json
from ringi_workers.evaluation.harness import library
from ringi_workers.evaluation.harness.refusals import (
    HarnessDatasetMissing,
    HarnessDocumentsDiffer,
    HarnessFailed,
    HarnessNotInstalled,
    HarnessRefused,
    HarnessTaskUnknown,
    brief,
)  # fmt: skip
from ringi_workers.evaluation.rendering import Prepared, Rendered

log = logging.getLogger("ringi.worker")
# Tokens that an item is taken to cost beside what it generates: the prompts are not known before the model is.
_WORK_OF_ITEM = 256
_SPLIT = "test"
# What `datasets` raises where another part of the dataset is in its cache.
_OTHER_PART = "Couldn't find cache for"


class Loaded(NamedTuple):
    """A task as the library built it, None where there is a refusal; items with their tags, and the digest of what each is asked."""

    task: Task
    items: tuple[Item, ...]
    asked: tuple[Digest, ...]
    built: Any
    refusal: HarnessRefused | None
    # Of documents, by number, that no answer can be right for.
    problems: Mapping[int, Problem] = MappingProxyType({})

    @property
    def named(self) -> str | None:
        """The name by which the library knows it; None for a YAML."""
        return self.task.harness.task if self.task.harness is not None else None

    @property
    def work_of_item(self) -> int:
        """About how many tokens an arm reads and writes for one item."""
        return _WORK_OF_ITEM + self.task.decoding.max_new_tokens

    def prepared(self) -> Prepared:
        """As the tasks that Ringi asks itself; the library makes the prompts."""
        rendered = tuple(Rendered(item, asked, (), ()) for item, asked in zip(self.items, self.asked, strict=True))
        return Prepared(self.task, rendered, len(rendered) * self.work_of_item)


def load(task: Task, items: Sequence[Item], *, downloads: bool = False) -> Loaded:
    """Build a task that is `settled` for its base. Never raises: the sweep goes on without it."""
    told = task.harness or Harness()
    try:
        if library.version() is None:
            raise HarnessNotInstalled  # one place where refusals end
        with library.seeded(), library.offline(unless=downloads), library.rendering(sandboxed=told.task is None):
            if told.task is None:
                return _of_yaml(task, told, items)
            return _of_library(task, told, told.task, items)
    except HarnessRefused as refusal:
        log.warning("task '%s' is not asked: %s", task.name, refusal)
        return Loaded(task, tuple(items), tuple(_asked(task, item.document) for item in items), None, refusal)


def facts(loaded: Iterable[Loaded]) -> dict[str, str]:
    """What of the library a measurement depends on: its version, the documents of each task that it knows by name, and what it could not build."""
    found: dict[str, str] = {}
    for one in loaded:
        found["lm_eval"] = library.version() or "none"
        if one.refusal is not None:
            found[f"lm_eval {one.task.name}"] = one.refusal.code
        elif one.named is not None:
            found[f"lm_eval {one.task.name}"] = sha256_json(list(one.asked))
    return found


def _of_yaml(task: Task, told: Harness, items: Sequence[Item]) -> Loaded:
    documents = [dict(item.document or {}) for item in items]
    keys = dict.fromkeys(key for document in documents for key in document)
    config = copy.deepcopy(dict(told.config or {}))
    try:
        # In memory: nothing is written into a cache of datasets, and nothing is looked for there.
        rows = library.module("datasets").Dataset.from_list([{key: document.get(key) for key in keys} for document in documents])
        config |= {"task": task.name, "test_split": _SPLIT, "custom_dataset": lambda **_: {_SPLIT: rows}}
        config.setdefault("num_fewshot", 0)
        built = library.module("lm_eval.api.task").ConfigurableTask(config=config)
        problems = _problems(built)
    except Exception as error:  # whatever a document or a template makes of the library
        raise HarnessFailed(task.name, brief(error)) from error
    return Loaded(task, tuple(items), tuple(_asked(task, item.document) for item in items), built, None, problems)


def _problems(built: Any) -> dict[int, Problem]:
    """The library counts a right answer that is none of the choices as a wrong answer; here it is none."""
    found: dict[int, Problem] = {}
    for place, document in enumerate(built.eval_docs if built.OUTPUT_TYPE == "multiple_choice" else ()):
        choices, told = built.doc_to_choice(document), built.doc_to_target(document)
        for right in told if isinstance(told, list) else [told]:
            if not (0 <= right < len(choices) if isinstance(right, int) else right in choices):
                found[place] = Problem.ANSWER_OUT_OF_RANGE
    return found


def _of_library(task: Task, told: Harness, name: str, items: Sequence[Item]) -> Loaded:
    known = _manager().task_index.get(name)
    if known is None or known.kind.name not in {"TASK", "PY_TASK"}:
        raise HarnessTaskUnknown(name, library.version() or "")
    try:
        (built,) = _manager().load([name])["tasks"].values()
        documents = [dict(document) for _, document in zip(items, built.eval_docs, strict=False)]
        if built.get_config("num_fewshot") is None:
            built.set_config(key="num_fewshot", value=0)
    except OSError as error:
        # Of the same kind are: no network, offline, no such file, and the hub's own errors.
        raise HarnessDatasetMissing(name, brief(error)) from error
    except Exception as error:  # a task of the library is code
        if isinstance(error, ValueError) and str(error).startswith(_OTHER_PART):
            raise HarnessDatasetMissing(name, brief(error)) from error
        raise HarnessFailed(name, brief(error)) from error
    if len(documents) < len(items):
        raise HarnessDocumentsDiffer(name, f"there are {len(documents)}, and {len(items)} are asked")
    tagged = tuple(_tagged(item, document, told, name) for item, document in zip(items, documents, strict=True))
    return Loaded(task, tagged, tuple(_asked(task, document) for document in documents), built, None)


def _tagged(item: Item, document: Mapping[str, Any], told: Harness, name: str) -> Item:
    missing = [key for key in (*told.slices, told.source) if key is not None and key not in document]
    if missing:
        raise HarnessDocumentsDiffer(name, f"they have no field '{missing[0]}'")
    source = str(document[told.source]) if told.source is not None else None
    return item.model_copy(update={"tags": {key: str(document[key]) for key in told.slices}, "source": source})


def _asked(task: Task, document: Mapping[str, Any] | None) -> Digest:
    """Of the document and of all that makes a question of it; the words of a base's chat template are the base's."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, default=str)
    told = task.harness.model_dump(mode="json", exclude={"slices", "source"}) if task.harness is not None else None
    return sha256_json({"document": text, "harness": told, "render": task.render, "system": task.system})


@cache
def _manager() -> Any:
    """Knows every YAML of the library by its name; reading them takes seconds, so that it is done once a process."""
    return library.module("lm_eval.tasks").TaskManager()
