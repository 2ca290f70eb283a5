"""Base models in and out."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from ringi.jobs.contracts.base_models import BaseFacts
from ringi.jobs.contracts.parts import FileRef
from ringi.kit.digests import Digest
from ringi.tags.schemas import Tagged
from ringi.uploads.schemas import Files
from ringi.web.schemas import Name, Schema, Text


class RevisionState(StrEnum):
    """A revision is `pending` until its fingerprint parts are computed, then `sealed` for ever; `refused` when its files cannot be used."""

    PENDING = "pending"
    SEALED = "sealed"
    REFUSED = "refused"


class CreateBaseModel(Schema):
    """A base model of the organisation."""

    name: Name
    description: Text = ""


class RegisterRevision(Schema):
    """A revision from uploaded files (a Hugging Face folder)."""

    files: Files
    note: Text = ""


class BaseModelOut(Tagged):
    """A base model."""

    name: str
    repository: str
    description: str
    created_at: datetime
    row_version: int


class FingerprintParts(Schema):
    """The parts that exist. An id `bfp1:` needs all of F1 to F8 and is not issued before."""

    F1: str | None
    F2: str | None
    not_measured: list[str]


class RevisionOut(Tagged):
    """A revision; `commit` is the id under which the hub serves it."""

    reference: str
    number: int
    state: RevisionState
    digest: Digest
    commit: str
    fingerprint: FingerprintParts
    facts: BaseFacts | None
    files: list[FileRef]
    note: str
    job_id: UUID
    created_at: datetime
