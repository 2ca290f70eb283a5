"""Lines as records. Pure: the command line reads its files with it, too."""

from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from ringi.jobs.contracts.sweeps import Record
from ringi.kit.errors import InvalidInput


class RecordUnreadable(InvalidInput):
    """A line that is no record."""

    code = "measurement_record_unreadable"

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(
            f"Line {line} is no record: {reason}.",
            next_step='Write each as {"task": "routing", "item": "q1", "asked": "sha256:…", "scores": {"accuracy": 1.0}}.',
            details={"line": line},
        )


def parsed(lines: Iterable[bytes]) -> Iterator[Record]:
    """Lines as records. Raises RecordUnreadable."""
    for number, line in enumerate(lines, start=1):
        try:
            yield Record.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            raise RecordUnreadable(number, f"{where}: {first['msg']}" if where else str(first["msg"])) from None
