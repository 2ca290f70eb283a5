"""Every refusal of the platform, and docs/errors.md made from them: `python tests/architecture/error_catalogue.py` rewrites it.

`build` makes one of each from the type hints of its constructor, so that a test can read what a person would read.
"""

import collections.abc
import importlib
import inspect
import pkgutil
import re
import types
import typing
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import BaseModel as PydanticModel
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.orm import DeclarativeBase, Mapped

import ringi
import ringi_workers
from ringi.kit.errors import RingiError

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "errors.md"
COMMAND = ".venv/bin/python tests/architecture/error_catalogue.py"
# Programs: importing them runs them.
PROGRAMS = frozenset({"ringi.embedded.launch"})
_EXAMPLES: dict[object, object] = {
    str: "example", object: "example", int: 7, float: 0.5, bool: True, bytes: b"example", UUID: UUID(int=7), Path: Path("some/file"),
    datetime: datetime(2026, 4, 1, 9, 30, tzinfo=UTC), Any: "example", dict: {}, list: ["example"],
}  # fmt: skip


def errors() -> list[type[RingiError]]:
    """Every subclass of RingiError in both packages, by code and name."""
    for package in (ringi, ringi_workers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name not in PROGRAMS and not module.name.endswith(".__main__"):
                importlib.import_module(module.name)
    return sorted(set(_below(RingiError)), key=lambda error: (error.code, error.__name__))


def _below(parent: type[RingiError]) -> Iterator[type[RingiError]]:
    for child in parent.__subclasses__():
        if child.__module__.startswith("ringi"):
            yield child
            yield from _below(child)


def has_own_words(error: type[RingiError]) -> bool:
    """Whether its constructor writes the message; the others are given it where they are raised."""
    return error.__init__ is not RingiError.__init__


def build(error: type[RingiError]) -> RingiError:
    """One such error, every required and optional parameter filled with an example."""
    if not has_own_words(error):
        return error("Something is as it is.", next_step="Do something about it.")
    return error(**_arguments(error))


def sample(hint: Any) -> Any:
    """A value of the type that a hint names; rows, results and lists are built from their own hints."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return sample(arguments[0])
    if origin is typing.Literal:
        return arguments[0]
    if origin in {typing.Union, types.UnionType}:
        return sample(next(one for one in arguments if one is not types.NoneType))
    if origin in {list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection}:
        made = [sample(arguments[0])]
        return tuple(made) if origin is tuple else made
    if origin in {dict, collections.abc.Mapping}:
        return {}
    if hint is ValidationError:
        return _validation_error()
    if hint in _EXAMPLES:
        return _EXAMPLES[hint]
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return list(hint)[-1]  # the last state is the one that refusals are about
    if inspect.isclass(hint) and issubclass(hint, DeclarativeBase):
        return _row(hint)
    if inspect.isclass(hint) and issubclass(hint, PydanticModel):
        return hint.model_construct(**{name: sample(field.annotation) for name, field in hint.model_fields.items()})
    if inspect.isclass(hint):
        return hint(**_arguments(hint))
    raise TypeError(f"no example of {hint!r}: add one to sample()")


def _arguments(kind: type) -> dict[str, Any]:
    made_by = kind.__new__ if issubclass(kind, tuple) else kind.__init__
    hints = typing.get_type_hints(kind if issubclass(kind, tuple) else made_by, vars(inspect.getmodule(kind)), include_extras=True)
    return {name: sample(hint) for name, hint in hints.items() if name != "return"}


def _row(model: type[DeclarativeBase]) -> DeclarativeBase:
    hints = typing.get_type_hints(model)
    columns = {name: typing.get_args(hint)[0] for name, hint in hints.items() if typing.get_origin(hint) is Mapped}
    return model(**{name: sample(hint) for name, hint in columns.items()})


def _validation_error() -> ValidationError:
    try:
        TypeAdapter(int).validate_python("many")
    except ValidationError as error:
        return error
    raise TypeError("'many' is no number")


def web_codes() -> list[tuple[str, str]]:
    """Code and status of the answers that web/errors.py writes itself, for what never became a RingiError."""
    source = (ROOT / "platform" / "ringi" / "web" / "errors.py").read_text(encoding="utf-8")
    written = {(code, status) for status, code in re.findall(r'status=(\d{3}),\s+code="(\w+)"', source)}
    routed = {(code, status) for status, code in re.findall(r'(4\d\d): "(\w+)"', source)}
    return sorted(written | routed)


def catalogue() -> str:
    """The Markdown page."""
    lines = [
        "# Error codes",
        "",
        f"Made by `{COMMAND}` from the code; a test keeps it current.",
        "Answers are `application/problem+json` (RFC 9457) with `code`, `detail` and `next_step`; a job stores the same code and words.",
        "",
        "| code | status | what it says | raised in |",
        "|---|---|---|---|",
    ]
    for error in errors():
        meaning = (inspect.getdoc(error) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        lines.append(f"| `{error.code}` | {error.status} | {meaning} | `{error.__module__}` |")
    lines += ["", "## Written by the web layer itself", "", "| code | status |", "|---|---|"]
    lines += [f"| `{code}` | {status} |" for code, status in web_codes()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    KEPT.write_text(catalogue(), encoding="utf-8")
    print(f"wrote {KEPT.name}")
