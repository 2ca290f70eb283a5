"""Uploads in and out."""

from typing import Annotated

from pydantic import Field, StringConstraints

from ringi.kit.digests import Digest
from ringi.web.schemas import Schema

# What a path may hold is decided by `paths.py`; here only its length is bounded.
FilePath = Annotated[str, StringConstraints(min_length=1, max_length=512)]


class UploadedFile(Schema):
    """A file of a folder that was uploaded before: its path in the folder and the digest that the upload answered."""

    path: FilePath
    digest: Digest


class UploadOut(Schema):
    """The stored bytes."""

    digest: Digest
    size: int = Field(ge=0)


Files = Annotated[list[UploadedFile], Field(min_length=1, max_length=500)]
