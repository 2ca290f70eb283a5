"""Events of suites."""

from uuid import UUID

from pydantic import Field

from ringi.events.catalogue.data import EventData
from ringi.kit.digests import Digest


class SuiteCreated(EventData):
    """A suite without versions was created."""

    NAME, TITLE = "suite.created", "評価スイートが作成されました"
    suite: str = Field(description="The suite, as `project/name`.")
    suite_id: UUID


class SuiteVersionSealed(EventData):
    """A version of a suite was sealed; from now on it never changes."""

    NAME, TITLE = "suite.version.sealed", "評価スイートの版が封印されました"
    version: str = Field(description="The version, as `project/name:v1`.")
    version_id: UUID
    digest: Digest
