"""Ask a classifier for the class of every validation item, paired with another one or with what knows the labels alone; judged by `ringi.evaluation.verdict`.

A bare base has no head, so as a baseline it says nothing. What stands in its place is who has seen the labels of these rows and not the texts: it gives each label
the share of the rows that have it, and answers with the most frequent one. A classifier that is no better has learnt nothing of the texts.
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open

from ringi.adapters.labels import LABELS, ClassLabels, parse_labels
from ringi.datasets.contents import Row, from_sealed
from ringi.evaluation.verdict import NotFinite
from ringi.jobs.contracts.evaluation import ArmRecord, ItemRecord
from ringi.jobs.contracts.parts import Progress
from ringi.kit.digests import sha256_bytes
from ringi_workers.adapters.attach import attach, base_dtype, load_tokenizer
from ringi_workers.adapters.heads import BaseIncomplete, load_classifier
from ringi_workers.evaluation.fitting import Fit
from ringi_workers.evaluation.generate import EvaluationStopped, ProgressSink
from ringi_workers.training.classes import encode_class, padding_of
from ringi_workers.training.data import Example
from ringi_workers.training.export import WEIGHTS_FILE
from ringi_workers.training.packing import class_logits, padded

_NOTHING = ArmRecord(nll=None, tokens=0, output="", match=None)


class ClassArm(NamedTuple):
    """A base with a classifier's adapter, in eval mode, and what its classes mean."""

    model: Any
    tokenizer: Any
    labels: ClassLabels

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device


class _Item(NamedTuple):
    id: str
    row: Row
    # None where it asks for no label: a document, or an empty answer.
    label: str | None


def classifies(adapter: Path) -> bool:
    """Whether a PEFT folder that Ringi sealed is a classifier's: others have no labels."""
    return (adapter / LABELS).is_file()


def load_class_arm(base: Path, adapter: Path) -> ClassArm:
    """Onto the GPU if there is one, in the dtype that training would use. Raises AdapterLabelsInvalid, BaseIncomplete, and what `load_classifier` raises."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    labels = parse_labels((adapter / LABELS).read_bytes())
    loaded = load_classifier(base, labels, dtype=base_dtype(base, device), device=device)
    with safe_open(adapter / WEIGHTS_FILE, framework="pt") as file:
        brought = set(file.keys())
    # What neither base nor adapter has was drawn at random just now: another revision may lack a pooler that the version was trained over.
    if drawn := [name for name in loaded.made if f"base_model.model.{name}" not in brought]:
        raise BaseIncomplete(drawn)
    return ClassArm(attach(loaded.model, adapter), load_tokenizer(base), labels)


def evaluate_classes(
    candidate: ClassArm, baseline: ClassArm | None, rows: Path, *, max_length: int, batch_size: int, sink: ProgressSink
) -> Iterator[ItemRecord]:
    """Records of all items of `rows` (JSON lines with id, prompt, completion, tags), in their order; without a `baseline` against the shares of the labels.

    A label that no class stands for is a wrong answer without a likelihood. Raises EvaluationStopped, DeviceFull, NotFinite.
    """
    with rows.open("rb") as lines:
        items = [_item(json.loads(line)) for line in lines if line.strip()]
    sides = [
        _answers(arm, items, max_length=max_length, batch_size=batch_size, sink=sink) for arm in (candidate, baseline) if arm is not None
    ]
    if baseline is None:
        sides.append(_from_shares(items))
    for number, item in enumerate(items):
        records = [side[number] for side in sides]
        # What one side cannot score is compared in its answer alone.
        if any(record.nll is None for record in records):
            records = [record.model_copy(update={"nll": None, "tokens": 0}) for record in records]
        yield ItemRecord(
            item=item.id, slices=item.row.tags, prompt_digest=sha256_bytes(item.row.prompt.encode()), reference=item.row.completion,
            candidate=records[0], baseline=records[1],
        )  # fmt: skip


def _item(document: dict[str, Any]) -> _Item:
    row = from_sealed(document, 1)
    return _Item(document["id"], row, row.completion if row.completion.strip() else None)


def _answers(arm: ClassArm, items: Sequence[_Item], *, max_length: int, batch_size: int, sink: ProgressSink) -> list[ArmRecord]:
    encoded = [encode_class(arm.tokenizer, item.row.prompt, max_length) if item.label is not None else [] for item in items]
    records = [_NOTHING] * len(items)
    # Rows of like length go together: little of a batch is padding.
    order = sorted((place for place, ids in enumerate(encoded) if ids), key=lambda place: len(encoded[place]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    pad_id, done = padding_of(arm.tokenizer, arm.labels), 0

    def read(batch: list[int]) -> torch.Tensor:
        one = padded([Example(tuple(encoded[place]), len(encoded[place]), class_id=0) for place in batch], pad_id)
        with torch.inference_mode():
            return class_logits(arm.model, one).log_softmax(dim=1).cpu()

    for batch, found in Fit(batch_size).each(batches, read, _halves):
        for place, scores in zip(batch, found, strict=True):
            records[place] = _record(arm.labels, items[place], scores)
        done += len(batch)
        if sink.should_stop():
            raise EvaluationStopped(
                f"The evaluation was stopped after {done} of {len(order)} items.", next_step="Request it again to have it run."
            )
        sink.report(Progress(phase="evaluating", step=done, total=len(order)))
    return records


def _halves(batch: list[int]) -> tuple[list[int], list[int]] | None:
    middle = len(batch) // 2
    return (batch[:middle], batch[middle:]) if middle else None


def _record(labels: ClassLabels, item: _Item, scores: torch.Tensor) -> ArmRecord:
    if not bool(torch.isfinite(scores).all()):
        raise NotFinite(
            f"The classifier gives item '{item.id}' a likelihood that is not a finite number.",
            next_step="Look for overflow in the adapter's weights.",
            details={"item": item.id},
        )
    answer = labels.names[int(scores.argmax())]
    known = item.label in labels.names
    nll = -float(scores[labels.names.index(str(item.label))]) if known else None
    return ArmRecord(nll=nll, tokens=int(known), output=answer, match=answer == item.label)


def _from_shares(items: Sequence[_Item]) -> list[ArmRecord]:
    counts = Counter(item.label for item in items if item.label is not None)
    total = counts.total()
    # Of equally frequent ones the first by code point, so that it is the same one every time.
    usual = min(counts, key=lambda label: (-counts[label], label), default="")
    return [
        _NOTHING
        if item.label is None
        else ArmRecord(nll=-math.log(counts[item.label] / total), tokens=1, output=usual, match=item.label == usual)
        for item in items
    ]
