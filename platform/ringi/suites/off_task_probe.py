"""The shipped off-task probe as part of another suite: task accuracy can stay high while general text is corrupted. Pure."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from ringi.gating.schemas import Requirement
from ringi.suites.reading import read_document
from ringi.suites.schemas import AddSuiteVersion
from ringi.suites.sealing import Drafted, items_of
from ringi.suites.shipping import document_of

# How the names of its tasks begin.
PREFIX = "off-task-"


class Probe(NamedTuple):
    """Tasks with their items, and what each must show."""

    drafts: Sequence[Drafted]
    requirements: Sequence[Requirement]


NOTHING = Probe((), ())


def beside(tasks: Sequence[str]) -> Probe:
    """What is sealed with tasks of these names: nothing where they hold tasks of a probe already."""
    return NOTHING if any(name.startswith(PREFIX) for name in tasks) else _shipped()


@cache
def _shipped() -> Probe:
    whole = AddSuiteVersion.model_validate(read_document(document_of("off-task")))
    return Probe([Drafted(task, items_of(task.name, task.items or []), ()) for task in whole.tasks], whole.requirements)
