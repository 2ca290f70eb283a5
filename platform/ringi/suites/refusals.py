"""Why a suite is not sealed. Nothing of it is kept then."""

from collections.abc import Sequence
from typing import Any, ClassVar

from ringi.jobs.contracts.scorers import ScorerMisused
from ringi.kit.errors import Conflict, InvalidInput, RingiError

_SHOWN = 10


class SuiteExists(Conflict):
    """The name is in use."""

    code: ClassVar[str] = "suite_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is already a suite named '{name}' in this project.", next_step="Add a version to it instead.")


class SuiteItemInvalid(InvalidInput):
    """A line or object that is no item."""

    code: ClassVar[str] = "suite_item_invalid"

    def __init__(self, task: str, number: int, reason: str) -> None:
        super().__init__(
            f"Item {number} of task '{task}' cannot be taken: {reason}.",
            next_step='Write each as {"id": "q1", "prompt": "…", "references": ["…"], "tags": {"language": "ja"}}.',
            details={"task": task, "number": number, "reason": reason},
        )


class SuiteTagsInvalid(InvalidInput):
    """Tags, which make the slices, are a mapping of texts to texts: a text alone would be read letter by letter."""

    code: ClassVar[str] = "suite_slices_not_mapping"

    def __init__(self, task: str, number: int, tags: Any) -> None:
        super().__init__(
            f"The tags of item {number} of task '{task}' are {type(tags).__name__}, not texts by name.",
            next_step='Write "tags": {"language": "ja"}.',
            details={"task": task, "number": number},
        )


class SuiteNoItems(InvalidInput):
    """A mean over nothing is no measurement."""

    code: ClassVar[str] = "suite_no_items"

    def __init__(self, task: str) -> None:
        super().__init__(f"Task '{task}' has no items.", next_step="Give it items, items_digest or dataset.", details={"task": task})


class SuiteItemsAmbiguous(InvalidInput):
    """Items from two places at once."""

    code: ClassVar[str] = "suite_items_ambiguous"

    def __init__(self, task: str) -> None:
        super().__init__(
            f"Task '{task}' has items from several places.",
            next_step="Keep one of items, items_digest and dataset.",
            details={"task": task},
        )


class SuiteDuplicateTask(InvalidInput):
    """Two tasks of one name."""

    code: ClassVar[str] = "suite_duplicate_task"

    def __init__(self, name: str) -> None:
        super().__init__(f"There are several tasks named '{name}'.", next_step="Give each a name of its own.", details={"task": name})


class SuiteDuplicateItem(InvalidInput):
    """Two items of one id: pairing would mix them up."""

    code: ClassVar[str] = "suite_duplicate_item"

    def __init__(self, task: str, names: Sequence[str]) -> None:
        super().__init__(
            f"{len(names)} item ids of task '{task}' occur more than once, the first is '{names[0]}'.", next_step="Give each an id of its own.",
            details={"task": task, "items": list(names[:_SHOWN]), "count": len(names)},
        )  # fmt: skip


class SuiteChoicesInvalid(InvalidInput):
    """Choices between which nothing can be decided."""

    code: ClassVar[str] = "suite_choices_invalid"

    def __init__(self, task: str, item: str | None, reason: str) -> None:
        where = f"item '{item}' of task '{task}'" if item is not None else f"task '{task}'"
        super().__init__(
            f"The choices of {where} cannot be used: {reason}.", next_step="Give at least two different texts.",
            details={"task": task, "item": item},
        )  # fmt: skip


class SuiteAnswerOutOfRange(InvalidInput):
    """The right answer is none of the choices."""

    code: ClassVar[str] = "suite_answer_out_of_range"

    def __init__(self, task: str, item: str, answer: int | str, choices: int) -> None:
        super().__init__(
            f"The right answer of item '{item}' of task '{task}' is {answer!r}, and it has {choices} choices.",
            next_step="Count from 0, or add the missing choice.",
            details={"task": task, "item": item},
        )


class SuiteNoReference(InvalidInput):
    """Nothing to compare an answer with."""

    code: ClassVar[str] = "suite_no_reference"

    def __init__(self, task: str, names: Sequence[str]) -> None:
        super().__init__(
            f"{len(names)} items of task '{task}' have no reference, the first is '{names[0]}'.", next_step='Give each "references": ["…"].',
            details={"task": task, "items": list(names[:_SHOWN]), "count": len(names)},
        )  # fmt: skip


class SuiteScorerUnknown(InvalidInput):
    """There is no such scorer."""

    code: ClassVar[str] = "suite_scorer_unknown"


class SuiteScorerParameters(InvalidInput):
    """A scorer is told what it does not know, or a pattern or schema that cannot be read."""

    code: ClassVar[str] = "suite_scorer_parameters"


class SuiteScorerUnfit(InvalidInput):
    """The scorer cannot score this task."""

    code: ClassVar[str] = "suite_scorer_unfit"

    def __init__(
        self, task: str, name: str, reason: str, *, next_step: str = "Choose another scorer, or another way of answering."
    ) -> None:
        super().__init__(f"'{name}' does not fit task '{task}': {reason}.", next_step=next_step, details={"task": task, "scorer": name})


class SuiteMetricUnknown(InvalidInput):
    """A requirement for something that nobody measures."""

    code: ClassVar[str] = "suite_metric_unknown"

    def __init__(self, task: str, metric: str, known: Sequence[str]) -> None:
        super().__init__(
            f"No scorer of task '{task}' gives '{metric}'.", next_step=f"Its metrics are: {', '.join(known)}.",
            details={"task": task, "metric": metric, "known": list(known)},
        )  # fmt: skip


class SuiteSliceEmpty(InvalidInput):
    """A requirement for a slice that no item belongs to."""

    code: ClassVar[str] = "suite_slice_empty"

    def __init__(self, task: str, name: str, known: Sequence[str]) -> None:
        super().__init__(
            f"No item of task '{task}' belongs to the slice '{name}'.",
            next_step=f"Its tags are: {', '.join(known)}." if known else "Give its items tags.",
            details={"task": task, "slice": name, "known": list(known)},
        )


class SuiteMustPassUnknown(InvalidInput):
    """Items that must pass and are not there."""

    code: ClassVar[str] = "suite_must_pass_unknown"

    def __init__(self, task: str, names: Sequence[str]) -> None:
        super().__init__(
            f"{len(names)} items that must pass are not in task '{task}', the first is '{names[0]}'.", next_step="Name items of the task.",
            details={"task": task, "items": list(names[:_SHOWN]), "count": len(names)},
        )  # fmt: skip


class SuiteRequirementInvalid(InvalidInput):
    """A requirement that contradicts the tasks."""

    code: ClassVar[str] = "suite_requirement_invalid"

    def __init__(self, reason: str, *, next_step: str) -> None:
        super().__init__(f"A requirement cannot be kept: {reason}.", next_step=next_step)


class SuiteDocumentInvalid(InvalidInput):
    """Something else that no suite can be."""

    code: ClassVar[str] = "suite_document_invalid"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The suite cannot be sealed: {reason}.", next_step="Change it, and add it again.")


class SuiteColumnUnknown(InvalidInput):
    """A dataset has no such column, or not in every row."""

    code: ClassVar[str] = "suite_column_unknown"

    def __init__(self, dataset: str, column: str, known: Sequence[str]) -> None:
        super().__init__(
            f"Rows of {dataset} have no column '{column}'.", next_step=f"Name one that every row has: {', '.join(known)}.",
            details={"dataset": dataset, "column": column, "known": list(known)},
        )  # fmt: skip


class SuiteNoCanaries(InvalidInput):
    """Nothing that was asked for stands in the training rows, so no model could have it from there."""

    code: ClassVar[str] = "suite_no_canaries"

    def __init__(self, version: str, reason: str, *, next_step: str) -> None:
        super().__init__(f"The training rows of {version} give no question: {reason}.", next_step=next_step, details={"dataset": version})


class SuiteItemsUnreadable(RingiError):
    """An uploaded file that is no JSON lines."""

    code, status = "suite_items_unreadable", 400

    def __init__(self, task: str, reason: str) -> None:
        super().__init__(
            f"The items of task '{task}' cannot be read: {reason}.", next_step="Upload JSON lines in UTF-8, one item a line.",
            details={"task": task},
        )  # fmt: skip


class SuiteHarnessInvalid(InvalidInput):
    """A task of lm-evaluation-harness that is none, or says what it must not say here."""

    code: ClassVar[str] = "suite_harness_invalid"

    def __init__(self, task: str, reason: str) -> None:
        super().__init__(
            f"Task '{task}' is no task of lm-evaluation-harness that can be sealed: {reason}.",
            next_step="See docs/evaluation.md, 'Tasks of lm-evaluation-harness'.",
            details={"task": task, "reason": reason},
        )


class SuiteHarnessCode(InvalidInput):
    """A task of lm-evaluation-harness that names code, or could run some: a YAML is data."""

    code: ClassVar[str] = "suite_harness_code"

    def __init__(self, task: str, reason: str) -> None:
        super().__init__(
            f"Task '{task}' would run code: {reason}.",
            next_step="Say it with plain templates, or let the library's own task be asked by its name.",
            details={"task": task, "reason": reason},
        )


class SuiteHarnessInclude(InvalidInput):
    """A YAML that includes what is not beside it."""

    code: ClassVar[str] = "suite_harness_include"

    def __init__(self, task: str, reason: str) -> None:
        super().__init__(
            f"An include of task '{task}' is not followed: {reason}.",
            next_step="Put the file into the YAML's folder, and add the suite with 'ringi suites add'.",
            details={"task": task, "reason": reason},
        )


def scorer_refused(task: str, name: str, why: ScorerMisused) -> InvalidInput:
    """The refusal of a scorer as the catalogue words it."""
    if why.code == SuiteScorerUnfit.code:
        return SuiteScorerUnfit(task, name, str(why))
    kind = SuiteScorerUnknown if why.code == SuiteScorerUnknown.code else SuiteScorerParameters
    return kind(
        f"A scorer of task '{task}' cannot be used: {why}.", next_step="See docs/scorers.md.", details={"task": task, "scorer": name}
    )
