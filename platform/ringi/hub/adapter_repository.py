"""An adapter as a hub repository `project/adapter`: `main` is what the channel serves, `v1`, `v2`, … and 40-hex commits are its versions."""

import re
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from sqlalchemy.orm import Session

from ringi.adapters import service as adapters
from ringi.adapters.models import Adapter, AdapterVersion, ChannelHead
from ringi.adapters.schemas import VersionState
from ringi.audit.schemas import AuditAction
from ringi.hub import access
from ringi.hub.access import Pull, Refusal, Served
from ringi.hub.answers import HubRefused, repository_not_found, revision_not_found
from ringi.hub.documents import Commit, Refs, Snapshot
from ringi.hub.paths import MAIN, Target
from ringi.identity import denials
from ringi.identity import service as identity
from ringi.identity.models import Project, User
from ringi.identity.permissions import Permission, visible
from ringi.jobs.contracts.parts import FileRef
from ringi.kit.actor import Actor, ActorKind
from ringi.kit.errors import NotFound
from ringi.releases import service as releases
from ringi.releases.models import Channel
from ringi.releases.standing import gates_of

_VERSION = re.compile(r"v[1-9][0-9]{0,8}|[0-9a-f]{40}")


class _Judged(NamedTuple):
    """A version (None when nothing is released) and the decision about it."""

    version: AdapterVersion | None
    decision: Served | Refusal


@dataclass(frozen=True)
class AdapterRepository:
    """An adapter on a channel of its project, for one caller."""

    session: Session
    actor: Actor
    project: Project
    channel: Channel
    adapter: Adapter

    def snapshot(self, revision: str) -> Snapshot:
        """The version that `revision` names, if it may be served; raises HubRefused, and a denial is audited."""
        version, decision = self._judge(self._named(revision), by_main=revision == MAIN)
        if isinstance(decision, Refusal):
            self._note(version, decision, revision)
            raise HubRefused(decision, noted=True)
        if version is None:
            raise revision_not_found(self.adapter.reference, revision)
        return self._snapshot(version, decision)

    def refs(self) -> Refs:
        """What this caller may pull now: `main` and the tags. Raises HubRefused when that is nothing."""
        main, refusal = self._judge(self._served(), by_main=True)
        query = visible(self.actor, AdapterVersion).where(AdapterVersion.adapter_id == self.adapter.id).options(*adapters.loads())
        versions = self.session.scalars(query.order_by(AdapterVersion.number)).all()
        served = [one for one in versions if isinstance(self._judge(one, by_main=False).decision, Served)]
        if isinstance(refusal, Refusal):
            if not served:
                self._note(main, refusal, MAIN)
                raise HubRefused(refusal, noted=True)
            main = None
        return Refs(main.commit if main else None, tuple((f"v{one.number}", one.commit) for one in served))

    def history(self, snapshot: Snapshot) -> list[Commit]:
        """The versions up to the one that is served, newest first; the withdrawn ones are named as such."""
        query = (
            visible(self.actor, AdapterVersion).where(AdapterVersion.adapter_id == self.adapter.id).order_by(AdapterVersion.number.desc())
        )
        versions = self.session.scalars(query).all()
        served = next(one for one in versions if one.id == snapshot.object_id)
        authors = {one.created_by for one in versions}
        names: dict[UUID, str] = {
            user.id: user.name for user in self.session.scalars(visible(self.actor, User).where(User.id.in_(authors)))
        }
        return [
            Commit(
                one.commit, f"v{one.number}" + ("" if one.state == VersionState.SEALED else f" ({one.state})"), one.manifest_digest, one.created_at,
                names.get(one.created_by, "ringi"),
            )
            for one in versions
            if one.number <= served.number
        ]  # fmt: skip

    def _served(self) -> AdapterVersion | None:
        heads = releases.heads(self.actor, self.channel).where(ChannelHead.adapter_id == self.adapter.id)
        head = self.session.scalars(heads).one_or_none()
        return head.version if head else None

    def _named(self, revision: str) -> AdapterVersion | None:
        if revision == MAIN:
            return self._served()
        if not _VERSION.fullmatch(revision):
            raise revision_not_found(self.adapter.reference, revision)
        try:
            return adapters.find_version(self.session, self.actor, adapter=self.adapter, selector=revision)
        except NotFound:
            raise revision_not_found(self.adapter.reference, revision) from None

    def _judge(self, version: AdapterVersion | None, *, by_main: bool) -> _Judged:
        gates = gates_of(self.session, version, environment=self.channel.environment).gates if version else []
        candidates = self.actor.kind is ActorKind.USER and self.actor.may(Permission.ADAPTER_PULL_CANDIDATE, self.project.id)
        pull = Pull(
            repository=self.adapter.reference, channel=self.channel.name, channel_environment=self.channel.environment,
            caller_environment=self.actor.environment, by_main=by_main, may_pull_candidates=candidates, gates={gate.code: gate for gate in gates},
        )  # fmt: skip
        return _Judged(version, access.decide(pull))

    def _snapshot(self, version: AdapterVersion, served: Served) -> Snapshot:
        base = version.base_revision.base_model.repository
        warning = None
        if version.state == VersionState.DEPRECATED:
            warning = f"{self.adapter.reference}:v{version.number} is deprecated" + (
                f": {version.state_reason}" if version.state_reason else "."
            )
        return Snapshot(
            repository=self.adapter.reference, commit=version.commit, files=tuple(FileRef.model_validate(file) for file in version.files),
            tags=("peft", "lora", f"base_model:{base}", f"base_model:adapter:{base}"), library="peft",
            architectures=tuple((version.base_revision.facts or {}).get("architectures", ())), created_at=version.created_at,
            object_type="adapter_version", object_id=version.id, digest=version.manifest_digest, project_id=self.project.id,
            candidate=served.candidate, warning=warning,
        )  # fmt: skip

    def _note(self, version: AdapterVersion | None, refusal: Refusal, revision: str) -> None:
        object_id, digest = (version.id, version.manifest_digest) if version else (self.adapter.id, None)
        project_id, channel = self.project.id, self.channel.name
        denials.note(
            self.session, self.actor, AuditAction.HUB_FILE_DOWNLOAD, object_type="adapter_version" if version else "adapter",
            object_id=object_id, object_digest=digest, project_id=project_id,
            details={"channel": channel, "revision": revision, "code": refusal.rule},
        )  # fmt: skip


def find(session: Session, actor: Actor, target: Target) -> AdapterRepository:
    """The adapter that `target` names; raises HubRefused as RepoNotFound for anything that is absent or not the caller's to see."""
    try:
        project = identity.find_project(session, actor, target.namespace)
        if not actor.may(Permission.RELEASE_PULL, project.id):
            raise repository_not_found(target.repository, target.channel)
        channel = releases.find_channel(session, actor, project=project, name=target.channel)
        adapter = adapters.find(session, actor, project=project, name=target.name)
    except NotFound:
        raise repository_not_found(target.repository, target.channel) from None
    return AdapterRepository(session, actor, project, channel, adapter)
