"""Where an imported version came from: as the other system told it, kept for ever. Nothing here is acted upon."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, FiniteFloat, StringConstraints

from ringi.kit.digests import Digest
from ringi.web.schemas import PRINTABLE, Integer, Schema, Text

# MLflow's own limit of a model's name is 256 characters; together the four names stay below the width of an index entry (2,704 bytes).
ExternalName = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=PRINTABLE)]
SourceName = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=PRINTABLE)]
ExternalVersion = Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=r"^[\x21-\x7e]+$")]
System = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,15}$")]
WebAddress = Annotated[str, StringConstraints(max_length=1000, pattern=r"^https?://[\x21-\x7e]+$")]

Key = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=PRINTABLE)]
# MLflow's own limits are 100,000 characters of a version's tag, 8,000 of a run's, 6,000 of a parameter, 5,000 of a description.
Value = Annotated[str, StringConstraints(max_length=100_000, pattern=r"^[^\x00]*$")]
Description = Annotated[str, StringConstraints(max_length=10_000, pattern=PRINTABLE)]
# A metric that diverged is told as it was found; JSON has no number for it.
Metric = FiniteFloat | Literal["NaN", "Infinity", "-Infinity"]
MAX_KEYS = 2000


class SourceFile(Schema):
    """A file as it lay in the other system, before anything was changed in it."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    size: Integer = Field(ge=0)
    digest: Digest


class Facts(Schema):
    """What the other system said about the version. `metrics` are the last values; `base` is the name that its own config gave."""

    description: Description = ""
    base: Text | None = None
    base_revision: Text | None = None
    tags: dict[Key, Value] = Field(default_factory=dict, max_length=MAX_KEYS)
    model_tags: dict[Key, Value] = Field(default_factory=dict, max_length=MAX_KEYS)
    aliases: list[Key] = Field(default_factory=list, max_length=MAX_KEYS)
    stage: Key | None = None
    run_name: Text | None = None
    run_tags: dict[Key, Value] = Field(default_factory=dict, max_length=MAX_KEYS)
    metrics: dict[Key, Metric] = Field(default_factory=dict, max_length=MAX_KEYS)
    parameters: dict[Key, Value] = Field(default_factory=dict, max_length=MAX_KEYS)
    created_at: datetime | None = None
    files: list[SourceFile] = Field(default_factory=list, max_length=500)


class RecordOrigin(Schema):
    """An origin: `source` is the address or label of the system, `name` and `version` are the system's own."""

    system: System
    source: SourceName
    name: ExternalName
    version: ExternalVersion
    run_id: Key | None = None
    run_url: WebAddress | None = None
    facts: Facts = Field(default_factory=Facts)


class OriginOut(RecordOrigin):
    """A recorded origin; `reference` is the version here, `imported_by` the user who said so."""

    id: UUID
    reference: str
    digest: Digest
    imported_by: UUID
    imported_at: datetime
