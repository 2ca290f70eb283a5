"""An organisation with adapters on a channel, made by models and services: what the hub's tests pull from.

`HubWorld.adapter("name", versions=2)` gives each test an adapter of its own, so that tests that revoke or move a channel disturb nobody.
"""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
from safetensors.numpy import save
from sqlalchemy import create_engine, select, update
from sqlalchemy.orm import Session, sessionmaker

from ringi.adapters import lifecycle
from ringi.adapters import service as adapters
from ringi.adapters.manifest import Manifest
from ringi.adapters.models import Adapter, AdapterVersion, ChannelHead
from ringi.adapters.schemas import VersionSource, VersionState
from ringi.approvals.models import ApprovalGrant, ApprovalPolicy, ApprovalRequest
from ringi.approvals.schemas import RequestState
from ringi.audit import service as audit
from ringi.audit.models import AuditEvent
from ringi.audit.schemas import AuditAction, Event
from ringi.base_models.models import BaseModel, BaseRevision
from ringi.base_models.schemas import RevisionState
from ringi.base_models.service import tree_digest
from ringi.identity import service as identity
from ringi.identity.authentication import authenticate
from ringi.identity.models import Organization, User
from ringi.identity.schemas import Role, UserKind
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import FileRef, as_document
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.kit.actor import Actor, ActorKind, system_actor
from ringi.kit.ids import uuid7
from ringi.releases.models import Channel
from ringi.storage import blobs
from ringi.storage.local import LocalBlobStore
from support.postgres import DatabaseUrls

PARTS = {"F1": "bfp-f1:" + "1" * 64, "F2": "bfp-f2:" + "2" * 64}
DIGEST = "sha256:" + "0" * 64


@dataclass
class HubWorld:
    """Project `demo` with channels `production` and `staging` (each of the environment of its name), project `other` with `production`."""

    sessions: sessionmaker[Session]
    # The owner's: the application itself may not change a grant.
    owner: sessionmaker[Session]
    store: LocalBlobStore
    organization: UUID = field(default_factory=uuid7)
    projects: dict[str, UUID] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    admin: Actor = field(default_factory=lambda: system_actor("world"))
    base: UUID = field(default_factory=uuid7)
    revision: UUID = field(default_factory=uuid7)

    def token(self, session: Session, user: str, *, name: str | None = None, environment: str | None = None, days: int = 30) -> str:
        """A token of `user`, kept under `name`."""
        found = identity.find_user(session, self.admin, user)
        secret, _ = identity.issue_token(session, self.admin, user=found, name=name or user, days=days, environment=environment)
        self.tokens[name or user] = secret
        return secret

    def put(self, files: dict[str, bytes]) -> tuple[FileRef, ...]:
        """Store the files' bytes."""
        stored = {path: blobs.put(self.store, [content]) for path, content in files.items()}
        return tuple(FileRef(path=path, size=one.size, digest=one.digest) for path, one in sorted(stored.items()))

    def job(self, session: Session, kind: JobKind) -> Job:
        """A finished job, for rows that must name one."""
        job = Job(
            organization_id=self.organization,
            kind=kind,
            queue="cpu",
            subject="made for a test",
            state=JobState.SUCCEEDED,
            payload={},
            created_by=self.admin.id,
        )
        session.add(job)
        session.flush()
        return job

    def base_revision(
        self, session: Session, files: dict[str, bytes], *, base: UUID | None = None, state: RevisionState = RevisionState.SEALED
    ) -> BaseRevision:
        """The next revision of a base model."""
        refs, owner = self.put(files), base or self.base
        number = len(session.scalars(select(BaseRevision.id).where(BaseRevision.base_model_id == owner)).all()) + 1
        revision = BaseRevision(
            organization_id=self.organization, base_model_id=owner, number=number, state=state, digest=tree_digest(refs),
            files=[as_document(ref) for ref in refs], parts=dict(PARTS), facts={"architectures": ["LlamaForCausalLM"]},
            job_id=self.job(session, JobKind.FINGERPRINT).id, created_by=self.admin.id,
        )  # fmt: skip
        session.add(revision)
        session.flush()
        return revision

    def adapter(self, name: str, *, versions: int = 1, project: str = "demo", approved: tuple[str, ...] = ("production",)) -> list[str]:
        """An adapter with sealed versions, approved for the environments; returns the versions' commits, v1 first."""
        with self.sessions.begin() as session:
            adapter = Adapter(project_id=self.projects[project], name=name, base_model_id=self.base, created_by=self.admin.id)
            session.add(adapter)
            session.flush()
            commits = []
            for number in range(1, versions + 1):
                version = self._version(session, adapter, number)
                commits.append(version.commit)
                for environment in approved:
                    self._grant(session, version, environment)
            return commits

    def _version(self, session: Session, adapter: Adapter, number: int) -> AdapterVersion:
        revision = session.get_one(BaseRevision, self.revision)
        rng = np.random.default_rng([number, *adapter.name.encode()])
        weights = {f"base_model.model.q_proj.lora_{side}.weight": rng.standard_normal((4, 8)).astype("float32") for side in "AB"}
        refs = self.put({
            "adapter_config.json": json.dumps({"peft_type": "LORA", "r": 4, "base_model_name_or_path": "bases/tiny"}).encode(),
            "adapter_model.safetensors": save(weights),
            "README.md": f"# {adapter.name} v{number}\n".encode(),
        })  # fmt: skip
        manifest = Manifest.of(refs, base_name="bases/tiny", base_revision=revision.number, base_digest=revision.digest)
        version = AdapterVersion(
            project_id=adapter.project_id, adapter_id=adapter.id, number=number, source=VersionSource.REGISTERED, manifest_digest=manifest.digest,
            manifest=manifest.canonical, files=[as_document(ref) for ref in refs], base_revision_id=self.revision, facts={}, effect={}, runtime={},
            job_id=self.job(session, JobKind.INSPECT).id, created_by=self.admin.id,
        )  # fmt: skip
        session.add(version)
        session.flush()
        return version

    def _grant(self, session: Session, version: AdapterVersion, environment: str) -> None:
        policy = session.scalars(select(ApprovalPolicy).where(ApprovalPolicy.project_id == version.project_id)).one_or_none()
        if policy is None:
            policy = ApprovalPolicy(project_id=version.project_id, number=1, digest=DIGEST, document={}, created_by=self.admin.id)
            session.add(policy)
            session.flush()
        now = datetime.now(UTC)
        request = ApprovalRequest(
            project_id=version.project_id, version_id=version.id, environment=environment, state=RequestState.APPROVED, policy_id=policy.id,
            manifest_digest=version.manifest_digest, policy_digest=DIGEST, evidence_digest=DIGEST, evidence=[], requester_id=self.admin.id,
            expires_at=now + timedelta(days=1),
        )  # fmt: skip
        session.add(request)
        session.flush()
        event = audit.record(
            session,
            self.admin,
            AuditAction.APPROVAL_GRANT,
            object_type="adapter_version",
            object_id=version.id,
            object_digest=version.manifest_digest,
        )
        session.add(
            ApprovalGrant(
                project_id=version.project_id, request_id=request.id, version_id=version.id, manifest_digest=version.manifest_digest, base_parts=dict(PARTS),
                environment=environment, evidence=[], policy_digest=DIGEST, valid_from=now, expires_at=now + timedelta(days=30), audit_event_id=event,
            )
        )  # fmt: skip

    @contextmanager
    def version(self, reference: str) -> Iterator[tuple[Session, AdapterVersion]]:
        """A version by `project/adapter:v1`, in a transaction."""
        repository, _, selector = reference.partition(":")
        project, _, name = repository.partition("/")
        with self.sessions.begin() as session:
            found = identity.find_project(session, self.admin, project)
            adapter = adapters.find(session, self.admin, project=found, name=name)
            yield session, adapters.find_version(session, self.admin, adapter=adapter, selector=selector)

    def release(self, reference: str, channel: str = "production") -> None:
        """Let the channel serve the version."""
        with self.version(reference) as (session, version):
            where = (ChannelHead.adapter_id == version.adapter_id, ChannelHead.channel == channel)
            head = session.scalars(select(ChannelHead).where(*where)).one_or_none()
            if head is None:
                session.add(
                    ChannelHead(
                        project_id=version.project_id, channel=channel, adapter_id=version.adapter_id, version_id=version.id, sequence=1
                    )
                )
            else:
                head.version_id, head.sequence = version.id, head.sequence + 1

    def move(self, reference: str, to: VersionState, reason: str) -> None:
        """Deprecate, retire or revoke a version."""
        with self.version(reference) as (session, version):
            lifecycle.advance(session, self.admin, version, to=to, reason=reason)

    def expire_grants(self, reference: str) -> None:
        """Let every grant of the version be over."""
        with self.version(reference) as (_, version), self.owner.begin() as owner:
            owner.execute(
                update(ApprovalGrant)
                .where(ApprovalGrant.version_id == version.id)
                .values(expires_at=datetime.now(UTC) - timedelta(seconds=1))
            )

    def files(self, reference: str) -> dict[str, str]:
        """Path to digest of a version's sealed manifest."""
        with self.version(reference) as (_, version):
            return {file["path"]: file["digest"] for file in version.files}

    def events(self, reference: str) -> list[Event]:
        """The hub's audit events about a version, oldest first."""
        with self.version(reference) as (session, version):
            return self.events_of(session, version.id)

    def events_of(self, session: Session, object_id: UUID) -> list[Event]:
        """The hub's audit events about an object, oldest first."""
        query = select(AuditEvent).where(AuditEvent.action == AuditAction.HUB_FILE_DOWNLOAD, AuditEvent.object_id == str(object_id))
        return [audit.read_event(row) for row in session.scalars(query.order_by(AuditEvent.id))]


def _people(world: HubWorld, session: Session) -> None:
    members = {
        "viewer": (Role.VIEWER, UserKind.HUMAN), "reviewer": (Role.REVIEWER, UserKind.HUMAN), "robot": (Role.CONTRIBUTOR, UserKind.SERVICE),
    }  # fmt: skip
    for name, (role, kind) in members.items():
        identity.create_user(session, world.admin, name=name, display_name=name, kind=kind)
        identity.grant_role(session, world.admin, user=name, role=role, project="demo", days=None)
        world.token(session, name)
    identity.create_user(session, world.admin, name="auditor", display_name="", kind=UserKind.HUMAN)
    identity.grant_role(session, world.admin, user="auditor", role=Role.AUDITOR, project=None, days=None)
    world.token(session, "auditor")
    world.token(session, "robot", name="robot-production", environment="production")
    world.token(session, "robot", name="robot-staging", environment="staging")
    world.token(session, "viewer", name="expired", days=-1)
    secret = world.token(session, "viewer", name="revoked")
    token = authenticate(session, secret).token_id
    assert token is not None
    identity.revoke_token(session, world.admin, token_id=token)


def hub_world(urls: DatabaseUrls, blobs_dir: Path) -> HubWorld:
    """A new world in a migrated, empty database; its blobs in `blobs_dir`."""
    application, owner = (sessionmaker(create_engine(url)) for url in (urls.app_url, urls.owner_url))
    world = HubWorld(application, owner, LocalBlobStore(blobs_dir))
    with world.sessions.begin() as session:
        name = f"org-{secrets.token_hex(4)}"
        session.add(Organization(id=world.organization, name=name, display_name=""))
        session.flush()
        admin = User(organization_id=world.organization, name="admin", kind=UserKind.HUMAN)
        session.add(admin)
        session.flush()
        permissions = frozenset({"project:read", "organization:read", "identity:read", "identity:manage"})
        world.admin = Actor(ActorKind.USER, admin.id, "admin", world.organization, organization_permissions=permissions)
        for project in ("demo", "other"):
            world.projects[project] = identity.create_project(session, world.admin, name=project, display_name="").id
        channels = [("demo", "production"), ("demo", "staging"), ("other", "production")]
        session.add_all([Channel(project_id=world.projects[project], name=name, environment=name) for project, name in channels])
        session.add(BaseModel(id=world.base, organization_id=world.organization, name="tiny"))
        session.flush()
        _people(world, session)
        config = json.dumps({"model_type": "llama", "hidden_size": 8}).encode()
        weights = save({"model.embed_tokens.weight": np.ones((4, 8), dtype="float32")})
        first = world.base_revision(session, {"config.json": config, "model.safetensors": weights, "assets/more/vocab.txt": b"a\nb\n"})
        world.revision = first.id
    return world


def close(world: HubWorld) -> None:
    """End its connections."""
    for sessions in (world.sessions, world.owner):
        with sessions() as session:
            session.get_bind().engine.dispose()
