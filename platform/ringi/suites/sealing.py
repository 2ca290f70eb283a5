"""From tasks with items to the bytes that are sealed, or to a refusal with a code. Pure: the same content gives the same digest.

Everything that a sweep could only find out after hours, or that a gate would have to guess at, is refused here.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError
from rfc8785 import CanonicalizationError

from ringi.gating.advice import Advice, advise, refuse_unsupported
from ringi.gating.schemas import Requirement
from ringi.jobs.contracts.scorers import Measure, ScorerMisused, measure_of
from ringi.jobs.contracts.suites import Answering, Harness, Item, ScorerSpec, Task
from ringi.kit.digests import Digest, canonical_json, sha256_bytes
from ringi.suites import refusals
from ringi.suites.compiling import check_deeply
from ringi.suites.schemas import AddTask, SuiteDocument, TaskFacts

MAX_ITEMS = 200_000
# Of a tag with more values no slices are made: it names items.
MAX_SLICES = 500
_WANTED = {Answering.EXACT, Answering.LIKELIHOOD}
FEWEST_CHOICES = 2


class Drafted(NamedTuple):
    """A task as it was sent, and its items wherever they came from; `dataset` is the digest of a dataset version, `harness` what suites/harness.py made."""

    task: AddTask
    items: tuple[Item, ...]
    choices: tuple[str, ...]
    dataset: Digest | None = None
    harness: Harness | None = None


class Sealed(NamedTuple):
    """A suite's document with its digest and its canonical bytes; `files` are the items of its tasks as JSON lines, by digest."""

    document: SuiteDocument
    digest: Digest
    content: bytes
    facts: dict[str, TaskFacts]
    files: Mapping[Digest, bytes]


def items_of(task: str, rows: Iterable[Mapping[str, Any]]) -> tuple[Item, ...]:
    """Rows as items, in their order. Raises SuiteItemInvalid, SuiteTagsInvalid, SuiteNoItems."""
    found = []
    for number, row in enumerate(rows, start=1):
        if number > MAX_ITEMS:
            raise refusals.SuiteItemInvalid(task, number, f"a task has at most {MAX_ITEMS} items")
        tags = row.get("tags", {})
        if not isinstance(tags, Mapping) or not all(isinstance(word, str) for pair in tags.items() for word in pair):
            raise refusals.SuiteTagsInvalid(task, number, tags)
        try:
            item = Item.model_validate(row)
        except ValidationError as error:
            raise refusals.SuiteItemInvalid(task, number, _said(error)) from None
        if (item.prompt is None) == (not item.messages):
            raise refusals.SuiteItemInvalid(task, number, "it needs a prompt or messages, and not both")
        words = (item.id, item.source or "", *(word for pair in item.tags.items() for word in pair))
        if not all(word.isprintable() for word in words):
            raise refusals.SuiteItemInvalid(task, number, "its id, source or a tag holds a character that is not printed")
        found.append(item)
    if not found:
        raise refusals.SuiteNoItems(task)
    return tuple(found)


def _said(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(str(step) for step in item['loc'])}: {item['msg']}" for item in error.errors()[:3])


def seal(drafts: Sequence[Drafted], requirements: Sequence[Requirement]) -> Sealed:
    """Check everything together, and give it its name. Raises the refusals of `refusals.py`, and MarginUnsupported."""
    if repeated := [name for name, count in Counter(one.task.name for one in drafts).items() if count > 1]:
        raise refusals.SuiteDuplicateTask(repeated[0])
    tasks, facts, files = [], {}, {}
    for draft in drafts:
        _check(draft)
        content = b"".join(_canonical(item.model_dump(mode="json", exclude_defaults=True)) + b"\n" for item in draft.items)
        digest = sha256_bytes(content)
        files[digest] = content
        tasks.append(_task(draft, digest))
        facts[draft.task.name] = _facts(draft)
    for requirement in requirements:
        _require(requirement, {one.task.name: one for one in drafts}, facts)
    if twice := [key for key, count in Counter((one.task, one.metric) for one in requirements).items() if count > 1]:
        raise refusals.SuiteRequirementInvalid(
            f"task '{twice[0][0]}' has two requirements for '{twice[0][1]}'", next_step="Keep one of them."
        )
    refuse_unsupported(advice_of(requirements, facts))
    document = SuiteDocument(tasks=tuple(tasks), requirements=tuple(requirements))
    plain = document.model_dump(mode="json")
    if any(isinstance(value, str) and "\x00" in value for value in _values(plain)):
        raise refusals.SuiteDocumentInvalid("it holds the character U+0000")
    content = _canonical(plain)
    return Sealed(document, sha256_bytes(content), content, facts, files)


def _canonical(plain: Any) -> bytes:
    try:
        return canonical_json(plain)
    except CanonicalizationError as error:
        raise refusals.SuiteDocumentInvalid(f"it holds what JSON cannot carry ({error})") from None


def _values(plain: Any) -> Iterator[Any]:
    """Every value of a document that holds no others, and every key."""
    if isinstance(plain, Mapping):
        yield from (value for pair in plain.items() for one in pair for value in _values(one))
    elif isinstance(plain, list | tuple):
        yield from (value for one in plain for value in _values(one))
    else:
        yield plain


def advice_of(requirements: Sequence[Requirement], facts: Mapping[str, TaskFacts]) -> list[Advice]:
    """What the items can show, for each critical task and slice."""
    known = ((one, facts[one.task]) for one in requirements if one.task in facts)
    return [line for one, of_task in known for line in advise(one, of_task.items, of_task.slices)]


def _task(draft: Drafted, items: Digest) -> Task:
    sent = draft.task
    return Task(
        name=sent.name, answering=sent.answering, items=items, count=len(draft.items), render=sent.render, system=sent.system, delimiter=sent.delimiter,
        choices=draft.choices, scorers=tuple(sent.scorers), decoding=sent.decoding, max_length=sent.max_length, harness=draft.harness,
    )  # fmt: skip


def _facts(draft: Drafted) -> TaskFacts:
    slices = Counter((key, value) for item in draft.items for key, value in item.tags.items())
    values = Counter(key for key, _ in slices)
    named = {f"{key}={value}": count for (key, value), count in sorted(slices.items()) if values[key] <= MAX_SLICES}
    return TaskFacts(items=len(draft.items), slices=named, dataset=draft.dataset)


def _check(draft: Drafted) -> None:
    task, items = draft.task, draft.items
    if not items:
        raise refusals.SuiteNoItems(task.name)
    if repeated := [name for name, count in Counter(item.id for item in items).items() if count > 1]:
        raise refusals.SuiteDuplicateItem(task.name, repeated)
    if task.decoding.temperature == 0 and task.decoding.repeats > 1:
        raise refusals.SuiteDocumentInvalid(f"task '{task.name}' asks greedy decoding for {task.decoding.repeats} equal answers")
    if repeated := [name for name, count in Counter(one.metric for one in task.scorers).items() if count > 1]:
        raise refusals.SuiteScorerUnfit(task.name, repeated[0], "two scorers of the task give it", next_step="Give one of them a label.")
    if task.answering is Answering.CHOICE:
        _check_choices(draft)
    elif draft.choices or any(item.choices for item in items):
        raise refusals.SuiteChoicesInvalid(task.name, None, f"a task that is answered by '{task.answering}' has none")
    if task.answering in _WANTED:
        _check_references(task.name, items)
    for spec in task.scorers:
        _check_scorer(draft, spec)


def _check_choices(draft: Drafted) -> None:
    _check_list(draft.task.name, None, draft.choices)
    for item in draft.items:
        choices = item.choices or draft.choices
        if item.choices:
            _check_list(draft.task.name, item.id, item.choices)
        if not choices:
            raise refusals.SuiteChoicesInvalid(draft.task.name, item.id, "there are none, neither here nor at the task")
        if item.answer is not None and not 0 <= item.answer < len(choices):
            raise refusals.SuiteAnswerOutOfRange(draft.task.name, item.id, item.answer, len(choices))


def _check_list(task: str, item: str | None, choices: Sequence[str]) -> None:
    if not choices:
        return
    if len(choices) < FEWEST_CHOICES:
        raise refusals.SuiteChoicesInvalid(task, item, "there is only one")
    if any(not choice.strip() for choice in choices):
        raise refusals.SuiteChoicesInvalid(task, item, "one of them is empty")
    if repeated := [text for text, count in Counter(choices).items() if count > 1]:
        raise refusals.SuiteChoicesInvalid(task, item, f"'{repeated[0][:80]}' stands there twice")


def _check_references(task: str, items: Sequence[Item]) -> None:
    without = [item.id for item in items if not any(text.strip() for text in item.references)]
    if without:
        raise refusals.SuiteNoReference(task, without)


def _check_scorer(draft: Drafted, spec: ScorerSpec) -> None:
    task = draft.task
    if any(isinstance(value, float) and not math.isfinite(value) for value in _values(spec.parameters)):
        raise refusals.SuiteDocumentInvalid(f"a parameter of the scorer '{spec.name}' is no number")
    try:
        check_deeply(spec, task.answering)
        needs = measure_of(spec).needs
    except ScorerMisused as error:
        raise refusals.scorer_refused(task.name, spec.name, error) from None
    if needs == "answer" and any(item.answer is None for item in draft.items):
        missing = next(item.id for item in draft.items if item.answer is None)
        raise refusals.SuiteScorerUnfit(task.name, spec.name, f"item '{missing}' does not say which choice is right")
    if needs == "reference":
        _check_references(task.name, draft.items)


def _require_possible(requirement: Requirement, measure: Measure) -> None:
    """A margin that no loss reaches, or a floor that no mean reaches, is a slip."""
    low, high = measure.bounds
    margins = {"margin": requirement.margin} | ({"slice_margin": requirement.slice_margin} if requirement.slices else {})
    for name, margin in margins.items():
        if margin > high - low:
            raise refusals.SuiteRequirementInvalid(
                f"no loss of '{requirement.metric}' is as large as its {name} {margin:g}: scores lie from {low:g} to {high:g}",
                next_step="Write a margin in units of the metric: 0.03 of accuracy is three points.",
            )
    if requirement.floor is not None and not low <= requirement.floor <= high:
        raise refusals.SuiteRequirementInvalid(
            f"the floor {requirement.floor:g} lies outside of what '{requirement.metric}' can be, {low:g} to {high:g}",
            next_step="Write the floor in units of the metric.",
        )


def _require(requirement: Requirement, drafts: Mapping[str, Drafted], facts: Mapping[str, TaskFacts]) -> None:
    draft = drafts.get(requirement.task)
    if draft is None:
        raise refusals.SuiteRequirementInvalid(
            f"there is no task '{requirement.task}'", next_step=f"The tasks are: {', '.join(sorted(drafts))}."
        )
    spec = next((one for one in draft.task.scorers if one.metric == requirement.metric), None)
    if spec is None:
        raise refusals.SuiteMetricUnknown(requirement.task, requirement.metric, [one.metric for one in draft.task.scorers])
    measure = measure_of(spec)
    if not measure.gateable:
        raise refusals.SuiteRequirementInvalid(
            f"the mean of '{requirement.metric}' says nothing of good and bad", next_step="Require another metric of the task."
        )
    if measure.lower_is_better != requirement.lower_is_better:
        better = "less" if measure.lower_is_better else "more"
        raise refusals.SuiteRequirementInvalid(
            f"of '{requirement.metric}' {better} is better", next_step=f"Write lower_is_better: {str(better == 'less').lower()}."
        )
    _require_possible(requirement, measure)
    slices = facts[requirement.task].slices
    # The documents of a named task are not known here: what it makes slices of is, and what is in them the gate will see.
    unseen = draft.harness.slices if draft.harness is not None and draft.harness.task is not None else ()
    for name in (one for one in requirement.slices if one.partition("=")[0] not in unseen):
        if not any(found == name or found.partition("=")[0] == name for found in slices):
            if any(name.partition("=")[0] in item.tags for item in draft.items) and not any(
                found.partition("=")[0] == name.partition("=")[0] for found in slices
            ):
                raise refusals.SuiteRequirementInvalid(
                    f"the tag '{name}' has more than {MAX_SLICES} values", next_step="Choose a tag that groups items."
                )
            raise refusals.SuiteSliceEmpty(requirement.task, name, sorted({found.partition("=")[0] for found in slices}))
    unknown = sorted(set(requirement.must_pass) - {item.id for item in draft.items})
    if unknown:
        raise refusals.SuiteMustPassUnknown(requirement.task, unknown)
