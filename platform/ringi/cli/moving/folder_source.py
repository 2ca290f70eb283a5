"""PEFT folders on this machine as a source: each subfolder one adapter, or a mapping (CSV or JSON lines) that says more.

A folder's version is the digest of its config and weights, so a folder that was trained again is another version of the same name.
"""

import csv
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from shutil import copyfile
from typing import Any, NamedTuple

from pydantic import Field, ValidationError, field_validator

from ringi.adapters import files as adapter_files
from ringi.adapters.files import CONFIG, WEIGHTS
from ringi.cli.connection import OnBytes
from ringi.cli.errors import Usage
from ringi.cli.moving.mlflow_source import MAX_CONFIG_BYTES, base_in
from ringi.cli.moving.plan import Found, Sight
from ringi.cli.moving.refusals import ArtifactTooLarge, NoPeftFolder
from ringi.kit.digests import hex_of, sha256_file, sha256_json
from ringi.origins.schemas import ExternalName, Facts, Key, RecordOrigin, SourceFile, SourceName, Value
from ringi.web.schemas import Name, Schema

MAX_ROWS = 100_000
_SHOWN = 40


class BadMapping(Usage):
    """A mapping that cannot be read, or that names what is not there."""

    code = "bad_mapping"

    def __init__(self, file: Path, line: int, reason: str) -> None:
        super().__init__(
            f"'{file}', line {line}: {reason}.",
            next_step="Columns are folder, adapter, base and tags (k=v;k=v, in JSON an object); only folder is needed.",
        )


class Row(Schema):
    """A line of a mapping; `folder` is relative to the folder that is imported. Rows of one adapter are its versions, in this order."""

    folder: ExternalName
    adapter: Name | None = None
    base: Name | None = None
    tags: dict[Key, Value] = Field(default_factory=dict)

    @field_validator("adapter", "base", mode="before")
    @classmethod
    def _empty_is_none(cls, given: Any) -> Any:
        return given or None

    @field_validator("tags", mode="before")
    @classmethod
    def _written_as_text(cls, given: Any) -> Any:
        if not isinstance(given, str):
            return given or {}
        pairs = [pair.partition("=") for pair in given.split(";") if pair.strip()]
        if any(not equals for _, equals, _ in pairs):
            raise ValueError("tags are written k=v;k=v")
        return {key.strip(): value.strip() for key, _, value in pairs}


class _Labelled(Schema):
    label: SourceName


class _Place(NamedTuple):
    row: Row
    folder: Path


class FolderSource:
    """Folders below `top`; `label` names the collection in the origins (the folder's own name unless given)."""

    system = "folders"

    def __init__(self, top: Path, mapping: Path | None, *, label: str | None, limit: int) -> None:
        if not top.is_dir():
            raise Usage(f"'{top}' is not a folder.", next_step="Name the folder whose subfolders are PEFT folders.")
        self.limit = limit
        self.address = _Labelled(label=label or top.resolve().name).label
        rows = read_mapping(mapping) if mapping else [Row(folder=name) for name in subfolders(top)]
        self._places: dict[str, list[_Place]] = {}
        for row in rows:
            # Rows that name one adapter are versions of one thing, under the adapter's name; a folder alone goes under its own.
            self._places.setdefault(row.adapter or row.folder, []).append(_Place(row, top / row.folder))

    def names(self) -> list[str]:
        """In the order of the mapping, or by name."""
        return list(self._places)

    def named(self, name: str) -> str | None:
        """What the mapping says."""
        return self._places[name][0].row.adapter

    def versions(self, name: str) -> Iterator[Found]:
        """In the order of the mapping."""
        for row, folder in self._places[name]:
            files = _files(folder)
            digest = sha256_json([[file.path, file.digest] for file in files]) if files else None
            version = hex_of(digest)[:_SHOWN] if digest else "-"
            yield Found(name, version, [], row.base, partial(self._look, name, version, row, folder, files))

    def _look(self, name: str, version: str, row: Row, folder: Path, files: list[SourceFile]) -> Sight:
        if CONFIG not in {file.path for file in files}:
            raise NoPeftFolder
        pickled = [path.name for path in folder.iterdir() if path.name == "adapter_model.bin"]
        adapter_files.check_paths([file.path for file in files] + pickled)
        if (size := sum(file.size for file in files)) > self.limit:
            raise ArtifactTooLarge(f"{size:,} bytes in {row.folder}", self.limit)
        with (folder / CONFIG).open("rb") as stream:
            base, revision = base_in(stream.read(MAX_CONFIG_BYTES))
        facts = Facts(base=base, base_revision=revision, tags=row.tags)
        origin = RecordOrigin(system=self.system, source=self.address, name=name, version=version, facts=facts)
        return Sight(origin, partial(self._fetch, row, folder, files))

    def _fetch(self, row: Row, folder: Path, files: list[SourceFile], target: Path, on_bytes: OnBytes) -> list[SourceFile]:
        total = sum(file.size for file in files)
        for file in files:
            copyfile(folder / file.path, target / file.path)
        on_bytes(total, total)
        return [file.model_copy(update={"path": f"{row.folder}/{file.path}"}) for file in files]


def subfolders(top: Path) -> list[str]:
    """The plain subfolders, by name; links and hidden ones are left out."""
    return sorted(path.name for path in top.iterdir() if path.is_dir() and not path.is_symlink() and not path.name.startswith("."))


def _files(folder: Path) -> list[SourceFile]:
    """Config and weights as they lie there."""
    there = [folder / name for name in (CONFIG, WEIGHTS) if (folder / name).is_file()]
    return [SourceFile(path=path.name, size=path.stat().st_size, digest=sha256_file(path)) for path in there]


def read_mapping(file: Path) -> list[Row]:
    """The rows of a CSV file (with a header) or of JSON lines, by the file's suffix. Raises BadMapping."""
    rows: list[Row] = []
    line = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            for line, document in _documents(file, stream):
                row = Row.model_validate(document)
                if PurePosixPath(row.folder).is_absolute() or ".." in PurePosixPath(row.folder).parts or "\\" in row.folder:
                    raise BadMapping(file, line, f"the folder '{row.folder}' is not below the imported one")
                rows.append(row)
                if len(rows) > MAX_ROWS:
                    raise BadMapping(file, line, f"there are more than {MAX_ROWS:,} rows")
    except ValidationError as error:
        first = error.errors()[0]
        raise BadMapping(file, line, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise BadMapping(file, line, str(error)) from None
    if not rows:
        raise BadMapping(file, 1, "it has no rows")
    return rows


def _documents(file: Path, stream: Any) -> Iterator[tuple[int, Any]]:
    if file.suffix == ".csv":
        for number, row in enumerate(csv.DictReader(stream, strict=True), start=2):
            if None in row or None in row.values():
                raise BadMapping(file, number, "it has more or fewer fields than the header")
            yield number, row
        return
    for number, text in enumerate(stream, start=1):
        if text.strip():
            try:
                yield number, json.loads(text)
            except json.JSONDecodeError as error:
                raise BadMapping(file, number, str(error)) from None
