"""Rows (JSON lines of prompt and completion) to tokenised examples whose labels are the completion only, and to batches.

Everything here is a function of the rows, the tokenizer, the seed and the epoch: a resumed run sees the same batches.
"""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from ringi.kit.errors import RingiError

IGNORED = -100
# Batches are cut from pools of this many batches sorted by length: little padding, and yet another mixture in every epoch.
POOL_BATCHES = 16


class NoLabelTokens(RingiError):
    """No row has a completion token to learn from."""

    code, status = "training_no_label_tokens", 400

    def __init__(self, rows: int) -> None:
        super().__init__(
            f"None of the {rows} rows has a completion token to learn from.",
            next_step="Give the rows a 'completion' that is not empty, and start a run on the new dataset version.",
            details={"rows": rows},
        )


class UnreadableRow(RingiError):
    """A line of the rows file is not an object with the strings prompt and completion."""

    code, status = "training_unreadable_row", 400

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(
            f"Line {line} of the training rows cannot be used: {reason}.",
            next_step="Every line must be a JSON object with the strings 'prompt' and 'completion'.",
            details={"line": line},
        )


class Row(NamedTuple):
    """One pair of texts."""

    prompt: str
    completion: str


class Example(NamedTuple):
    """Token ids of prompt and completion; the tokens from `labels_from` on are learnt."""

    input_ids: tuple[int, ...]
    labels_from: int

    @property
    def labels(self) -> tuple[int, ...]:
        """One label a token: its id where it is learnt, else -100."""
        return (IGNORED,) * self.labels_from + self.input_ids[self.labels_from :]


class Examples(NamedTuple):
    """The usable examples, and how many rows had no label token."""

    examples: tuple[Example, ...]
    skipped: int


class Batch(NamedTuple):
    """`ids`, `mask` and `labels` are int64 of shape (rows, longest), padded on the right; prompt and padding labels are -100."""

    ids: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a JSON lines file in UTF-8; further keys are ignored. Raises `UnreadableRow`."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                document = json.loads(line)
            except ValueError as error:
                raise UnreadableRow(number, "it is not JSON in UTF-8") from error
            prompt, completion = (document.get(key) if isinstance(document, dict) else None for key in ("prompt", "completion"))
            if not isinstance(prompt, str) or not isinstance(completion, str):
                raise UnreadableRow(number, "it lacks the string 'prompt' or 'completion'")
            yield Row(prompt, completion)


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """The text after which the model has to answer: the chat template with generation prompt, or the prompt and a newline."""
    if not tokenizer.chat_template:
        return f"{prompt}\n"
    text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
    return str(text)


def _render_pair(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str) -> str:
    if not tokenizer.chat_template:
        return f"{prompt}\n{completion}"
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False))


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of a rendered text. A template writes its own special tokens; a bare text gets the begin token if the base uses one."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids if tokenizer.chat_template else [*begin_tokens(tokenizer), *ids]


def begin_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The begin token, if the base's tokenizer puts one before a text."""
    ids: list[int] = tokenizer("")["input_ids"]
    return ids[:1] if ids and ids[0] == tokenizer.bos_token_id else []


def _boundary(tokenizer: PreTrainedTokenizerBase, full: str, prefix: str, ids: Sequence[int]) -> int:
    """Index of the first completion token in `ids`, the tokens of `full`.

    Usually the tokens of the prefix; where a merge crosses the border, or where the generation prompt holds more than the history
    (an empty think block), the first token that reaches past the text that both have in common.
    """
    prefix_ids = encode_text(tokenizer, prefix)
    if full.startswith(prefix) and list(ids[: len(prefix_ids)]) == prefix_ids:
        return len(prefix_ids)
    border = next((at for at, (one, other) in enumerate(zip(full, prefix, strict=False)) if one != other), min(len(full), len(prefix)))
    offsets = tokenizer(full, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    begin = len(ids) - len(offsets)
    return begin + next((index for index, (_, end) in enumerate(offsets) if end > border), len(offsets))


def encode_row(tokenizer: PreTrainedTokenizerBase, prompt: str, completion: str, *, max_length: int) -> Example:
    """Tokenise one row to at most `max_length` tokens. An empty completion leaves the prompt alone, without a label.

    What follows the last end-of-turn token (the newline of many templates) is not learnt. Too long a row loses the left of its
    prompt; a completion that alone is too long keeps its beginning behind one prompt token, without which its first token could not
    be predicted.
    """
    prefix = render_prompt(tokenizer, prompt)
    if not completion.strip():
        ids = tuple(encode_text(tokenizer, prefix)[-max_length:])
        return Example(ids, len(ids))
    full = _render_pair(tokenizer, prompt, completion)
    encoded = encode_text(tokenizer, full)
    border = _boundary(tokenizer, full, prefix, encoded)
    before, learnt = encoded[:border], encoded[border:]
    eos = tokenizer.eos_token_id
    if not tokenizer.chat_template and eos is not None:
        learnt.append(eos)
    elif eos in learnt:
        learnt = learnt[: len(learnt) - learnt[::-1].index(eos)]
    if not before:
        # Nothing stands before the first token, so it is context and no label.
        before, learnt = learnt[:1], learnt[1:]
    learnt = learnt[: max_length - 1]
    before = before[-(max_length - len(learnt)) :]
    return Example((*before, *learnt), len(before))


def load_examples(path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
    """Tokenise all rows of `path`; raises `NoLabelTokens` when no row is usable, `UnreadableRow` for a malformed line."""
    encoded = [encode_row(tokenizer, row.prompt, row.completion, max_length=max_length) for row in read_rows(path)]
    examples = tuple(example for example in encoded if example.labels_from < len(example.input_ids))
    if not examples:
        raise NoLabelTokens(len(encoded))
    return Examples(examples, len(encoded) - len(examples))


def epoch_batches(examples: Sequence[Example], *, batch_size: int, seed: int, epoch: int) -> list[tuple[int, ...]]:
    """The batches of one epoch as indices into `examples`: every example once, rows of like length together."""
    draw = random.Random(f"{seed}:{epoch}")  # noqa: S311 - shuffling, not cryptography
    order = list(range(len(examples)))
    draw.shuffle(order)
    pool = batch_size * POOL_BATCHES
    batches = []
    for start in range(0, len(order), pool):
        group = sorted(order[start : start + pool], key=lambda index: len(examples[index].input_ids))
        batches += [tuple(group[first : first + batch_size]) for first in range(0, len(group), batch_size)]
    draw.shuffle(batches)
    return batches


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Pad on the right and set the labels."""
    longest = max(len(example.input_ids) for example in examples)
    ids = torch.full((len(examples), longest), pad_id)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for number, example in enumerate(examples):
        length = len(example.input_ids)
        ids[number, :length] = torch.tensor(example.input_ids)
        mask[number, :length] = 1
        labels[number, :length] = torch.tensor(example.labels)
    return Batch(ids, mask, labels)


def pad_id_of(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that fills the right of a batch; masked, so any id of the vocabulary serves where the tokenizer names none."""
    named = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    return next((token for token in named if token is not None), 0)
