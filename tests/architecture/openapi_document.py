"""The API's document as it is kept in docs/openapi.json. Rewrite it with `python tests/architecture/openapi_document.py`."""

import json
from pathlib import Path
from typing import Any

from ringi.api.app import app

KEPT = Path(__file__).parents[2] / "docs" / "openapi.json"
COMMAND = ".venv/bin/python tests/architecture/openapi_document.py"


def document() -> dict[str, Any]:
    """What /openapi.json answers."""
    return app.openapi()


def as_text(made: dict[str, Any]) -> str:
    """Sorted and indented, so that a change shows as the lines that changed."""
    return json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    KEPT.write_text(as_text(document()), encoding="utf-8")
    print(f"wrote {KEPT.name}")
