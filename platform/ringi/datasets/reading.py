"""Read an uploaded dataset, and refuse what cannot be read with line numbers; `validation.py` goes on from here.

The source is JSON lines in UTF-8 (RFC 8259, one object a line): `prompt` and `completion` are strings, and so is every further field, kept
as a tag (`category` and the like). An `id` of the source is kept as the tag `source_id`, since Ringi gives every item its own.
"""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, ClassVar, NamedTuple

from ringi.kit.errors import InvalidInput

MAX_LINE_BYTES = 16 * 1024 * 1024
_EXAMPLES = 5
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


class DatasetNotUtf8(InvalidInput):
    """Bytes that are not UTF-8; `details` has the line and the byte offset in the file, both of the first offence."""

    code: ClassVar[str] = "dataset_not_utf8"


class DatasetRowInvalid(InvalidInput):
    """Lines that are not an object with a string prompt and completion; `details` has the first few with reasons, and the count."""

    code: ClassVar[str] = "dataset_row_invalid"


class DatasetNoRows(InvalidInput):
    """The file holds no row at all."""

    code: ClassVar[str] = "dataset_no_rows"


class Row(NamedTuple):
    """One line of the source; `line` counts from 1."""

    line: int
    prompt: str
    completion: str
    tags: dict[str, str]


class SourceRows(NamedTuple):
    """All rows of a file, and line numbers of what was accepted but is worth reporting."""

    rows: list[Row]
    findings: dict[str, list[int]]


def read_rows(stream: BinaryIO) -> SourceRows:
    """Read JSON lines from `stream`, line by line; blank lines are skipped and a UTF-8 byte order mark is accepted and reported.

    Raises DatasetNotUtf8 at the first undecodable line, DatasetRowInvalid after the last line, DatasetNoRows.
    """
    rows: list[Row] = []
    findings: dict[str, list[int]] = {}
    refused: list[dict[str, Any]] = []
    refusals = 0
    for line, text in _lines(stream, findings):
        try:
            rows.append(_parse(line, text))
        except ValueError as error:
            refusals += 1
            if len(refused) < _EXAMPLES:
                refused.append({"line": line, "reason": str(error)})
    if refusals:
        first = "; ".join(f"line {r['line']}: {r['reason']}" for r in refused)
        raise DatasetRowInvalid(
            f"{refusals} of {refusals + len(rows)} rows cannot be read ({first}).",
            next_step='Write each row as one line like {"prompt": "…", "completion": "…", "category": "…"}; every value is a string.',
            details={"count": refusals, "reasons": refused},
        )
    if not rows:
        raise DatasetNoRows("The file holds no rows.", next_step="Upload JSON lines with at least one object a line.")
    return SourceRows(rows, findings)


def _lines(stream: BinaryIO, findings: dict[str, list[int]]) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and decoded, non-blank lines."""
    offset, line = 0, 0
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        line += 1
        if line == 1 and raw.startswith(_UTF16_BOMS):
            raise _not_utf8(line, 0, "It looks like UTF-16")
        body = raw
        if line == 1 and raw.startswith(_UTF8_BOM):
            findings["byte_order_mark"] = [1]
            body = raw[len(_UTF8_BOM) :]
        if len(raw) > MAX_LINE_BYTES:
            raise DatasetRowInvalid(
                f"Line {line} is longer than {MAX_LINE_BYTES} bytes.",
                next_step="Write one JSON object a line.",
                details={"count": 1, "reasons": [{"line": line, "reason": "line too long"}]},
            )
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise _not_utf8(line, offset + len(raw) - len(body) + error.start, _guess(body)) from None
        if text.strip():
            yield line, text
        offset += len(raw)


def _guess(raw: bytes) -> str:
    try:
        raw.decode("cp932")
    except UnicodeDecodeError:
        return "Its encoding is unknown"
    return "It can be read as Shift_JIS (cp932)"


def _not_utf8(line: int, offset: int, guess: str) -> DatasetNotUtf8:
    return DatasetNotUtf8(
        f"The file is not UTF-8: line {line}, byte {offset}. {guess}.",
        next_step="Convert it first, for example: iconv -f CP932 -t UTF-8 rows.jsonl.",
        details={"line": line, "byte_offset": offset, "guess": guess},
    )


def _parse(line: int, text: str) -> Row:
    """A row of one line; raises ValueError with the reason."""
    try:
        document = json.loads(text, object_pairs_hook=_without_repeats)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("not valid JSON") from None
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004
    for field in ("prompt", "completion"):
        if field not in document:
            raise ValueError(f"'{field}' is missing")
    for field, value in document.items():
        if not isinstance(value, str):
            raise ValueError(f"'{field}' is not a string")  # noqa: TRY004
        if "\x00" in field + value:
            raise ValueError(f"'{field}' contains a NUL character")
        if any("\ud800" <= character <= "\udfff" for character in field + value):
            raise ValueError(f"'{field}' contains half of a surrogate pair")
    tags = {field: value for field, value in document.items() if field not in ("prompt", "completion", "id")}
    if "id" in document:
        tags["source_id"] = document["id"]
    return Row(line, document["prompt"], document["completion"], tags)


def _without_repeats(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(fields)
    if len(document) != len(fields):
        raise ValueError("a field occurs twice")
    return document
