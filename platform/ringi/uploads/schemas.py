"""Uploads in and out."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from ringi.kit.digests import Digest
from ringi.web.schemas import Integer, Schema

# What a path may hold is decided by `paths.py`; here only its length is bounded.
FilePath = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class UploadedFile(Schema):
    """A file of a folder that was uploaded before: its path in the folder and the digest that the upload answered."""

    path: FilePath
    digest: Digest


class UploadOut(Schema):
    """The stored bytes."""

    digest: Digest
    size: Integer = Field(ge=0)


class UploadState(StrEnum):
    """open -> stored; open -> ended when it was given up, expired, or its bytes were not those that it announced."""

    OPEN = "open"
    STORED = "stored"
    ENDED = "ended"


class OpenUpload(Schema):
    """What is going to be sent, in bytes and by digest."""

    size: Integer = Field(ge=0, lt=2**63)
    digest: Digest


class UploadSessionOut(Schema):
    """An upload in parts. `offset`: so many bytes are kept; the next part begins there."""

    id: UUID
    digest: Digest
    size: int
    offset: int
    state: UploadState
    created_at: datetime
    expires_at: datetime


Files = Annotated[list[UploadedFile], Field(min_length=1, max_length=500)]
