"""Tags: what people write on things, sealed or not. A tag lies beside its thing and is no part of it, so no digest ever covers one."""

import unicodedata
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, StringConstraints

from ringi.web.schemas import PRINTABLE, Schema

MAX_TAGS = 64


class Taggable(StrEnum):
    """What can carry tags; the words are those of the audit log."""

    PROJECT = "project"
    DATASET = "dataset"
    DATASET_VERSION = "dataset_version"
    BASE_MODEL = "base_model"
    BASE_REVISION = "base_revision"
    ADAPTER = "adapter"
    ADAPTER_VERSION = "adapter_version"
    TRAINING_RUN = "training_run"
    EVALUATION = "evaluation"
    SUITE = "suite"
    SUITE_VERSION = "suite_version"
    APPROVAL_REQUEST = "approval_request"
    CHANNEL = "channel"
    RELEASE = "release"
    JOB = "job"


def _ordinary(key: str) -> str:
    if unicodedata.normalize("NFKC", key) != key:
        raise ValueError("a tag's key is written in ordinary width (Unicode NFKC): two keys must not look the same")
    return key


# Letters and digits of any script; no operator of a filter and no slash, so that a key can stand in both.
TagKey = Annotated[str, StringConstraints(pattern=r"^\w[\w.:-]{0,127}$"), AfterValidator(_ordinary)]
TagValue = Annotated[str, StringConstraints(max_length=500, pattern=PRINTABLE)]
# Key to value, as things show them.
Tags = dict[str, str]


class Tagged(Schema):
    """A thing that shows its tags."""

    id: UUID
    tags: Tags = {}  # noqa: RUF012  # Pydantic copies it for every instance


class SetTag(Schema):
    """The value that a key gets; an empty one makes a mere mark."""

    value: TagValue = ""


class TagOut(Schema):
    """One tag: who wrote it last, and when."""

    key: str
    value: str
    set_by: UUID
    set_at: datetime
    row_version: int


class TagsOut(Schema):
    """All tags of a thing, by key."""

    kind: Taggable
    object_id: UUID
    tags: list[TagOut]
