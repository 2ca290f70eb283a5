"""Validate, split and seal a dataset."""

from uuid import UUID

from pydantic import Field, FiniteFloat

from ringi.jobs.contracts.parts import Contract, FileRef, Part
from ringi.kit.digests import Digest


class SplitSpec(Part):
    """Which share of the groups of equal prompts goes to validation; the side of a group depends on seed and text only."""

    validation_fraction: FiniteFloat = Field(gt=0, lt=1)
    seed: int


class ValidateDatasetPayload(Contract):
    """Read `source` (JSON lines, one object with prompt and completion a line), report, and split."""

    dataset_id: UUID
    version_name: str
    source: Digest
    split: SplitSpec


class DatasetReport(Part):
    """What was found. Counts are rows unless named otherwise; `examples` holds a few line numbers per finding."""

    rows: int
    unique_pairs: int
    empty_rows: int
    duplicate_rows: int
    # Pairs that occur more than once: their single copy stays in train and never reaches validation.
    duplicated_pairs: int
    conflicting_prompts: int
    # Groups of equal prompts that a plain row split would have put on both sides; grouping keeps them on one.
    leakage_prevented: int
    train_rows: int
    validation_rows: int
    characters: int
    categories: dict[str, dict[str, int]]
    examples: dict[str, list[int]]


class ValidateDatasetResult(Contract):
    """The two sealed splits as JSON lines blobs."""

    report: DatasetReport
    train: FileRef
    validation: FileRef
