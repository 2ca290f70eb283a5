"""Rows of a sealed dataset to tokenised examples, and to batches. Of a pair the completion is learnt, of a conversation every turn of the
assistant (`conversations.py`), of a document all of it.

Everything here is a function of the rows, the tokenizer, the seed and the epoch: a resumed run sees the same batches.
"""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from ringi.datasets.contents import Chat, Content, Document, Row, from_sealed
from ringi.kit.errors import RingiError
from ringi_workers.training import conversations

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
    """A line of the rows file is not a row: an object with prompt and completion, with messages, or with a text."""

    code, status = "training_unreadable_row", 400

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(
            f"Line {line} of the training rows cannot be used: {reason}.",
            next_step="Every line must be a JSON object with the strings 'prompt' and 'completion', with 'messages', or with a 'text'.",
            details={"line": line},
        )


class Example(NamedTuple):
    """Token ids; those from `labels_from` on are learnt, except in the `gaps`, which are pairs of (first, one past the last).

    `class_id`: of a classifier's row, which has no token to learn.
    """

    input_ids: tuple[int, ...]
    labels_from: int
    gaps: tuple[tuple[int, int], ...] = ()
    class_id: int | None = None

    @property
    def labels(self) -> tuple[int, ...]:
        """One label a token: its id where it is learnt, else -100."""
        labels = [IGNORED] * self.labels_from + list(self.input_ids[self.labels_from :])
        for first, end in self.gaps:
            labels[first:end] = [IGNORED] * (end - first)
        return tuple(labels)


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
    """The rows of a JSON lines file in UTF-8; further keys are its tags. Raises `UnreadableRow`."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                document = json.loads(line)
            except ValueError as error:
                raise UnreadableRow(number, "it is not JSON in UTF-8") from error
            if not isinstance(document, dict):
                raise UnreadableRow(number, "it is not an object")
            try:
                yield from_sealed(document, number)
            except ValueError as error:
                raise UnreadableRow(number, str(error)) from error


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


def encode_chat(tokenizer: PreTrainedTokenizerBase, chat: Chat, *, max_length: int, last_only: bool = False) -> Example:
    """Tokenise a conversation to at most `max_length` tokens; with `last_only` its last turn alone carries labels.

    Too long a conversation loses its left, a system turn too; a last turn that alone is too long keeps its beginning behind one token.
    """
    ids, learnt = conversations.encode(tokenizer, chat, last_only=last_only)
    end = len(learnt) - next((place for place, one in enumerate(reversed(learnt)) if one), len(learnt))
    last = next((place + 1 for place in range(end - 1, -1, -1) if not learnt[place]), 0)
    start = max(0, last - 1 if end - last > max_length - 1 else end - max_length)
    window = slice(start, min(end, start + max_length)) if end else slice(max_length)
    kept = learnt[window]
    # Nothing stands before the first token, so it is context and no label.
    kept[:1] = [False] * len(kept[:1])
    return _example(tuple(ids[window]), kept)


def _example(ids: tuple[int, ...], learnt: Sequence[bool]) -> Example:
    first = next((place for place, one in enumerate(learnt) if one), len(ids))
    edges = [place for place in range(first + 1, len(ids)) if learnt[place] != learnt[place - 1]]
    if first < len(ids) and not learnt[-1]:
        edges.append(len(ids))
    return Example(ids, first, tuple(zip(edges[::2], edges[1::2], strict=True)))


def encode_document(tokenizer: PreTrainedTokenizerBase, text: str, *, max_length: int) -> Iterator[Example]:
    """A document in pieces of at most `max_length` tokens, its end token last.

    Every token is learnt that has one before it: a piece begins with the last token of the piece before.
    """
    ids = [*begin_tokens(tokenizer), *tokenizer(text, add_special_tokens=False)["input_ids"]]
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    for start in range(0, max(1, len(ids) - 1), max_length - 1):
        piece = tuple(ids[start : start + max_length])
        yield Example(piece, min(1, len(piece)))


def encode_content(tokenizer: PreTrainedTokenizerBase, content: Content, *, max_length: int) -> tuple[Example, ...]:
    """The examples of one row: one, or the pieces of a long document."""
    if isinstance(content, Document):
        return tuple(encode_document(tokenizer, content.text, max_length=max_length))
    if isinstance(content, Chat):
        return (encode_chat(tokenizer, content, max_length=max_length),)
    return (encode_row(tokenizer, content.prompt, content.completion, max_length=max_length),)


def encode_answer(tokenizer: PreTrainedTokenizerBase, row: Row, *, max_length: int) -> Example:
    """A row as a question: of a conversation the last turn alone carries labels. A document asks nothing and has none."""
    if isinstance(row.content, Chat):
        return encode_chat(tokenizer, row.content, max_length=max_length, last_only=True)
    return encode_row(tokenizer, row.prompt, row.completion, max_length=max_length)


def load_examples(path: Path, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Examples:
    """Tokenise all rows of `path`; raises `NoLabelTokens` when no row is usable, `UnreadableRow` for a malformed line."""
    encoded = [encode_content(tokenizer, row.content, max_length=max_length) for row in read_rows(path)]
    usable = [[one for one in row if one.labels_from < len(one.input_ids)] for row in encoded]
    examples = tuple(example for row in usable for example in row)
    if not examples:
        raise NoLabelTokens(len(encoded))
    return Examples(examples, sum(not row for row in usable))


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
