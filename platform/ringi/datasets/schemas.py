"""Datasets in and out."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import Field

from ringi.jobs.contracts.datasets import DatasetReport, SplitSpec
from ringi.kit.digests import Digest
from ringi.tags.schemas import Tagged
from ringi.web.schemas import Integer, Name, Schema, Text

DEFAULT_SPLIT = SplitSpec(validation_fraction=0.15, seed=0)


class CreateDataset(Schema):
    """A named series of sealed versions."""

    name: Name
    description: Text = ""


class AddDatasetVersion(Schema):
    """A version from an uploaded JSON lines file. The split's seed belongs to the dataset's identity: keep it over versions."""

    source: Digest
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = DEFAULT_SPLIT.validation_fraction
    seed: Annotated[Integer, Field(ge=0, lt=2**53)] = DEFAULT_SPLIT.seed


class DatasetOut(Tagged):
    """A dataset."""

    project: str
    name: str
    description: str
    created_at: datetime
    row_version: int


class DatasetVersionOut(Tagged):
    """A sealed version: `digest` names source, split and both parts."""

    reference: str
    number: int
    digest: Digest
    source_digest: Digest
    train_digest: Digest
    validation_digest: Digest
    report: DatasetReport
    created_at: datetime


class DatasetVersionAccepted(Schema):
    """Either the sealed version of equal bytes that exists already, or the job that validates and seals a new one."""

    job_id: UUID | None
    version: DatasetVersionOut | None
