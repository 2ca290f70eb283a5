"""The price table that the operator edits: a YAML or JSON file named by RINGI_PRICE_TABLE. Ringi ships no prices.

What is shipped (`prices.example.yaml`) says one unit an hour for every device, so that its costs read as hours; every answer that used it says
that it is an example.
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ringi.kit.errors import InvalidInput
from ringi.preflight.schemas import Prices

EXAMPLE = Path(__file__).with_name("prices.example.yaml")
_MAX_BYTES = 64 * 1024


class PriceTableInvalid(InvalidInput):
    """The file is missing, or is no price table."""

    code = "preflight_price_table_invalid"

    def __init__(self, path: Path, reasons: list[str]) -> None:
        super().__init__(
            f"The price table {path.name} cannot be used: {'; '.join(reasons)}.",
            next_step="Compare it with the example in docs/preflight.md; RINGI_PRICE_TABLE names the file.",
            details={"reasons": reasons},
        )


def read_prices(path: Path | None) -> Prices:
    """The table at `path`, or the example where none is named; raises PriceTableInvalid. Read anew each time: an edit counts at once."""
    chosen = path or EXAMPLE
    try:
        with chosen.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
        if len(raw) > _MAX_BYTES:
            raise PriceTableInvalid(chosen, [f"it is larger than {_MAX_BYTES} bytes"])
        # JSON is YAML, so one reader serves both.
        document: Any = yaml.safe_load(raw.decode("utf-8"))
    except OSError as error:
        raise PriceTableInvalid(chosen, [f"it cannot be read ({error.strerror})"]) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        raise PriceTableInvalid(chosen, ["it is no YAML in UTF-8"]) from None
    try:
        return Prices.model_validate(document)
    except ValidationError as error:
        reasons = [f"{'.'.join(str(step) for step in one['loc']) or 'it'}: {one['msg']}" for one in error.errors()]
        raise PriceTableInvalid(chosen, reasons) from None
