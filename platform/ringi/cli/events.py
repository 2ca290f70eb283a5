"""Server-sent events as the client reads them (WHATWG HTML, section 9.2.6). Pure."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class ServerEvent(NamedTuple):
    """One event. `id` is the place to come back to: whoever sends it as `Last-Event-ID` gets what followed."""

    kind: str
    id: str | None
    data: dict[str, Any]


def parsed(lines: Iterable[str]) -> Iterator[ServerEvent | None]:
    """The events of a stream; None for a comment, by which the server shows that it lives. Data that is no JSON object raises ValueError."""
    kind, place, data = "message", None, list[str]()
    for line in lines:
        if not line:
            if data:
                document = json.loads("\n".join(data))
                if not isinstance(document, dict):
                    raise ValueError("the data of an event is no JSON object")
                yield ServerEvent(kind, place, document)
            kind, data = "message", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            yield None
        elif name == "event":
            kind = value
        elif name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            place = value
