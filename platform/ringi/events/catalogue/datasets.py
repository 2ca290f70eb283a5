"""Events of datasets."""

from uuid import UUID

from pydantic import Field

from ringi.events.catalogue.data import EventData, JobId
from ringi.kit.digests import Digest


class DatasetCreated(EventData):
    """A dataset without versions was created."""

    NAME, TITLE = "dataset.created", "データセットが作成されました"
    dataset: str = Field(description="The dataset, as `project/name`.")
    dataset_id: UUID


class DatasetVersionSealed(EventData):
    """A dataset version passed validation; from now on it never changes."""

    NAME, TITLE = "dataset.version.sealed", "データセットの版が封印されました"
    version: str = Field(description="The version, as `project/name:v1`.")
    version_id: UUID
    digest: Digest
    job_id: JobId
