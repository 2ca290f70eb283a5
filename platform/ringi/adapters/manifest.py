"""The manifest of an adapter version: files, base and format, nothing else, so equal bytes keep one identity.

`digest` = SHA-256 of the RFC 8785 form of `{"base": {"digest", "name", "revision"}, "files": [{"path", "sha256", "size"}], "format"}`,
files sorted by the code points of their paths, `sha256` as 64 hex characters. Provenance (recipe, costs, lock) is another record.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ringi.jobs.contracts.adapters import FULL_WEIGHTS
from ringi.jobs.contracts.parts import FileRef
from ringi.kit.digests import Digest, canonical_json, hex_of, sha256_bytes

PEFT_LORA = "peft-lora/1"
FORMATS: Mapping[str, str] = {"LORA": PEFT_LORA, "IA3": "peft-ia3/1", "VERA": "peft-vera/1", FULL_WEIGHTS: "full-weights/1"}
_COMMIT_LENGTH = 40


class Manifest(BaseModel):
    """Frozen. `base_digest` is the digest of the base revision's own manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: tuple[FileRef, ...] = Field(min_length=1)
    base_name: str = Field(min_length=1)
    base_revision: int = Field(ge=1)
    base_digest: Digest
    format: str = Field(min_length=1)

    @classmethod
    def of(cls, files: Sequence[FileRef], base_name: str, base_revision: int, base_digest: Digest, format: str = PEFT_LORA) -> Self:  # noqa: A002
        """The manifest of `files` in any order."""
        ordered = tuple(sorted(files, key=lambda file: file.path))
        return cls(files=ordered, base_name=base_name, base_revision=base_revision, base_digest=base_digest, format=format)

    @model_validator(mode="after")
    def _one_entry_a_path_in_order(self) -> Self:
        paths = [file.path for file in self.files]
        if paths != sorted(set(paths)):
            raise ValueError("the files of a manifest are sorted by path and no path occurs twice")
        return self

    def document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "files": [{"path": file.path, "size": file.size, "sha256": hex_of(file.digest)} for file in self.files],
            "base": {"name": self.base_name, "revision": self.base_revision, "digest": self.base_digest},
            "format": self.format,
        }

    @cached_property
    def canonical(self) -> bytes:
        """RFC 8785 bytes: what is stored, hashed and signed."""
        return canonical_json(self.document())

    @property
    def digest(self) -> Digest:
        """The identity of the version."""
        return sha256_bytes(self.canonical)

    @property
    def commit(self) -> str:
        """The first 40 hex characters of the digest: the commit id under which the hub serves the version."""
        return hex_of(self.digest)[:_COMMIT_LENGTH]


class ManifestDiff(BaseModel):
    """What differs between two manifests; paths are sorted. All empty and False means the same digest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    base_changed: bool
    format_changed: bool


def diff(old: Manifest, new: Manifest) -> ManifestDiff:
    """From `old` to `new`."""
    before = {file.path: file for file in old.files}
    after = {file.path: file for file in new.files}
    return ManifestDiff(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(sorted(path for path in before.keys() & after.keys() if before[path] != after[path])),
        base_changed=(old.base_name, old.base_revision, old.base_digest) != (new.base_name, new.base_revision, new.base_digest),
        format_changed=old.format != new.format,
    )
