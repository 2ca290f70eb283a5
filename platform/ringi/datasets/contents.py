"""What a row says, in three shapes: a pair, a conversation, a document. Pure; `formats.py` makes them, `validation.py` compares and divides.

Each shape is sealed as one JSON object: `prompt` and `completion`; `messages` and, where there are any, `tools`; `text`. A conversation of
one question and one answer is a pair, whichever way it was written, so that equal content has an equal id and equal bytes.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeGuard

Json = Any
_BESIDE = ("id",)


class Pair(NamedTuple):
    """A question and its answer, which carries the loss."""

    prompt: str
    completion: str

    @property
    def compared(self) -> tuple[str, str]:
        """What groups of equal questions are made of, and what is answered."""
        return self.prompt, self.completion

    def is_empty(self, blank: Callable[[str], bool]) -> bool:
        """Whether nothing can be learnt of it: one of the two is blank."""
        return blank(self.prompt) or blank(self.completion)

    def mapped(self, change: Callable[[str], str]) -> "Pair":
        """The same with every text changed."""
        return Pair(change(self.prompt), change(self.completion))

    def sealed(self) -> dict[str, Json]:
        """The fields that are sealed."""
        return {"prompt": self.prompt, "completion": self.completion}


class Chat(NamedTuple):
    """Turns of system, user, assistant and tool, as a chat template reads them; every turn of the assistant carries the loss."""

    messages: tuple[Mapping[str, Json], ...]
    tools: tuple[Mapping[str, Json], ...] = ()

    @property
    def compared(self) -> tuple[str, str]:
        """All before the last turn, and the last turn."""
        offered = [json.dumps(self.tools, ensure_ascii=False, sort_keys=True)] if self.tools else []
        return "\n".join([*offered, *map(_told, self.messages[:-1])]), _told(self.messages[-1])

    def is_empty(self, blank: Callable[[str], bool]) -> bool:
        """Whether nothing can be learnt of it: nobody asks, or the assistant neither says nor calls anything."""
        said = [one for one in self.messages if not blank(one["content"]) or one.get("tool_calls")]
        roles = {one["role"] for one in said}
        return "assistant" not in roles or roles == {"assistant"}

    def mapped(self, change: Callable[[str], str]) -> "Chat":
        """The same with every text changed, those that tools are called with too; roles, names and the tools themselves stay."""
        return Chat(tuple(_changed(one, change) for one in self.messages), self.tools)

    def sealed(self) -> dict[str, Json]:
        """The fields that are sealed."""
        return {"messages": list(self.messages)} | ({"tools": list(self.tools)} if self.tools else {})


class Document(NamedTuple):
    """A plain text, all of which carries the loss."""

    text: str

    @property
    def compared(self) -> tuple[str, str]:
        """The text, and nothing that answers it."""
        return self.text, ""

    def is_empty(self, blank: Callable[[str], bool]) -> bool:
        """Whether there is nothing to read."""
        return blank(self.text)

    def mapped(self, change: Callable[[str], str]) -> "Document":
        """The same with its text changed."""
        return Document(change(self.text))

    def sealed(self) -> dict[str, Json]:
        """The field that is sealed."""
        return {"text": self.text}


Content = Pair | Chat | Document


class Row(NamedTuple):
    """One row of the source. `line`: where it begins there, counted from 1 (in Parquet its number). `tags`: its further fields."""

    line: int
    content: Content
    tags: dict[str, str]

    @property
    def prompt(self) -> str:
        """What is asked, as one text; of a document the whole."""
        return self.content.compared[0]

    @property
    def completion(self) -> str:
        """What is answered, as one text; of a document nothing."""
        return self.content.compared[1]

    @property
    def answer(self) -> str:
        """What the last turn says."""
        return str(self.content.messages[-1]["content"]) if isinstance(self.content, Chat) else self.completion


def conversation(messages: tuple[Mapping[str, Json], ...], tools: tuple[Mapping[str, Json], ...]) -> Pair | Chat:
    """A conversation, or the pair that it is: a plain question of the user and a plain answer, without tools."""
    plain = [(one["role"], one["content"]) for one in messages if set(one) == {"role", "content"}]
    if not tools and len(messages) == len(plain) == 2 and [role for role, _ in plain] == ["user", "assistant"]:  # noqa: PLR2004 - one each
        return Pair(plain[0][1], plain[1][1])
    return Chat(messages, tools)


def from_sealed(document: Mapping[str, Json], line: int) -> Row:
    """A row of a sealed version. Raises ValueError with what it lacks."""
    content: Content
    taken: tuple[str, ...]
    if _objects(messages := document.get("messages")) and _objects(tools := document.get("tools", [])):
        content, taken = Chat(tuple(messages), tuple(tools)), ("messages", "tools")
    elif isinstance(prompt := document.get("prompt"), str) and isinstance(completion := document.get("completion"), str):
        content, taken = Pair(prompt, completion), ("prompt", "completion")
    elif isinstance(text := document.get("text"), str) and "prompt" not in document:
        content, taken = Document(text), ("text",)
    else:
        raise ValueError("it lacks the string 'prompt' or 'completion', and has neither 'messages' nor a 'text'")
    return Row(line, content, {field: value for field, value in document.items() if field not in (*taken, *_BESIDE)})


def texts_in(value: Json) -> list[str]:
    """Every string inside a JSON value, keys aside."""
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [text for one in inner for text in texts_in(one)]


def _objects(value: Json) -> TypeGuard[list[Mapping[str, Json]]]:
    return isinstance(value, list) and all(isinstance(one, Mapping) for one in value)


def _told(message: Mapping[str, Json]) -> str:
    calls = message.get("tool_calls")
    said = json.dumps(calls, ensure_ascii=False, sort_keys=True) if calls else ""
    return f"{message['role']}: {message['content']}{said}"


def _changed(message: Mapping[str, Json], change: Callable[[str], str]) -> Mapping[str, Json]:
    changed = {**message, "content": change(message["content"])}
    if message.get("tool_calls"):
        changed["tool_calls"] = [_call_changed(call, change) for call in message["tool_calls"]]
    return changed


def _call_changed(call: Mapping[str, Json], change: Callable[[str], str]) -> Mapping[str, Json]:
    """What a function is called with is changed, its name is not."""
    if not isinstance(function := call.get("function"), Mapping):
        return call
    return {**call, "function": {**function, "arguments": _deeply(function.get("arguments", {}), change)}}


def _deeply(value: Json, change: Callable[[str], str]) -> Json:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _deeply(one, change) for key, one in value.items()}
    if isinstance(value, list):
        return [_deeply(one, change) for one in value]
    return value
