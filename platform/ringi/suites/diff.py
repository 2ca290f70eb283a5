"""What changed between two versions of a suite. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ringi.jobs.contracts.suites import Item, Task
from ringi.suites.schemas import SuiteDocument

# The items' digest and count are told by the items themselves.
_BY_ITEMS = {"items", "count"}


class Change(NamedTuple):
    """One difference: where, what, and both sides in words; None where a side has it not."""

    where: str
    what: str
    before: str | None
    now: str | None


Items = Mapping[str, Sequence[Item]]


def tasks_to_compare(before: SuiteDocument, now: SuiteDocument) -> list[str]:
    """Tasks of both versions whose items differ."""
    old = {task.name: task.items for task in before.tasks}
    return [task.name for task in now.tasks if task.name in old and old[task.name] != task.items]


def changes(before: SuiteDocument, now: SuiteDocument, items: Mapping[str, tuple[Sequence[Item], Sequence[Item]]]) -> list[Change]:
    """Every difference; `items` holds both sides of the tasks that `tasks_to_compare` names."""
    old, new = {task.name: task for task in before.tasks}, {task.name: task for task in now.tasks}
    found = [Change(name, "task", f"{old[name].count} items", None) for name in old if name not in new]
    found += [Change(name, "task", None, f"{new[name].count} items") for name in new if name not in old]
    for name in (one for one in new if one in old):
        found += _of_task(old[name], new[name])
        if name in items:
            found += _of_items(name, *items[name])
    return found + list(_of_requirements(before, now))


def _of_task(old: Task, new: Task) -> Iterator[Change]:
    yield from _fields(new.name, old.model_dump(mode="json", exclude=_BY_ITEMS), new.model_dump(mode="json", exclude=_BY_ITEMS))


def _fields(where: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for name in new:
        if old.get(name) != new[name]:
            yield Change(where, name, str(old.get(name)), str(new[name]))


def _of_items(task: str, before: Sequence[Item], now: Sequence[Item]) -> Iterator[Change]:
    old, new = {item.id: item for item in before}, {item.id: item for item in now}
    for name in old:
        if name not in new:
            yield Change(task, f"item {name}", "there", None)
    for name, item in new.items():
        if name not in old:
            yield Change(task, f"item {name}", None, "there")
        elif item != old[name]:
            changed = [field for field in Item.model_fields if getattr(item, field) != getattr(old[name], field)]
            yield Change(task, f"item {name}", "other " + ", ".join(changed), "changed")


def _of_requirements(before: SuiteDocument, now: SuiteDocument) -> Iterator[Change]:
    old = {(one.task, one.metric): one for one in before.requirements}
    new = {(one.task, one.metric): one for one in now.requirements}
    for task, metric in old.keys() - new.keys():
        yield Change(task, f"requirement {metric}", "there", None)
    for (task, metric), one in new.items():
        known = old.get((task, metric))
        if known is None:
            yield Change(task, f"requirement {metric}", None, f"{one.tier}, margin {one.margin:g}")
        else:
            yield from _fields(f"{task} requirement {metric}", known.model_dump(mode="json"), one.model_dump(mode="json"))
