"""Datasets in and out."""

from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from ringi.jobs.contracts.datasets import DatasetReport, FileType, Recipe, RowFormat, SplitSpec
from ringi.kit.digests import Digest
from ringi.tags.schemas import Tagged
from ringi.web.schemas import Integer, Name, Schema, Text

DEFAULT_SPLIT = SplitSpec(validation_fraction=0.15, seed=0)


class CreateDataset(Schema):
    """A named series of sealed versions."""

    name: Name
    description: Text = ""


PersonalAction = Literal["ignore", "report", "redact", "refuse"]
# From what is least to what is most; a project's policy is the least that is done.
PERSONAL_ACTIONS: tuple[PersonalAction, ...] = ("ignore", "report", "redact", "refuse")


class DatasetTerms(Schema):
    """What may be done with the rows, in plain words: `licence` (CC BY 4.0), `origin` (where they come from), `consent` (on which ground).

    They are sealed with the version and belong to its digest. `retain_until`: the day until which the rows may be kept.
    """

    licence: Text = ""
    origin: Text = ""
    consent: Text = ""
    retain_until: date | None = None


class AddDatasetVersion(Schema):
    """A version from an uploaded file. File and rows are recognised unless `file_type` and `row_format` say what they are.

    `keep_validation_of`: the version (`v1`) whose rows keep their side, so that what is evaluated stays the same while rows are added;
    `previous` is the newest, `none` divides anew. The split's seed belongs to the dataset's identity: keep it over versions.
    """

    source: Digest
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = DEFAULT_SPLIT.validation_fraction
    seed: Annotated[Integer, Field(ge=0, lt=2**53)] = DEFAULT_SPLIT.seed
    file_type: FileType | None = None
    row_format: RowFormat | None = None
    keep_validation_of: Annotated[str, StringConstraints(pattern=r"^(previous|none|v[1-9][0-9]{0,8})$")] = "previous"
    recipe: Recipe = Recipe()
    terms: DatasetTerms = DatasetTerms()


class DatasetOut(Tagged):
    """A dataset."""

    project: str
    name: str
    description: str
    created_at: datetime
    row_version: int


class DatasetVersionOut(Tagged):
    """A sealed version: `digest` names source, split, recipe, terms and both parts."""

    reference: str
    number: int
    digest: Digest
    source_digest: Digest
    train_digest: Digest
    validation_digest: Digest
    recipe: Recipe
    terms: DatasetTerms
    report: DatasetReport
    created_at: datetime


class DatasetVersionAccepted(Schema):
    """Either the sealed version of equal bytes that exists already, or the job that validates and seals a new one."""

    job_id: UUID | None
    version: DatasetVersionOut | None


class SetDatasetPolicy(Schema):
    """What is done at the least with personal data in every new version of the project; a request may ask for more."""

    personal_data: PersonalAction


class DatasetPolicyOut(SetDatasetPolicy):
    """The policy of a project. `row_version` 0: none was ever set."""

    project: str
    row_version: int
