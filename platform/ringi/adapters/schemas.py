"""Adapters and versions in and out."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from ringi.jobs.contracts.adapters import AdapterFacts, EffectFacts
from ringi.jobs.contracts.parts import FileRef
from ringi.kit.digests import Digest
from ringi.tags.schemas import Tagged
from ringi.uploads.schemas import Files
from ringi.web.schemas import Name, Reason, Schema, Selector, Text


class VersionState(StrEnum):
    """What an operator decided about a version; evaluated, approved and live are derived from other records."""

    SEALED = "sealed"
    DEPRECATED = "deprecated"
    RETIRED = "retired"
    REVOKED = "revoked"


class VersionSource(StrEnum):
    """Where the bytes came from."""

    TRAINED = "trained"
    REGISTERED = "registered"


class VersionKind(StrEnum):
    """What the files are: an adapter, which stands on a base, or all weights of a model, which has its base in itself."""

    ADAPTER = "adapter"
    FULL_WEIGHTS = "full_weights"


class CreateAdapter(Schema):
    """A named series of versions over one base model."""

    name: Name
    base: Name
    description: Text = ""


class RegisterVersion(Schema):
    """A PEFT folder trained elsewhere, from uploaded files, over a revision of the adapter's base (`r1`, `latest`)."""

    files: Files
    base_revision: Selector = "latest"


class ChangeState(Schema):
    """Deprecate, retire or revoke, with the reason."""

    reason: Reason


class AdapterOut(Tagged):
    """An adapter."""

    reference: str
    project: str
    name: str
    base: str
    description: str
    created_at: datetime
    row_version: int


class VersionOut(Tagged):
    """A sealed version; `commit` is the id under which the hub serves it. Full weights are compared with others and never served."""

    reference: str
    number: int
    kind: VersionKind
    state: VersionState
    state_reason: str | None
    source: VersionSource
    manifest_digest: Digest
    commit: str
    base: str
    base_revision: int
    files: list[FileRef]
    facts: AdapterFacts
    effect: EffectFacts
    created_by: UUID
    created_at: datetime
    row_version: int


class VersionAccepted(Schema):
    """The job that inspects and seals."""

    job_id: UUID


class ManifestOut(Schema):
    """The canonical manifest that the digest names."""

    manifest_digest: Digest
    manifest: dict[str, Any]
