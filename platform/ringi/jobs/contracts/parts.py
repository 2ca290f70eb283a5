"""What the contracts of several kinds of jobs are made of: files, references, progress. Imports pydantic and `kit.digests` only."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from ringi.kit.digests import Digest


class Contract(BaseModel):
    """Frozen, closed, and versioned."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    schema_version: Literal[1] = 1


class Part(BaseModel):
    """A frozen, closed piece of a contract."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRef(Part):
    """One file of a tree: POSIX path relative to the tree's root, size in bytes, digest of the content."""

    path: str
    size: int = Field(ge=0)
    digest: Digest


class BaseRef(Part):
    """A sealed base model revision. `commit` is the 40-hex id under which the hub serves it, `repository` the hub's name of it."""

    name: str
    repository: str
    revision: int
    commit: str
    digest: Digest
    files: tuple[FileRef, ...]


class AdapterRef(Part):
    """A sealed adapter version's files, named by its manifest digest."""

    name: str
    manifest_digest: Digest
    files: tuple[FileRef, ...]


class Progress(Part):
    """Live state of a running job; every field but `phase` is None until it is known. `label_tokens`: tokens learnt from so far.

    `cost`: of the loop so far, in `currency`, where the device has a price.
    """

    phase: str
    step: int | None = None
    total: int | None = None
    loss: FiniteFloat | None = None
    tokens_per_s: FiniteFloat | None = None
    eta_s: FiniteFloat | None = None
    label_tokens: int | None = None
    cost: FiniteFloat | None = None
    currency: str | None = None


def as_document(contract: BaseModel) -> dict[str, Any]:
    """The JSON form in which a contract is stored in the jobs table."""
    return contract.model_dump(mode="json")
