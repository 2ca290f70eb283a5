"""A base model as a hub repository `bases/<name>`: `main` is the newest sealed revision, `r1`, `r2`, … and 40-hex commits are revisions."""

import re
from dataclasses import dataclass

from sqlalchemy import Select
from sqlalchemy.orm import Session

from ringi.audit.schemas import AuditAction
from ringi.base_models import service as base_models
from ringi.base_models.models import BaseModel, BaseRevision
from ringi.base_models.schemas import RevisionState
from ringi.hub.access import HubCode, Refusal, environment_refusal
from ringi.hub.answers import HubRefused, repository_not_found, revision_not_found
from ringi.hub.documents import Commit, Refs, Snapshot
from ringi.hub.paths import MAIN, Target
from ringi.identity import denials
from ringi.identity.models import User
from ringi.identity.permissions import Permission, visible
from ringi.jobs.contracts.parts import FileRef
from ringi.kit.actor import Actor
from ringi.kit.errors import NotFound
from ringi.releases.models import Channel

NAMESPACE = "bases"
_REVISION = re.compile(r"r[1-9][0-9]{0,8}|[0-9a-f]{40}")


@dataclass(frozen=True)
class BaseRepository:
    """A base model, for one caller. Every channel serves the same revisions of it."""

    session: Session
    actor: Actor
    base: BaseModel

    def snapshot(self, revision: str) -> Snapshot:
        """The sealed revision that `revision` names; raises HubRefused as RevisionNotFound."""
        if revision != MAIN and not _REVISION.fullmatch(revision):
            raise revision_not_found(self.base.repository, revision)
        try:
            found = base_models.find_revision(self.session, self.actor, base=self.base, selector="latest" if revision == MAIN else revision)
        except NotFound:
            raise revision_not_found(self.base.repository, revision) from None
        if found.state != RevisionState.SEALED:
            message = f"{self.base.repository}:r{found.number} is '{found.state}', not sealed."
            raise HubRefused(Refusal(404, HubCode.REVISION_NOT_FOUND, message, "hub_not_sealed"))
        return Snapshot(
            repository=self.base.repository, commit=found.commit, files=tuple(FileRef.model_validate(file) for file in found.files),
            tags=("transformers", "safetensors"), library="transformers", architectures=tuple((found.facts or {}).get("architectures", ())),
            created_at=found.created_at, object_type="base_revision", object_id=found.id, digest=found.digest, project_id=None,
        )  # fmt: skip

    def refs(self) -> Refs:
        """All sealed revisions; raises HubRefused when there is none."""
        found = self.session.scalars(self._sealed()).all()
        if not found:
            raise revision_not_found(self.base.repository, MAIN)
        return Refs(found[0].commit, tuple((f"r{one.number}", one.commit) for one in reversed(found)))

    def history(self, snapshot: Snapshot) -> list[Commit]:
        """The sealed revisions up to the one that is served, newest first."""
        found = self.session.scalars(self._sealed()).all()
        served = next(one for one in found if one.id == snapshot.object_id)
        authors = {one.created_by for one in found}
        names = {user.id: user.name for user in self.session.scalars(visible(self.actor, User).where(User.id.in_(authors)))}
        return [
            Commit(one.commit, f"r{one.number}", one.note or one.digest, one.created_at, names.get(one.created_by, "ringi"))
            for one in found
            if one.number <= served.number
        ]

    def _sealed(self) -> Select[BaseRevision]:
        query = visible(self.actor, BaseRevision).where(
            BaseRevision.base_model_id == self.base.id, BaseRevision.state == RevisionState.SEALED
        )
        return query.order_by(BaseRevision.number.desc())


def find(session: Session, actor: Actor, target: Target) -> BaseRepository:
    """The base model that `target` names, on a channel that the caller can see in some project; raises HubRefused."""
    readable = actor.may(Permission.ORGANIZATION_READ) or any(
        Permission.ORGANIZATION_READ in held for held in actor.project_permissions.values()
    )
    channels = session.scalars(visible(actor, Channel).where(Channel.name == target.channel)).all()
    if not readable or not channels:
        raise repository_not_found(target.repository, target.channel)
    try:
        base = base_models.find(session, actor, target.name)
    except NotFound:
        raise repository_not_found(target.repository, target.channel) from None
    refusal = environment_refusal(
        actor.environment, channel=target.channel, environments=frozenset(channel.environment for channel in channels)
    )
    if refusal is not None:
        base_id = base.id
        denials.note(
            session, actor, AuditAction.HUB_FILE_DOWNLOAD, object_type="base_model", object_id=base_id,
            details={"channel": target.channel, "code": refusal.rule},
        )  # fmt: skip
        raise HubRefused(refusal, noted=True)
    return BaseRepository(session, actor, base)
