"""Fields of a record to a row, in five formats; every refusal is a ValueError with the reason. Pure, after `files.py`.

| format | fields | what is learnt |
|---|---|---|
| prompt_completion | `prompt`, `completion` | the completion |
| chat | `messages` (role and content; system, user, assistant, tool), `tools` where there are any | every turn of the assistant |
| alpaca | `instruction`, `output`, and `input` where there is one | the output |
| text_label | `text`, `label` | the label |
| documents | `text` | all of it |

Every further field is a string and kept as a tag (`category` and the like). An `id` of the source is kept as the tag `source_id`, since Ringi
gives every item its own.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ringi.datasets.contents import Chat, Content, Document, Pair, Row, conversation, texts_in
from ringi.jobs.contracts.datasets import RowFormat

ROLES = ("system", "user", "assistant", "tool")
_MESSAGE_FIELDS = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
# Where a row that is no pair has them, they would be lost when it is sealed as one.
_OF_PAIRS = ("prompt", "completion")


class Format(NamedTuple):
    """`needed` fields, those that may be there, an example of a row, and how its content is read."""

    needed: tuple[str, ...]
    optional: tuple[str, ...]
    example: str
    read: Callable[[Mapping[str, Any]], Content]


def recognised(fields: Mapping[str, Any]) -> RowFormat:
    """The first format whose fields are all there; prompt_completion where none is, so that the refusal names those two."""
    return next((one for one, how in FORMATS.items() if all(field in fields for field in how.needed)), RowFormat.PROMPT_COMPLETION)


def row_of(line: int, fields: Mapping[str, Any], row_format: RowFormat) -> Row:
    """A row of `row_format`. Raises ValueError with the reason."""
    how = FORMATS[row_format]
    for field in how.needed:
        if field not in fields:
            raise ValueError(f"'{field}' is missing")
    own = (*how.needed, *how.optional)
    structured = ("messages", "tools") if row_format is RowFormat.CHAT else ()
    for field, value in fields.items():
        if field not in structured and not isinstance(value, str):
            raise ValueError(f"'{field}' is not a string")
        if field in _OF_PAIRS and field not in own:
            raise ValueError(f"'{field}' stands beside {' and '.join(how.needed)}")
        for text in (field, *texts_in(value)):
            _refuse_what_no_text_holds(field, text)
    tags = {field: value for field, value in fields.items() if field not in (*own, "id")}
    if "id" in fields:
        tags["source_id"] = fields["id"]
    return Row(line, how.read(fields), tags)


def _refuse_what_no_text_holds(field: str, text: str) -> None:
    if "\x00" in text:
        raise ValueError(f"'{field}' contains a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"'{field}' contains half of a surrogate pair")


def _pair(fields: Mapping[str, Any]) -> Pair:
    return Pair(fields["prompt"], fields["completion"])


def _alpaca(fields: Mapping[str, Any]) -> Pair:
    given = fields.get("input", "")
    return Pair(f"{fields['instruction']}\n{given}" if given.strip() else fields["instruction"], fields["output"])


def _text_label(fields: Mapping[str, Any]) -> Pair:
    return Pair(fields["text"], fields["label"])


def _document(fields: Mapping[str, Any]) -> Document:
    return Document(fields["text"])


def _chat(fields: Mapping[str, Any]) -> Pair | Chat:
    messages, tools = fields["messages"], fields.get("tools") or []
    if not isinstance(messages, list) or not messages:
        raise ValueError("'messages' is not a list of turns")
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ValueError("'tools' is not a list of objects")
    read = tuple(_message(number, message) for number, message in enumerate(messages, start=1))
    if read[-1]["role"] != "assistant":
        raise ValueError("the last turn is not the assistant's, and only those are learnt")
    if any(message["role"] == "system" for message in read[1:]):
        raise ValueError("a system turn does not come first")
    return conversation(read, tuple(tools))


def _message(number: int, message: object) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise ValueError(f"turn {number} is not an object")  # noqa: TRY004
    if (role := message.get("role")) not in ROLES:
        raise ValueError(f"turn {number} has the role {role!r}, and needed is one of {', '.join(ROLES)}")
    if unknown := sorted(set(message) - _MESSAGE_FIELDS):
        raise ValueError(f"turn {number} has the unknown field '{unknown[0]}'")
    calls, said = message.get("tool_calls"), message.get("content")
    if calls is not None and (role != "assistant" or not isinstance(calls, list) or not all(isinstance(one, dict) for one in calls)):
        raise ValueError(f"turn {number} has 'tool_calls' that are not a list of objects of the assistant's")
    if said is None and calls:
        said = ""
    if not isinstance(said, str):
        raise ValueError(f"turn {number} has no text as its 'content'")  # noqa: TRY004
    # What says nothing is left out, so that it does not matter whether it was written.
    named = {field: message[field] for field in ("name", "tool_call_id") if message.get(field)}
    if any(not isinstance(value, str) for value in named.values()):
        raise ValueError(f"turn {number} has a name or a tool_call_id that is not a string")
    return {"role": role, "content": said, **named, **({"tool_calls": [_call(one) for one in calls]} if calls else {})}


def _call(call: dict[str, Any]) -> dict[str, Any]:
    """A call with its arguments as an object, which chat templates read; many files have them as JSON inside a string."""
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(written := function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(written)
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}} if isinstance(arguments, dict) else call


# In the order in which they are recognised: a text beside a label is not a document.
FORMATS: dict[RowFormat, Format] = {
    RowFormat.CHAT: Format(
        ("messages",), ("tools",), '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}', _chat
    ),
    RowFormat.PROMPT_COMPLETION: Format(("prompt", "completion"), (), '{"prompt": "…", "completion": "…", "category": "…"}', _pair),
    RowFormat.ALPACA: Format(("instruction", "output"), ("input",), '{"instruction": "…", "input": "…", "output": "…"}', _alpaca),
    RowFormat.TEXT_LABEL: Format(("text", "label"), (), '{"text": "…", "label": "…"}', _text_label),
    RowFormat.DOCUMENTS: Format(("text",), (), '{"text": "…"}', _document),
}
