"""docs/events.md, made from the catalogue: `python tests/architecture/event_catalogue.py` rewrites it."""

import inspect
from pathlib import Path
from typing import Any

from ringi.events.catalogue.data import EventData
from ringi.events.catalogue.names import CATALOGUE

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "docs" / "events.md"
COMMAND = ".venv/bin/python tests/architecture/event_catalogue.py"


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return str(schema.get("format") or schema.get("type", "any"))


def _section(name: str, data: type[EventData]) -> list[str]:
    schema = data.model_json_schema()
    lines = [f"## `{name}`", "", f"{data.TITLE}。{inspect.getdoc(data) or ''}", "", "| field | type | what |", "|---|---|---|"]
    for field, one in schema["properties"].items():
        lines.append(f"| `{field}` | {_kind(one)} | {one.get('description', '')} |")
    return [*lines, ""]


def catalogue() -> str:
    """The Markdown page."""
    lines = [
        "# Events",
        "",
        f"Made by `{COMMAND}` from `platform/ringi/events/catalogue/`; a test keeps it current. How they are delivered: [webhooks.md](webhooks.md).",
        "",
        "An event is written in the transaction of the change that it tells of. Its envelope is `id` (UUID v7), `type`, `timestamp` (UTC),",
        "`project` (null for what concerns the whole organisation: base models) and `data`, whose fields are listed below. Fields may be added;",
        "a name or a field is never renamed or removed. `ringi events types --json` gives the JSON Schema of each.",
        "",
        "| event | 日本語 |",
        "|---|---|",
    ]
    lines += [f"| [`{name}`](#{name.replace('.', '')}) | {data.TITLE} |" for name, data in CATALOGUE.items()]
    lines.append("")
    for name, data in CATALOGUE.items():
        lines += _section(name, data)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    KEPT.write_text(catalogue(), encoding="utf-8")
    print(f"wrote {KEPT.name}")
