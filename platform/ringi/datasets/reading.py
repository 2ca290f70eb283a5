"""Read an uploaded dataset, and refuse what cannot be read with line numbers. After `files.py` and `formats.py`, before `validation.py`."""

from collections.abc import Mapping
from typing import Any, BinaryIO, ClassVar, NamedTuple

from ringi.datasets.contents import Row
from ringi.datasets.files import (
    HEAD_BYTES,
    READERS,
    UTF8_BOM,
    Broken,
    DatasetFileUnreadable,
    DatasetNotUtf8,
    Reader,
    file_type_of,
    refuse_another_mark,
)
from ringi.datasets.formats import FORMATS, recognised, row_of
from ringi.jobs.contracts.datasets import FileType, ReadAs, RowFormat
from ringi.kit.errors import InvalidInput

# Whoever reads meets these; all come from here.
__all__ = ["DatasetFileUnreadable", "DatasetNoRows", "DatasetNotUtf8", "DatasetRowInvalid", "Row", "SourceRows", "read_rows"]

_EXAMPLES = 5


class DatasetRowInvalid(InvalidInput):
    """Rows that are not of the file's format; `details` has the first few lines with reasons, the count, and the format."""

    code: ClassVar[str] = "dataset_row_invalid"


class DatasetNoRows(InvalidInput):
    """The file holds no row at all."""

    code: ClassVar[str] = "dataset_no_rows"


class SourceRows(NamedTuple):
    """All rows of a file, line numbers of what was accepted but is worth reporting, and what the file and its rows were read as."""

    rows: list[Row]
    findings: dict[str, list[int]]
    row_format: RowFormat = RowFormat.PROMPT_COMPLETION
    file_type: FileType = FileType.JSONL


def read_rows(stream: BinaryIO, asked: ReadAs | None = None, *, readers: Mapping[FileType, Reader] = READERS) -> SourceRows:
    """Read `stream` record by record; the rows are kept. A UTF-8 byte order mark is accepted and reported.

    File and format are recognised by the beginning and by the fields of the first row unless `asked` says them. Raises DatasetNotUtf8 and
    DatasetFileUnreadable where they are met, DatasetRowInvalid after the last row, DatasetNoRows.
    """
    asked = asked or ReadAs()
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    file_type = asked.file_type or file_type_of(head)
    if file_type not in readers:
        raise DatasetFileUnreadable(f"Files of the type {file_type} are not read here.", next_step="Convert it to JSON lines.")
    rows: list[Row] = []
    findings: dict[str, list[int]] = {}
    refused: list[dict[str, Any]] = []
    refusals, row_format = 0, asked.row_format
    for line, fields in readers[file_type](stream, findings):
        try:
            if isinstance(fields, Broken):
                raise ValueError(fields.reason)  # noqa: TRY004, TRY301 - counted with the others
            row_format = row_format or recognised(fields)
            rows.append(row_of(line, fields, row_format))
        except ValueError as error:
            refusals += 1
            if len(refused) < _EXAMPLES:
                refused.append({"line": line, "reason": str(error)})
    if refusals:
        guessed = asked.file_type is None and file_type is FileType.JSONL and not head.removeprefix(UTF8_BOM).lstrip().startswith(b"{")
        if guessed or file_type is FileType.CSV:
            refuse_another_mark(head)
        raise _invalid(refusals, refusals + len(rows), refused, row_format, guessed=guessed)
    if not rows:
        raise DatasetNoRows("The file holds no rows.", next_step="Upload a file with at least one row, such as one JSON object a line.")
    return SourceRows(rows, findings, row_format or RowFormat.PROMPT_COMPLETION, file_type)


def _invalid(count: int, rows: int, refused: list[dict[str, Any]], row_format: RowFormat | None, *, guessed: bool) -> DatasetRowInvalid:
    first = "; ".join(f"line {r['line']}: {r['reason']}" for r in refused)
    others = ", ".join(one for one in RowFormat if one is not row_format)
    needed = FORMATS[row_format or RowFormat.PROMPT_COMPLETION].example
    because = "It was read as JSON lines, because its first line names the columns of no format. " if guessed else ""
    return DatasetRowInvalid(
        f"{count} of {rows} rows cannot be read{f' as {row_format}' if row_format else ''} ({first}).",
        next_step=f"{because}Write each row like {needed}, every further value a string; or say another format: {others}.",
        details={"count": count, "reasons": refused, "format": row_format},
    )
