"""Rows of a text and its label to examples of a classifier. Beside `data.py`, which makes examples of a language model.

A text is read as the base's tokenizer writes it, with the tokens that it puts around a text ([CLS], [SEP]) and without a chat template: what the head's user does.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from transformers import AutoConfig, PreTrainedTokenizerBase

from ringi.adapters.labels import FEWEST_LABELS, LABELS, MOST_CHARACTERS, MOST_LABELS, ClassLabels, parse_labels
from ringi.datasets.contents import Pair
from ringi.jobs.contracts.methods import TrainingTask
from ringi.jobs.contracts.training import LoraSpec
from ringi.kit.errors import RingiError
from ringi_workers.training.data import Example, Examples, NoLabelTokens, load_examples, pad_id_of, read_rows
from ringi_workers.training.earlier import Earlier

_SHOWN = 10
log = logging.getLogger("ringi.job")


class RowsWithoutLabel(RingiError):
    """Conversations and documents have no label."""

    code, status = "training_rows_without_label", 400

    def __init__(self, line: int) -> None:
        super().__init__(
            f"Row {line} has no label: a classifier learns from rows of a text and its label.",
            next_step="Train on a dataset whose rows have 'text' and 'label' (or 'prompt' and 'completion').",
            details={"line": line},
        )


class LabelsUnfit(RingiError):
    """One class leaves nothing to tell apart, and thousands of them, or long ones, are answers and no labels."""

    code, status = "training_labels_unfit", 400

    def __init__(self, count: int, longest: int) -> None:
        super().__init__(
            f"The training rows have {count} labels of up to {longest} characters; a classifier has {FEWEST_LABELS} to {MOST_LABELS}, of at most {MOST_CHARACTERS}.",
            next_step="Look at the labels of the dataset; where answers are free texts, train with --task causal-lm.",
            details={"labels": count, "longest": longest},
        )


class UnknownLabels(RingiError):
    """The run goes on from a classifier whose list of classes has no place for these."""

    code, status = "training_labels_unknown", 400

    def __init__(self, rows: int, unknown: Sequence[str]) -> None:
        super().__init__(
            f"{rows} training rows have labels that the earlier version does not know: {', '.join(unknown[:_SHOWN])}.",
            next_step="Train without --start-from: the head of a new version is made for the labels of its rows.",
            details={"labels": list(unknown[:MOST_LABELS])},
        )


class ValidationLabelsUnknown(RingiError):
    """No validation row can be measured: the labels of all are none of the run's classes, or their texts hold nothing."""

    code, status = "training_validation_labels_unknown", 400

    def __init__(self, rows: int, unknown: Sequence[str]) -> None:
        super().__init__(
            f"None of the {rows} validation rows can be measured: no training row has their labels ({', '.join(unknown[:_SHOWN])}).",
            next_step="Give the dataset validation rows with the labels of its training rows, or train without early stopping.",
            details={"rows": rows, "labels": list(unknown[:MOST_LABELS])},
        )


class _Read(NamedTuple):
    examples: tuple[Example, ...]
    skipped: int
    unknown: Counter[str]


def labels_of(spec: LoraSpec, rows: Path, tokenizer: PreTrainedTokenizerBase, earlier: Earlier | None, *, base: Path) -> ClassLabels | None:
    """The classes of a run: those of the version that it goes on from, else the labels of its rows in the order of their code points.

    None for a language model. Raises RowsWithoutLabel, LabelsUnfit, UnreadableRow.
    """
    if spec.task is TrainingTask.CAUSAL_LM:
        return None
    if earlier is not None:
        return parse_labels((earlier.folder / LABELS).read_bytes())
    names: set[str] = set()
    for row in read_rows(rows):
        if not isinstance(row.content, Pair) or not row.completion.strip():
            raise RowsWithoutLabel(row.line)
        names.add(row.completion)
    longest = max(map(len, names), default=0)
    if not FEWEST_LABELS <= len(names) <= MOST_LABELS or longest > MOST_CHARACTERS:
        raise LabelsUnfit(len(names), longest)
    return ClassLabels(names=tuple(sorted(names)), pad_token_id=padding_of_base(base, tokenizer))


def padding_of_base(base: Path, tokenizer: PreTrainedTokenizerBase) -> int:
    """The token for which a head of this base looks where a row ends (and behind whose number RoBERTa's positions begin): the config's, else the tokenizer's."""
    named = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False).get_text_config().pad_token_id
    # Old configs of Llama have -1, which is no token.
    return named if isinstance(named, int) and named >= 0 else pad_id_of(tokenizer)


def padding_of(tokenizer: PreTrainedTokenizerBase, labels: ClassLabels | None) -> int:
    """The token that fills the right of a batch."""
    named = labels.pad_token_id if labels is not None else None
    return pad_id_of(tokenizer) if named is None else named


def training_examples(spec: LoraSpec, rows: Path, tokenizer: PreTrainedTokenizerBase, labels: ClassLabels | None) -> Examples:
    """What a run learns from; raises NoLabelTokens, UnreadableRow, UnknownLabels."""
    if labels is None:
        return load_examples(rows, tokenizer, spec.max_length)
    read = _read(rows, tokenizer, spec.max_length, labels)
    if read.unknown:
        raise UnknownLabels(sum(read.unknown.values()), sorted(read.unknown))
    if not read.examples:
        raise NoLabelTokens(read.skipped)
    return Examples(read.examples, read.skipped)


def validation_examples(
    spec: LoraSpec, rows: Path | None, tokenizer: PreTrainedTokenizerBase, labels: ClassLabels | None
) -> tuple[Example, ...]:
    """What a run is measured with on its way. Rows whose label no class stands for have no loss: they are left out, and the log says so.

    Raises UnreadableRow, and where none is left NoLabelTokens (of a language model) or ValidationLabelsUnknown.
    """
    if rows is None:
        return ()
    if labels is None:
        return load_examples(rows, tokenizer, spec.max_length).examples
    read = _read(rows, tokenizer, spec.max_length, labels)
    if read.unknown:
        log.warning(
            "%d validation rows have a label that no training row has, and count in no validation loss: %s",
            sum(read.unknown.values()), ", ".join(sorted(read.unknown)[:_SHOWN]),
        )  # fmt: skip
    if not read.examples:
        raise ValidationLabelsUnknown(read.skipped + sum(read.unknown.values()), sorted(read.unknown))
    return read.examples


def encode_class(tokenizer: PreTrainedTokenizerBase, text: str, max_length: int) -> list[int]:
    """Token ids of a text as a classifier reads it; too long a text loses its end."""
    ids: list[int] = tokenizer(text, truncation=True, max_length=max_length)["input_ids"]
    return ids


def _read(path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int, labels: ClassLabels) -> _Read:
    places = {name: place for place, name in enumerate(labels.names)}
    examples, skipped, unknown = list[Example](), 0, Counter[str]()
    for row in read_rows(path):
        if (place := places.get(row.completion)) is None:
            unknown[row.completion] += 1
        elif ids := encode_class(tokenizer, row.prompt, max_length):
            examples.append(Example(tuple(ids), len(ids), class_id=place))
        else:
            skipped += 1
    return _Read(tuple(examples), skipped, unknown)
