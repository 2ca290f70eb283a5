"""Read, prepare, divide and seal a dataset."""

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, FiniteFloat

from ringi.jobs.contracts.parts import Contract, FileRef, Part
from ringi.jobs.contracts.scorer_parameters import PersonalKind
from ringi.kit.digests import Digest


class FileType(StrEnum):
    """What an uploaded file is."""

    JSONL = "jsonl"
    CSV = "csv"
    YAML = "yaml"
    PARQUET = "parquet"


class RowFormat(StrEnum):
    """Which fields its rows have (platform/ringi/datasets/formats.py)."""

    PROMPT_COMPLETION = "prompt_completion"
    CHAT = "chat"
    ALPACA = "alpaca"
    TEXT_LABEL = "text_label"
    DOCUMENTS = "documents"


class ReadAs(Part):
    """What the file and its rows are to be read as; None is recognised by the beginning of the file and by the fields of its first row."""

    row_format: RowFormat | None = None
    file_type: FileType | None = None


class SplitSpec(Part):
    """Which share of the groups of equal prompts goes to validation; the side of a group depends on seed and text only."""

    validation_fraction: FiniteFloat = Field(gt=0, lt=1)
    seed: int


PERSONAL_KINDS: tuple[PersonalKind, ...] = ("email", "card", "phone", "phone_jp", "my_number", "postal_code_jp")


class Recipe(Part):
    """What is done to rows before they are divided, sealed with them. In this order; the defaults change no text and drop exact copies only."""

    # `width`: full-width Latin and half-width kana are folded. `nfkc`: every compatibility form is (Unicode UAX #15): ① is 1, ㈱ is (株).
    unicode: Literal["keep", "width", "nfkc"] = "keep"
    # `tidy`: line ends as \n, runs of blanks inside a line as one (its indentation stays), no blanks at line ends, one empty line at most.
    white_space: Literal["keep", "tidy"] = "keep"
    # `redact` writes [email] and so on in its place; `refuse` seals nothing when something is found.
    personal_data: Literal["ignore", "report", "redact", "refuse"] = "report"
    personal_kinds: Annotated[tuple[PersonalKind, ...], Field(min_length=1)] = PERSONAL_KINDS
    # `remove` keeps one row of those alike and keeps it out of validation; where the earlier version has some of them in validation, all those.
    near_duplicates: Literal["ignore", "report", "remove"] = "report"
    # From which Jaccard similarity of their character 5-grams on two rows are near duplicates.
    near_threshold: FiniteFloat = Field(default=0.8, ge=0.5, le=1)


class Kept(Part):
    """An earlier version (`v1`) whose rows keep their side, and its two parts."""

    version: str
    train: Digest
    validation: Digest


class Terms(Part):
    """What may be done with the rows, in the words of who adds them. Empty is not told."""

    licence: str = ""
    origin: str = ""
    consent: str = ""
    # The day until which they may be kept, as YYYY-MM-DD.
    retain_until: str | None = None


class ValidateDatasetPayload(Contract):
    """Read `source`, prepare it, report, and split."""

    dataset_id: UUID
    version_name: str
    source: Digest
    split: SplitSpec
    read_as: ReadAs = ReadAs()
    recipe: Recipe = Recipe()
    kept: Kept | None = None
    terms: Terms = Terms()


class Lengths(Part):
    """Of the rows that are sealed, in characters: the median, the length that 95 of 100 do not pass, and the longest."""

    median: int
    p95: int
    longest: int


class DatasetReport(Part):
    """What was found. Counts are rows unless named otherwise; `examples` holds a few line numbers per finding. None was not looked for."""

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
    row_format: RowFormat = RowFormat.PROMPT_COMPLETION
    file_type: FileType = FileType.JSONL
    # The version whose rows keep their side; how many of its distinct validation prompts are here again, and how many are not.
    kept_validation_of: str | None = None
    kept_validation_prompts: int | None = None
    lost_validation_prompts: int | None = None
    # Of each group of nearly equal rows all but the first, whatever became of them; those of the group that were taken out; and validation rows
    # of which something nearly equal stays in train.
    near_duplicates: int | None = None
    near_removed: int | None = None
    near_leaks: int | None = None
    # Rows whose text a step of the recipe changed, by step.
    prepared: dict[str, int] = Field(default_factory=dict)
    # Rows in which something of a kind was found, by kind.
    personal_data: dict[str, int] | None = None
    # Rows by what they are mostly written in: japanese, latin, han, hangul, …; told from the characters, not from the words.
    scripts: dict[str, int] = Field(default_factory=dict)
    # By what is measured: prompt and completion; text for documents.
    lengths: dict[str, Lengths] = Field(default_factory=dict)


class ValidateDatasetResult(Contract):
    """The two sealed splits as JSON lines blobs."""

    report: DatasetReport
    train: FileRef
    validation: FileRef
