"""A suite's task that lm-evaluation-harness asks and scores: from what was sent to what is sealed. Pure.

Documents become items, so that slices, must-pass items and requirements are what they are for every task. Of a task that the library
knows by name they are not known here: its items are the numbers of its documents, and a worker that finds fewer says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ringi.jobs.contracts.scorers import HARNESS_SCORER, ScorerMisused, check
from ringi.jobs.contracts.suites import Answering, Decoding, Harness, Item, ScorerSpec
from ringi.kit.digests import Digest
from ringi.suites import harness_config, refusals
from ringi.suites.harness_config import Config
from ringi.suites.schemas import AddHarness, AddTask, FromDataset
from ringi.suites.sealing import MAX_ITEMS, Drafted

_TEXT, _NUMBER = "a text", "a number"
_KINDS = {str: _TEXT, bool: "true or false", int: _NUMBER, float: _NUMBER, list: "a list", dict: "an object"}
UNFILTERED = "none"


def is_meant(task: AddTask) -> bool:
    """Whether the task is one of the library, or half of one."""
    return task.answering is Answering.HARNESS or task.harness is not None


def drafted(task: AddTask, rows: Iterable[Mapping[str, Any]] | None, *, dataset: Digest | None = None) -> Drafted:
    """The task with its items; `rows` are its documents, None where it has none. Raises the refusals `SuiteHarness…`, `SuiteItemInvalid`."""
    how = task.harness
    if how is None or task.answering is not Answering.HARNESS:
        raise refusals.SuiteHarnessInvalid(task.name, "'answering: harness' and 'harness' belong together")
    if task.delimiter or task.decoding != Decoding():
        raise refusals.SuiteHarnessInvalid(task.name, "delimiter and decoding are said by the YAML: target_delimiter, generation_kwargs")
    if (how.task is None) == (how.config is None):
        raise refusals.SuiteHarnessInvalid(task.name, "it needs the name of a task or a YAML, and not both")
    if how.config is None:
        return _named(task, how, rows)
    if how.limit is not None:
        raise refusals.SuiteHarnessInvalid(task.name, "'limit' is for tasks that the library knows by name")
    if task.dataset is not None and task.dataset != FromDataset(version=task.dataset.version):
        raise refusals.SuiteHarnessInvalid(task.name, "of a dataset its rows are the documents; slices and source are named in 'harness'")
    config = harness_config.read(task.name, how.config)
    items = _items(task.name, list(rows or ()), how)
    harness_config.check_fields(task.name, config, frozenset(key for item in items for key in item.document or ()))
    kept = config.model_dump(mode="json", exclude_unset=True)
    scorers = [_scorer(task.name, spec, config) for spec in task.scorers]
    told = task.model_copy(update={"scorers": scorers, "decoding": config.decoding})
    return Drafted(told, items, (), dataset, Harness(config=kept, slices=tuple(how.slices), source=how.source))


def _named(task: AddTask, how: AddHarness, rows: Iterable[Mapping[str, Any]] | None) -> Drafted:
    if rows is not None or how.id is not None:
        raise refusals.SuiteHarnessInvalid(task.name, "the documents of a task that the library knows are the library's")
    if how.limit is None:
        raise refusals.SuiteHarnessInvalid(task.name, "'limit' must say how many of the library's documents are asked")
    told = task.model_copy(update={"scorers": [_scorer(task.name, spec, None) for spec in task.scorers]})
    items = tuple(Item(id=str(number)) for number in range(how.limit))
    return Drafted(told, items, (), None, Harness(task=how.task, slices=tuple(how.slices), source=how.source))


def _scorer(task: str, spec: ScorerSpec, config: Config | None) -> ScorerSpec:
    """A scorer of such a task is a metric of the library's; `acc` is short for `{name: lm_eval, parameters: {metric: acc}}`."""
    told = dict(spec.parameters) if spec.name == HARNESS_SCORER else {"metric": spec.name, **spec.parameters}
    if config is not None:
        told = {"filter": config.filters[0], "low": 0.0, "high": 1.0, "binary": True, **told}
        if told.get("metric") not in config.metrics:
            raise refusals.SuiteMetricUnknown(task, str(told.get("metric")), config.metrics)
        if told["filter"] not in config.filters:
            raise refusals.SuiteScorerUnfit(
                task,
                str(told["metric"]),
                f"the YAML has no filter '{told['filter']}'",
                next_step=f"Its filters are: {', '.join(config.filters)}.",
            )
    through = told.get("filter", UNFILTERED)
    label = spec.label or (f"{told.get('metric')}" if through == UNFILTERED else f"{told.get('metric')},{through}")
    made = ScorerSpec(name=HARNESS_SCORER, label=label, parameters=told)
    try:
        check(made, Answering.HARNESS)
    except ScorerMisused as error:
        raise refusals.scorer_refused(task, spec.name, error) from None
    return made


def _items(task: str, rows: Sequence[Mapping[str, Any]], how: AddHarness) -> tuple[Item, ...]:
    if not rows:
        raise refusals.SuiteNoItems(task)
    if len(rows) > MAX_ITEMS:
        raise refusals.SuiteItemInvalid(task, MAX_ITEMS + 1, f"a task has at most {MAX_ITEMS} items")
    shared = sorted(set.intersection(*(set(row) for row in rows)))
    for column in (how.id, how.source, *how.slices):
        if column is not None and column not in shared:
            raise refusals.SuiteColumnUnknown(f"task '{task}'", column, shared)
    _one_kind_each(task, rows)
    name = how.id or ("id" if "id" in shared else None)
    found = []
    for number, row in enumerate(rows):
        tags = {column: str(row[column]) for column in how.slices}
        source = str(row[how.source]) if how.source is not None else None
        try:
            item = Item(id=str(row[name]) if name is not None else str(number), document=dict(row), tags=tags, source=source)
        except ValidationError as error:
            raise refusals.SuiteItemInvalid(task, number + 1, str(error.errors()[0]["msg"])) from None
        if not all(word.isprintable() for word in (item.id, item.source or "", *item.tags.values())):
            raise refusals.SuiteItemInvalid(task, number + 1, "its id, source or a tag holds a character that is not printed")
        found.append(item)
    return tuple(found)


def _one_kind_each(task: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """The library holds documents in columns, each of one type."""
    kinds: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        for key, value in row.items():
            kind = _KINDS.get(type(value))
            if kind is not None and kinds.setdefault(key, kind) != kind:
                raise refusals.SuiteItemInvalid(task, number, f"'{key}' is {kind}, and was {kinds[key]} in an item before")
