"""Answer every validation item with both arms and record what is needed to pair them; judged later by `ringi.evaluation.verdict`.

Items are rendered exactly as in training. Prompts that occur more than once are read and answered once. A stop is
honoured between batches.
"""

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from transformers import DynamicCache

from ringi.datasets.contents import Row, from_sealed
from ringi.evaluation.verdict import NotFinite
from ringi.jobs.contracts.evaluation import ArmRecord, ItemRecord
from ringi.jobs.contracts.parts import Progress
from ringi.kit.digests import sha256_bytes
from ringi.kit.errors import RingiError
from ringi_workers.evaluation.answering import Answer, Prompt, Reference, answer
from ringi_workers.evaluation.arms import LoadedArm
from ringi_workers.evaluation.reading import common_beginning, read_beginning
from ringi_workers.evaluation.scorers import normalised_match
from ringi_workers.training.data import IGNORED, encode_answer

# An answer may run a little past its reference before it is cut; longer ones cannot match.
_SPARE_TOKENS = 8


class ProgressSink(Protocol):
    """Where progress goes, and whether the job was asked to stop."""

    def report(self, progress: Progress) -> None:
        """Take the newest progress."""

    def should_stop(self) -> bool:
        """Whether the work should end at the next opportunity."""


class EvaluationStopped(RingiError):
    """The job was cancelled; what was recorded so far is not a whole evaluation."""

    code: ClassVar[str] = "evaluation_stopped"
    status: ClassVar[int] = 409


class _Item(NamedTuple):
    """A row of the validation split, rendered for both arms."""

    id: str
    prompt: str
    completion: str
    slices: dict[str, str]
    rendered: tuple["_Rendered", "_Rendered"]


class _Rendered(NamedTuple):
    """One arm's tokens of an item; `reference` is None where truncation left no label token."""

    prompt: tuple[int, ...]
    reference: Reference | None


class _Group(NamedTuple):
    """Items with the same prompt tokens in both arms, which therefore share an answer."""

    items: list[_Item]
    max_new_tokens: int


def evaluate(
    candidate: LoadedArm, baseline: LoadedArm, rows: Path, *, max_new_tokens: int, max_length: int, batch_size: int, sink: ProgressSink
) -> Iterator[ItemRecord]:
    """Records of all items of `rows` (JSON lines with id, prompt, completion, tags), unscorable ones first, then batch by batch.

    At most `max_length` tokens of an item are read; an answer has at most `max_new_tokens`, and 8 more than the longest reference of its
    prompt. `batch_size` counts distinct prompts. Raises EvaluationStopped, and NotFinite where a likelihood is NaN or infinite.
    """
    arms = (candidate, baseline)
    # As bytes, because a text's splitlines also breaks at U+2028 and U+0085, which a JSON string may hold as they are.
    with rows.open("rb") as lines:
        items = [_item(arms, line, max_length) for line in lines if line.strip()]
    unscored = [item for item in items if any(rendered.reference is None for rendered in item.rendered)]
    yield from (_unscored_record(item) for item in unscored)
    groups = _grouped([item for item in items if all(rendered.reference is not None for rendered in item.rendered)], max_new_tokens)
    beginnings = tuple(_beginning(arm, groups, side) for side, arm in enumerate(arms))
    progress = _Meter(sink, total=len(items), done=len(unscored))
    for start in range(0, len(groups), batch_size):
        if sink.should_stop():
            raise EvaluationStopped(
                f"The evaluation was stopped after {progress.done} of {len(items)} items.", next_step="Request it again to have it run."
            )
        batch = groups[start : start + batch_size]
        answers = [_answers(arm, batch, side, beginnings[side]) for side, arm in enumerate(arms)]
        yield from _records(arms, batch, answers)
        progress.advance(batch)


def _item(arms: tuple[LoadedArm, LoadedArm], line: bytes, max_length: int) -> _Item:
    document: dict[str, Any] = json.loads(line)
    row = from_sealed(document, 1)
    candidate, baseline = (_render(arm.tokenizer, row, max_length) for arm in arms)
    return _Item(document["id"], row.prompt, row.answer, row.tags, (candidate, baseline))


def _render(tokenizer: Any, row: Row, max_length: int) -> _Rendered:
    """Training's own rendering, parted where the labels of the last answer begin."""
    encoded = encode_answer(tokenizer, row, max_length=max_length)
    labelled = [label != IGNORED for label in encoded.labels]
    if not any(labelled):
        return _Rendered(tuple(encoded.input_ids), None)
    first, last = labelled.index(True), len(labelled) - labelled[::-1].index(True)
    return _Rendered(tuple(encoded.input_ids[:first]), Reference(tuple(encoded.input_ids[first:last]), tuple(labelled[first:last])))


def _grouped(items: Sequence[_Item], max_new_tokens: int) -> list[_Group]:
    """Groups in order of their prompts' lengths, so that little of a batch is padding."""
    same: defaultdict[tuple[tuple[int, ...], ...], list[_Item]] = defaultdict(list)
    for item in items:
        same[tuple(rendered.prompt for rendered in item.rendered)].append(item)
    groups = [_Group(members, min(max_new_tokens, _longest_reference(members) + _SPARE_TOKENS)) for members in same.values()]
    return sorted(groups, key=lambda group: (len(group.items[0].rendered[0].prompt), group.max_new_tokens))


def _longest_reference(items: Sequence[_Item]) -> int:
    return max(len(rendered.reference.tokens) for item in items for rendered in item.rendered if rendered.reference is not None)


def _beginning(arm: LoadedArm, groups: Sequence[_Group], side: int) -> DynamicCache:
    prompts = [group.items[0].rendered[side].prompt for group in groups]
    shared = common_beginning(prompts)
    with arm.active() as model:
        return read_beginning(model, prompts[0][:shared] if prompts else ())


def _answers(arm: LoadedArm, batch: Sequence[_Group], side: int, beginning: DynamicCache) -> list[Answer]:
    prompts = [
        Prompt(
            group.items[0].rendered[side].prompt,
            tuple(item.rendered[side].reference for item in group.items),  # type: ignore[misc]  # _grouped got scorable items only.
            group.max_new_tokens,
        )
        for group in batch
    ]
    with arm.active() as model:
        return answer(model, prompts, beginning=beginning, stop_tokens=arm.stop_tokens)


def _records(arms: tuple[LoadedArm, LoadedArm], batch: Sequence[_Group], answers: Sequence[Sequence[Answer]]) -> Iterator[ItemRecord]:
    for number, group in enumerate(batch):
        for place, item in enumerate(group.items):
            candidate, baseline = (_arm_record(arm, item, side, answers[side][number], place) for side, arm in enumerate(arms))
            yield _record(item, candidate, baseline)


def _arm_record(arm: LoadedArm, item: _Item, side: int, given: Answer, place: int) -> ArmRecord:
    nll = given.nlls[place]
    if not math.isfinite(nll):
        raise NotFinite(
            f"The {('candidate', 'baseline')[side]} gives item '{item.id}' a likelihood that is not a finite number.",
            next_step="Look for overflow in the adapter's weights.",
            details={"item": item.id},
        )
    reference = item.rendered[side].reference
    output = arm.tokenizer.decode(list(given.tokens), skip_special_tokens=True)
    tokens = sum(reference.scored) if reference is not None else 0
    return ArmRecord(nll=nll, tokens=tokens, output=output, match=normalised_match(output, item.completion))


def _unscored_record(item: _Item) -> ItemRecord:
    nothing = ArmRecord(nll=None, tokens=0, output="", match=None)
    return _record(item, nothing, nothing)


def _record(item: _Item, candidate: ArmRecord, baseline: ArmRecord) -> ItemRecord:
    return ItemRecord(
        item=item.id,
        slices=item.slices,
        prompt_digest=sha256_bytes(item.prompt.encode()),
        reference=item.completion,
        candidate=candidate,
        baseline=baseline,
    )


class _Meter:
    """Counts items and reference tokens of both arms, and reports."""

    def __init__(self, sink: ProgressSink, *, total: int, done: int) -> None:
        self.sink, self.total, self.done = sink, total, done
        self.tokens = 0
        self.at_start = done
        self.started = time.monotonic()
        # The first batch of a large model takes a while; say at once how much there is to do.
        sink.report(Progress(phase="evaluating", step=done, total=total))

    def advance(self, batch: Sequence[_Group]) -> None:
        """Count a batch and tell the sink."""
        for group in batch:
            self.done += len(group.items)
            self.tokens += sum(len(r.reference.tokens) for item in group.items for r in item.rendered if r.reference is not None)
        seconds = time.monotonic() - self.started
        eta = seconds / max(self.done - self.at_start, 1) * (self.total - self.done)
        self.sink.report(
            Progress(phase="evaluating", step=self.done, total=self.total, tokens_per_s=self.tokens / max(seconds, 1e-6), eta_s=eta)
        )
