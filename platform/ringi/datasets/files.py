"""Bytes of an upload to records, read as a stream: JSON lines, CSV (RFC 4180, with a comma, semicolon or tab; the first line is the header), YAML (a list of mappings).

All are UTF-8. Parquet is read by the worker, which has the library for it (workers/ringi_workers/datasets/parquet.py). `formats.py` goes on.
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, BinaryIO, ClassVar, NamedTuple

import yaml

from ringi.datasets.formats import FORMATS
from ringi.jobs.contracts.datasets import FileType
from ringi.kit.errors import InvalidInput

MAX_LINE_BYTES = 16 * 1024 * 1024
HEAD_BYTES = 64 * 1024
UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
# A cell may be a whole document; the library's own limit is 128 KiB.
csv.field_size_limit(MAX_LINE_BYTES)
_DELIMITERS = (",", ";", "\t")


class DatasetNotUtf8(InvalidInput):
    """Bytes that are not UTF-8; `details` has the line and the byte offset in the file, both of the first offence."""

    code: ClassVar[str] = "dataset_not_utf8"


class DatasetFileUnreadable(InvalidInput):
    """The file is not what it was said to be: broken Parquet, a header without the columns of any format, a line beyond all measure."""

    code: ClassVar[str] = "dataset_file_unreadable"


class Broken(NamedTuple):
    """A record that cannot be read, and why."""

    reason: str


class Record(NamedTuple):
    """One record; `line` is where it begins, counted from 1."""

    line: int
    fields: Mapping[str, Any] | Broken


Findings = dict[str, list[int]]
Reader = Callable[[BinaryIO, Findings], Iterator[Record]]


def file_type_of(head: bytes) -> FileType:
    """What a file is by its first bytes; what looks like none of them is read as JSON lines, whose refusals name the lines."""
    if head.startswith(b"PAR1"):
        return FileType.PARQUET
    first = _first_line(head)
    if first.startswith("- ") or first in {"-", "---"}:
        return FileType.YAML
    return FileType.CSV if not first.startswith("{") and _delimiter(first) else FileType.JSONL


def refuse_another_mark(head: bytes) -> None:
    """Raises DatasetFileUnreadable where the columns of the first line stand between bars, and between nothing that is read."""
    first = _first_line(head)
    if "|" in first and all(len(_cells(first, mark)) == 1 for mark in _DELIMITERS):
        raise DatasetFileUnreadable(
            "The columns in the first line stand between '|', and no CSV is read so.",
            next_step="Write the file with a comma, a semicolon or a tab between its columns.",
            details={"line": 1},
        )


def _first_line(head: bytes) -> str:
    return head.removeprefix(UTF8_BOM).decode("utf-8", errors="replace").lstrip().partition("\n")[0].rstrip()


def _delimiter(header: str) -> str | None:
    """What the columns of a format stand between: a comma, or what spreadsheets write in its place; None where no format has these columns."""
    return next((mark for mark in _DELIMITERS if any(set(how.needed) <= set(_cells(header, mark)) for how in FORMATS.values())), None)


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return []


def json_records(stream: BinaryIO, findings: Findings) -> Iterator[Record]:
    """JSON lines (RFC 8259, one object a line); blank lines are passed over."""
    for line, text in decoded(stream, findings):
        if text.strip():
            yield Record(line, _object(text))


def _object(text: str) -> Mapping[str, Any] | Broken:
    try:
        document = json.loads(text, object_pairs_hook=_without_repeats)
    except (json.JSONDecodeError, RecursionError):
        return Broken("not valid JSON")
    except ValueError as error:
        return Broken(str(error))
    return document if isinstance(document, dict) else Broken("not a JSON object")


def _without_repeats(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(fields)
    if len(document) != len(fields):
        raise ValueError("a field occurs twice")
    return document


def csv_records(stream: BinaryIO, findings: Findings) -> Iterator[Record]:
    """CSV with a header; a cell of `messages` or `tools` holds JSON. After a fault of quoting nothing more can be read."""
    lines = (text for _, text in decoded(stream, findings))
    first = next(lines, "")
    reader = csv.reader(chain([first], lines), delimiter=_delimiter(first.rstrip("\r\n")) or ",", strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Record(line, Broken(f"not valid CSV: {error}"))
            return
        if cells is None:
            return
        if header is None and cells:
            header = cells
            if len(set(header)) < len(header):
                raise DatasetFileUnreadable("A column of the CSV occurs twice in its header.", next_step="Give every column its own name.")
        elif header is not None and cells:
            yield Record(line, _from_cells(header, cells))


def _from_cells(header: list[str], cells: list[str]) -> Mapping[str, Any] | Broken:
    if len(cells) != len(header):
        return Broken(f"{len(cells)} cells, and the header has {len(header)}")
    fields: dict[str, Any] = dict(zip(header, cells, strict=True))
    for field in ("messages", "tools"):
        if fields.get(field):
            try:
                fields[field] = json.loads(fields[field])
            except (ValueError, RecursionError):
                return Broken(f"'{field}' is not valid JSON")
    return fields


class _Text:
    """Decoded lines as the file that the YAML library reads."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self._lines = lines

    def read(self, _size: int = -1) -> str:
        """The next line, empty at the end."""
        return next((text for _, text in self._lines), "")


class _Rows(yaml.BaseLoader):
    """Every scalar is a string, as it is written: `no` and `1e3` too. Aliases are refused, since they can grow without end."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """A node of the document."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not read", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


def yaml_records(stream: BinaryIO, findings: Findings) -> Iterator[Record]:
    """YAML whose document is a list of mappings, one after another; after a fault nothing more can be read."""
    line = 1
    try:
        loader = _Rows(_Text(decoded(stream, findings)))
        while not loader.check_event(yaml.SequenceStartEvent):
            if not loader.check_event(yaml.StreamStartEvent, yaml.DocumentStartEvent):
                return
            loader.get_event()  # type: ignore[no-untyped-call]
        loader.get_event()  # type: ignore[no-untyped-call]
        while not loader.check_event(yaml.SequenceEndEvent):
            line = loader.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            node = loader.compose_node(None, 0)
            yield Record(line, _mapping(loader, node))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        yield Record(line if mark is None else mark.line + 1, Broken(f"not valid YAML: {error.problem}"))
    except (yaml.YAMLError, RecursionError):
        yield Record(line, Broken("not valid YAML"))


def _mapping(loader: _Rows, node: yaml.Node | None) -> Mapping[str, Any] | Broken:
    if not isinstance(node, yaml.MappingNode):
        return Broken("not a mapping")
    fields = loader.construct_object(node, deep=True)
    return Broken("a field occurs twice") if len(fields) < len(node.value) else fields


READERS: dict[FileType, Reader] = {FileType.JSONL: json_records, FileType.CSV: csv_records, FileType.YAML: yaml_records}


def decoded(stream: BinaryIO, findings: Findings) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and decoded lines with their ends. Raises DatasetNotUtf8 at the first that is not UTF-8, DatasetFileUnreadable."""
    offset, line, other_letters = 0, 0, False
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        line += 1
        if line == 1 and raw.startswith(_UTF16_BOMS):
            raise _not_utf8(line, 0, "It looks like UTF-16", "UTF-16")
        body = raw
        if line == 1 and raw.startswith(UTF8_BOM):
            findings["byte_order_mark"] = [1]
            body = raw[len(UTF8_BOM) :]
        if len(raw) > MAX_LINE_BYTES:
            raise DatasetFileUnreadable(
                f"Line {line} is longer than {MAX_LINE_BYTES} bytes.", next_step="Write one row a line.", details={"line": line}
            )
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            place = offset + len(raw) - len(body) + error.start
            # Where lines with other letters were UTF-8 the file is, and this one is broken.
            raise (_broken_utf8(line, place) if other_letters else _not_utf8(line, place, *_guess(body))) from None
        other_letters |= not text.isascii()
        yield line, text
        offset += len(raw)


def _guess(raw: bytes) -> tuple[str, str | None]:
    try:
        raw.decode("cp932")
    except UnicodeDecodeError:
        return "Its encoding is unknown", None
    return "It can be read as Shift_JIS (cp932)", "CP932"


def _broken_utf8(line: int, offset: int) -> DatasetNotUtf8:
    guess = "The lines before it are UTF-8, so this one is damaged"
    return DatasetNotUtf8(
        f"The file is not UTF-8: line {line}, byte {offset}. {guess}.",
        next_step="Write that line anew.",
        details={"line": line, "byte_offset": offset, "guess": guess},
    )


def _not_utf8(line: int, offset: int, guess: str, encoding: str | None) -> DatasetNotUtf8:
    return DatasetNotUtf8(
        f"The file is not UTF-8: line {line}, byte {offset}. {guess}.",
        next_step=f"Convert it first: iconv -f {encoding} -t UTF-8 FILE > FILE.utf8." if encoding else "Write it as UTF-8.",
        details={"line": line, "byte_offset": offset, "guess": guess},
    )
