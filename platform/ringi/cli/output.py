"""How results and refusals look: tables for people, JSON or YAML for programs, refusals on stderr."""

import json
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.table import Table

from ringi.cli.errors import Usage
from ringi.cli.invocation import Output, invocation
from ringi.kit.errors import RingiError

Item = TypeVar("Item", bound=BaseModel)
# Wide enough for references and digests where no terminal says how wide it is.
_PIPE_WIDTH = 160
_DIGEST_SHOWN = len("sha256:") + 12


def console(*, stderr: bool = False) -> Console:
    """Text is shown as it is: no markup, no emoji codes, no guessing at what is a number."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or os.environ.get("COLUMNS") else _PIPE_WIDTH
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False, width=width, soft_wrap=not stream.isatty())


def emit(result: Any, render: Callable[[], RenderableType]) -> None:
    """Print a result: for programs the model (or list of models) as JSON or YAML, else what `render` draws."""
    if invocation.as_data:
        sys.stdout.write(_serialised(_document(result)))
    else:
        console().print(render())


def _serialised(document: Any) -> str:
    if invocation.output is Output.YAML:
        return yaml.safe_dump(document, allow_unicode=True, sort_keys=False)
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def emit_list(items: Iterable[Item], *, limit: int, render: Callable[[list[Item]], RenderableType]) -> None:
    """Print the first `limit` items of a list, and say when there are more."""
    found = list(islice(items, limit + 1))
    shown = found[:limit]
    emit(shown, lambda: render(shown) if shown else "nothing yet")
    if len(found) > limit and not invocation.as_data:
        note(f"There are more; see them with --limit {limit * 2}.")


def note(text: str) -> None:
    """A remark beside the result, on stderr."""
    console(stderr=True).print(clean(text))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> Table:
    """A table; a missing value is a dash."""
    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(cell(value) for value in row))
    return drawn


def facts(pairs: Iterable[tuple[str, object]], *, title: str | None = None) -> Table:
    """One thing, a line a fact."""
    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False, show_header=False)
    drawn.add_column(style="bold", no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, value in pairs:
        drawn.add_row(name, cell(value))
    return drawn


def cell(value: object) -> str:
    """A value as a person reads it."""
    if value is None or value in ("", [], ()):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(cell(one) for one in value)
    return clean(str(value))


def clean(text: str) -> str:
    """`text` without characters that could steer a terminal; names and reasons come from other people."""
    return "".join(character if character == "\n" or unicodedata.category(character) != "Cc" else "\ufffd" for character in text)


def marks(tags: Mapping[str, str]) -> list[str]:
    """Tags as they are set: `team=risk`, or the key alone of an empty one."""
    return [f"{key}={value}" if value else key for key, value in tags.items()]


def short(digest: str | None) -> str | None:
    """The beginning of a digest, enough to recognise it."""
    return digest[:_DIGEST_SHOWN] if digest else None


def show_error(error: RingiError) -> None:
    """What is, what was needed, what to do next, and the code; for programs one object in the same format."""
    request_id = getattr(error, "request_id", None)
    if invocation.as_data:
        document = {
            "code": error.code, "message": error.message, "next_step": error.next_step, "status": error.status, "details": error.details,
            "request_id": request_id,
        }  # fmt: skip
        # What the details hold is the platform's; what is no JSON of it is shown as text.
        sys.stderr.write(_serialised(json.loads(json.dumps(document, default=str))))
        return
    lines = [f"error: {error.message} [{error.code}]"]
    lines += [f"  - {line}" for line in _reasons(error.details)]
    if error.next_step:
        lines.append(f"next: {error.next_step}")
    if request_id and error.status >= 500:  # noqa: PLR2004  # for the log of whoever runs the server
        lines.append(f"request: {request_id}")
    console(stderr=True).print(clean("\n".join(lines)))


def _reasons(details: dict[str, Any]) -> list[str]:
    found = details.get("reasons")
    if not isinstance(found, list):
        return []
    return [_reason(one) for one in found]


def _reason(one: object) -> str:
    if not isinstance(one, dict):
        return str(one)
    what = one.get("message") or one.get("what") or one.get("text") or json.dumps(one, ensure_ascii=False)
    where = one.get("code") or one.get("where")
    return f"{what} [{where}]" if where else str(what)


def _document(result: Any) -> Any:
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json")
    if isinstance(result, list):
        return [_document(one) for one in result]
    return result


def save_to(file: Path, content: str | bytes) -> None:
    """Write what a command was asked to keep; texts as UTF-8. Raises Usage where the file cannot be written."""
    try:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise Usage(f"'{file}' cannot be written: {error.strerror}.", next_step="Name a file in a folder that is there.") from None
