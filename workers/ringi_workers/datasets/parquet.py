"""Parquet to records, read in batches of rows; the other kinds of files are read in platform/ringi/datasets/files.py."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import parquet

from ringi.datasets.files import MAX_LINE_BYTES, READERS, DatasetFileUnreadable, Findings, Reader, Record
from ringi.jobs.contracts.datasets import FileType

_BATCH_ROWS = 256


def parquet_records(stream: BinaryIO, _findings: Findings) -> Iterator[Record]:
    """One record a row, `line` its number from 1. Null is a field that is not there; numbers and truth values become their text.

    Raises DatasetFileUnreadable.
    """
    number = 0
    try:
        for batch in parquet.ParquetFile(stream).iter_batches(batch_size=_BATCH_ROWS):
            # What a file of kilobytes says may be gigabytes: a row is no longer here than a line of any other format.
            if batch.nbytes > MAX_LINE_BYTES:
                _require_lines(batch, number)
            for row in batch.to_pylist():
                number += 1
                yield Record(number, {field: _plain(value) for field, value in row.items() if value is not None})
    except (pa.ArrowException, OSError) as error:
        raise DatasetFileUnreadable(
            f"The Parquet file cannot be read after row {number}: {error}.", next_step="Write it again, or upload JSON lines.",
            details={"row": number},
        ) from error  # fmt: skip


def _require_lines(batch: pa.RecordBatch, before: int) -> None:
    """Raises DatasetFileUnreadable for a row that is longer than a line may be."""
    for place in range(len(batch)):
        if (size := batch.slice(place, 1).nbytes) > MAX_LINE_BYTES:
            row = before + place + 1
            raise DatasetFileUnreadable(
                f"Row {row} has {size} bytes; a row has at most {MAX_LINE_BYTES}.",
                next_step="Take it apart, or leave it out.",
                details={"row": row},
            )


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return value if isinstance(value, str) else _without_nulls(value)


def _without_nulls(value: Any) -> Any:
    """A nested value as JSON has it; a struct of Parquet has every field of its kind, and null where one is not there."""
    if isinstance(value, dict):
        return {field: _without_nulls(one) for field, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


ALL_READERS: dict[FileType, Reader] = {**READERS, FileType.PARQUET: parquet_records}
