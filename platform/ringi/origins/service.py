"""Record where a version came from, once. The same record again changes nothing; another one about the same thing is refused."""

from typing import Any

from sqlalchemy import Select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, joinedload

from ringi.adapters.models import Adapter, AdapterVersion
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.identity.permissions import visible
from ringi.kit.actor import Actor
from ringi.kit.digests import sha256_json
from ringi.kit.errors import Conflict
from ringi.kit.ids import uuid7
from ringi.origins.models import VersionOrigin
from ringi.origins.record import document_of
from ringi.origins.schemas import RecordOrigin


class OriginDiffers(Conflict):
    """What was recorded about this thing of the other system says something else. Origins are never changed."""

    code = "origin_differs"

    def __init__(self, existing: VersionOrigin, *, here: str, fields: list[str]) -> None:
        super().__init__(
            f"{existing.system} '{existing.name}' version {existing.version} is already recorded as the origin of {here}, "
            f"with another {', '.join(fields)}.",
            next_step="Read the recorded origin: ringi adapters origins REF. What was found at the first import stays.",
            details={"version": here, "differs": fields},
        )


def loaded(query: Select[VersionOrigin]) -> Select[VersionOrigin]:
    """With what rendering an origin needs."""
    return query.options(joinedload(VersionOrigin.adapter_version).joinedload(AdapterVersion.adapter).joinedload(Adapter.project))


def record(session: Session, actor: Actor, *, version: AdapterVersion, origin: RecordOrigin) -> VersionOrigin:
    """Keep `origin` beside a version. Raises OriginDiffers, OriginTooLarge."""
    document = document_of(origin)
    digest = sha256_json(document)
    new = session.scalar(
        insert(VersionOrigin)
        .values(
            id=uuid7(), project_id=version.project_id, version_id=version.id, **{key: document[key] for key in _COLUMNS}, digest=digest,
            imported_by=actor.id,
        )
        .on_conflict_do_nothing()
        .returning(VersionOrigin.id)
    )  # fmt: skip
    kept = session.scalars(loaded(_same(actor, version, origin))).one()
    if new is None:
        return _unchanged(kept, version, document)
    audit.record(
        session, actor, AuditAction.ADAPTER_VERSION_ORIGIN, object_type="adapter_version_origin", object_id=kept.id, object_digest=version.manifest_digest,
        project_id=version.project_id, record=origin_record(kept), details={"version": str(version.id), "system": origin.system},
    )  # fmt: skip
    return kept


_COLUMNS = ("system", "source", "name", "version", "run_id", "run_url", "facts")


def _same(actor: Actor, version: AdapterVersion, origin: RecordOrigin) -> Select[VersionOrigin]:
    return visible(actor, VersionOrigin).where(
        VersionOrigin.project_id == version.project_id, VersionOrigin.system == origin.system, VersionOrigin.source == origin.source,
        VersionOrigin.name == origin.name, VersionOrigin.version == origin.version,
    )  # fmt: skip


def _unchanged(kept: VersionOrigin, version: AdapterVersion, document: dict[str, Any]) -> VersionOrigin:
    differs = ["version here"] if kept.version_id != version.id else []
    differs += [key for key in ("run_id", "run_url") if getattr(kept, key) != document[key]]
    differs += [f"facts.{key}" for key, value in document["facts"].items() if kept.facts.get(key) != value]
    if differs:
        of = kept.adapter_version
        raise OriginDiffers(kept, here=f"{of.adapter.reference}:v{of.number}", fields=differs)
    return kept


def origin_record(origin: VersionOrigin) -> dict[str, Any]:
    """What the audit log vouches for: the whole of what was told is in its digest."""
    return {
        "id": str(origin.id), "version": str(origin.version_id), "system": origin.system, "source": origin.source, "name": origin.name,
        "external_version": origin.version, "digest": origin.digest, "imported_by": str(origin.imported_by),
    }  # fmt: skip


def origins_of(actor: Actor, version: AdapterVersion) -> Select[VersionOrigin]:
    """Every origin of a version."""
    return loaded(visible(actor, VersionOrigin).where(VersionOrigin.version_id == version.id))
