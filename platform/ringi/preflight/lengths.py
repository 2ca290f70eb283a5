"""How long rows are in a base's own tokens, over a sample, with the library `tokenizers` and without torch.

The chat template is not rendered here: a template is a program of whoever made the base, and the platform runs none. So a row's length is that of
its texts alone, the template's own tokens come on top, and what is counted as too long is "at least".
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tokenizers import Tokenizer

from ringi.jobs.contracts.datasets import RowFormat

# Enough that a share of one in a hundred is seen; tokenising them takes a fraction of a second.
SAMPLE = 400
# A tokenizer's patterns are applied to no more than this of one text.
_MAX_CHARACTERS = 200_000


class Lengths(NamedTuple):
    """Of the sampled rows: tokens of prompt and answer together, tokens of the answers, and how many rows are conversations."""

    totals: tuple[int, ...]
    answers: tuple[int, ...]
    chats: int

    @property
    def rows(self) -> int:
        """How many rows were sampled."""
        return len(self.totals)

    @property
    def longest(self) -> int:
        """Tokens of the longest."""
        return max(self.totals, default=0)

    @property
    def without_label(self) -> int:
        """Rows whose answer has no token."""
        return sum(not one for one in self.answers)

    @property
    def mean(self) -> float:
        """Mean tokens a row."""
        return sum(self.totals) / len(self.totals)

    @property
    def mean_answer(self) -> float:
        """Mean tokens of an answer."""
        return sum(self.answers) / len(self.answers)

    @property
    def texts(self) -> "Lengths":
        """The same without the answers: what a classifier reads of a row, whose answer is one class."""
        return Lengths(tuple(one - other for one, other in zip(self.totals, self.answers, strict=True)), (1,) * self.rows, self.chats)

    def longer_than(self, limit: int) -> int:
        """Rows of more tokens than `limit`."""
        return sum(one > limit for one in self.totals)

    def answers_longer_than(self, limit: int) -> int:
        """Answers of more tokens than `limit`."""
        return sum(one > limit for one in self.answers)


def every_nth(lines: Iterable[bytes], *, rows: int) -> Iterator[bytes]:
    """About `SAMPLE` lines, evenly over all `rows` of them."""
    step = max(1, rows // SAMPLE)
    return (line for number, line in enumerate(lines) if number % step == 0)


class _Texts(NamedTuple):
    before: str
    answer: str
    chat: bool


def measure(tokenizer_json: bytes, lines: Iterable[bytes]) -> Lengths | None:
    """The lengths of rows (JSON lines); None where the tokenizer or the rows cannot be read, or there are none."""
    try:
        tokenizer = Tokenizer.from_str(tokenizer_json.decode("utf-8"))
        rows = [_texts(json.loads(line)) for line in lines]
    # The library raises Exception itself for whatever it cannot read.
    except Exception:  # noqa: BLE001
        return None
    read = [one for one in rows if one is not None]
    if not read or len(read) != len(rows):
        return None
    before, answers = _counts(tokenizer, [one.before for one in read]), _counts(tokenizer, [one.answer for one in read])
    totals = tuple(one + other for one, other in zip(before, answers, strict=True))
    return Lengths(totals, answers, sum(one.chat for one in read))


def why_unmeasured(row_format: RowFormat) -> str:
    """What is told where there are no lengths."""
    if row_format is RowFormat.DOCUMENTS:
        return (
            "How long the rows are was not measured: documents are not looked at here. None is cut, since a long one is learnt in pieces."
        )
    return "Truncation and lost labels were not measured: the base's tokenizer.json or the rows could not be read here."


def longer(longest: int, limit: int, context: int | None) -> str:
    """The first half of a next step for rows that are cut at `limit` tokens: no more than the base reads (`context`, where it is known)."""
    fitting = min(longest, max(context, limit) if context is not None else longest, 1_000_000)
    return f"Use --max-length {fitting}, or " if fitting > limit else "The base reads no more: "


def _counts(tokenizer: Tokenizer, texts: Sequence[str]) -> tuple[int, ...]:
    encoded: list[Any] = tokenizer.encode_batch([text[:_MAX_CHARACTERS] for text in texts], add_special_tokens=False)
    return tuple(len(one.ids) for one in encoded)


def _texts(row: object) -> _Texts | None:
    """What stands before the answer, the answer, and whether it is a conversation; None for a row of another kind."""
    if not isinstance(row, dict):
        return None
    messages = row.get("messages")
    if isinstance(messages, list) and messages:
        said = [str(one.get("content") or "") for one in messages if isinstance(one, dict)]
        return _Texts("\n".join(said[:-1]), said[-1], chat=True) if said else None
    prompt, completion = row.get("prompt"), row.get("completion")
    return _Texts(prompt, completion, chat=False) if isinstance(prompt, str) and isinstance(completion, str) else None
