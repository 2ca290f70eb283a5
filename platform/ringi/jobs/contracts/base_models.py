"""Fingerprint a base revision, and compare two of them."""

from uuid import UUID

from pydantic import FiniteFloat

from ringi.jobs.contracts.parts import Contract, FileRef, Part


class FingerprintPayload(Contract):
    """Parse a base revision's files and compute parts F1 and F2 of its fingerprint."""

    revision_id: UUID
    files: tuple[FileRef, ...]


class BaseFacts(Part):
    """What config and tokenizer say, for lists and for the compatibility rules."""

    model_type: str
    architectures: tuple[str, ...]
    parameters: int
    tensors: int
    weight_bytes: int
    dtypes: tuple[str, ...]
    hidden_size: int | None
    layers: int | None
    vocab_size: int | None
    tokenizer_class: str | None
    tokenizer_vocab_size: int | None
    chat_template: bool


class FingerprintResult(Contract):
    """F1: digest of the canonical config. F2: root over the tensors; `tensors` is the blob with one record a tensor."""

    f1: str
    f1_document: FileRef
    f2: str
    tensors: FileRef
    facts: BaseFacts


class ComparedBase(Part):
    """One side of a comparison: its parts and files, nothing about how it came to be."""

    revision_id: UUID
    revision: int
    f1: str
    f2: str
    f1_document: FileRef
    tensors: FileRef
    files: tuple[FileRef, ...]


class CompareBasesPayload(Contract):
    """Compare two revisions of one base model."""

    base_model_id: UUID
    old: ComparedBase
    new: ComparedBase


class TensorChange(Part):
    """A tensor whose values differ: `relative` = ||new - old|| / ||old|| (Frobenius), None where shapes or kinds forbid it."""

    name: str
    relative: FiniteFloat | None


class CompareBasesResult(Contract):
    """Facts for the rules. `byte_equal_files`: every weight file has the same digest on both sides."""

    byte_equal_files: bool
    config_changes: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    reshaped: tuple[str, ...]
    # Raw bytes or dtype differ but the values agree exactly (f32 upcast), or after rounding to the narrower dtype.
    recast: tuple[str, ...]
    changed: tuple[TensorChange, ...]
