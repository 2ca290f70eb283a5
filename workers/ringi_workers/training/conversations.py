"""Conversations as token ids and which of them are learnt: what the assistant says, in every turn, up to its end of turn. Before `data.py`.

A template that marks the assistant's text itself (`{% generation %}`) is believed. Otherwise the conversation is rendered up to each turn, once
with the generation prompt and once with the turn, and compared with the whole. Templates that write earlier turns otherwise than the last one
(an empty block of thoughts) are met by looking for the turn's own text behind the generation prompt.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ringi.datasets.contents import Chat
from ringi.kit.errors import RingiError

_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")


class NoChatTemplate(RingiError):
    """Rows are conversations, and the base's tokenizer has no chat template: nobody can say how it is to read them."""

    code, status = "training_no_chat_template", 400

    def __init__(self) -> None:
        super().__init__(
            "The rows are conversations, and the base's tokenizer has no chat template.",
            next_step="Train an instruction-tuned base, register one whose tokenizer_config.json has a 'chat_template', or use prompt and completion.",
        )


class TemplateRefuses(RingiError):
    """The base's chat template cannot write a conversation as it is: it refuses a role, or leaves out a turn or the tools."""

    code, status = "training_template_refuses", 400

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The base's chat template cannot write a conversation of the rows: {why}.",
            next_step="Leave out of the rows what the base does not know (system turns, tools), or train another base.",
            details={"why": why},
        )


class Encoded(NamedTuple):
    """Token ids of a conversation, and for each whether it is learnt."""

    ids: list[int]
    learnt: list[bool]


def encode(tokenizer: PreTrainedTokenizerBase, chat: Chat, *, last_only: bool = False) -> Encoded:
    """The whole conversation; with `last_only` its last turn alone is learnt. Raises NoChatTemplate, TemplateRefuses."""
    if not tokenizer.chat_template:
        raise NoChatTemplate
    full = _rendered(tokenizer, chat, len(chat.messages))
    _refuse_what_is_left_out(tokenizer, chat, full)
    tokens = tokenizer(full, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = list(tokens["input_ids"]), list(tokens["offset_mapping"])
    turns = [place for place, message in enumerate(chat.messages) if message["role"] == "assistant"]
    if _MARKS.search(str(tokenizer.chat_template)) and not last_only:
        return Encoded(ids, _marked(tokenizer, chat, ids))
    learnt = [False] * len(ids)
    for turn in turns[-1:] if last_only else turns:
        start, end = _span(tokenizer, chat, turn, full)
        inside = [place for place, (first, last) in enumerate(offsets) if last > start and first < end]
        # What follows the end of turn is the template's, and is not learnt.
        if ends := [place for place in inside if ids[place] == tokenizer.eos_token_id]:
            inside = [place for place in inside if place <= ends[-1]]
        for place in inside:
            learnt[place] = True
    return Encoded(ids, learnt)


def _rendered(tokenizer: PreTrainedTokenizerBase, chat: Chat, turns: int, *, asking: bool = False, tools: bool = True) -> str:
    """The first `turns` turns as text. Raises TemplateRefuses."""
    messages: list[Mapping[str, Any]] = [dict(message) for message in chat.messages[:turns]]
    offered = [dict(tool) for tool in chat.tools] if tools and chat.tools else None
    try:
        return str(tokenizer.apply_chat_template(messages, tools=offered, tokenize=False, add_generation_prompt=asking))
    except (TemplateError, TypeError, KeyError) as error:
        raise TemplateRefuses(str(error).rstrip(".")) from error


def _refuse_what_is_left_out(tokenizer: PreTrainedTokenizerBase, chat: Chat, full: str) -> None:
    """What the model is to read must stand there; the assistant's own earlier thoughts may be left out."""
    for number, message in enumerate(chat.messages, start=1):
        if message["role"] != "assistant" and message["content"].strip() not in full:
            raise TemplateRefuses(f"turn {number}, of the role '{message['role']}', does not stand in what it writes")
    if chat.tools and full == _rendered(tokenizer, chat, len(chat.messages), tools=False):
        raise TemplateRefuses("it has no place for tools")


def _marked(tokenizer: PreTrainedTokenizerBase, chat: Chat, ids: list[int]) -> list[bool]:
    """What the template says of itself."""
    messages: list[Any] = [dict(message) for message in chat.messages]
    tools: list[Any] | None = [dict(tool) for tool in chat.tools] or None
    told: Any = tokenizer.apply_chat_template(messages, tools=tools, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    if list(told["input_ids"]) != ids:
        raise TemplateRefuses("its marks belong to other tokens than its text")
    return [bool(one) for one in told["assistant_masks"]]


def _span(tokenizer: PreTrainedTokenizerBase, chat: Chat, turn: int, full: str) -> tuple[int, int]:
    """Where the assistant's turn number `turn`, counted from 0, begins and ends in the whole text. Raises TemplateRefuses."""
    said = str(chat.messages[turn]["content"]).strip()
    if turn and not full.startswith(_rendered(tokenizer, chat, turn)):
        # Otherwise what others said would be learnt, from the place on where the two differ.
        raise TemplateRefuses(
            f"it writes what stands before turn {turn + 1} otherwise once more follows, and does not mark the assistant's text"
        )
    # Without anything before it there is no prompt to render, and the turn begins where its own text does.
    start = _common(_rendered(tokenizer, chat, turn, asking=True), full) if turn else max(0, full.find(said))
    through = _rendered(tokenizer, chat, turn + 1)
    if full.startswith(through):
        return start, len(through)
    found = full.find(said, start) if said else -1
    if found < 0:
        raise TemplateRefuses(f"where turn {turn + 1} of the assistant stands cannot be told")
    end = found + len(said)
    stop = str(tokenizer.eos_token or "")
    return start, end + len(stop) if stop and full.startswith(stop, end) else end


def _common(one: str, other: str) -> int:
    """How many characters at the beginning of both are the same."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
