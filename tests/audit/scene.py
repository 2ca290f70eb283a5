"""An adapter's life without a worker: what workers bring is given to the services that take it, so every row has its entries."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session, sessionmaker

from lists.world import digest
from ringi.adapters.manifest import Manifest
from ringi.adapters.models import Adapter, AdapterVersion
from ringi.adapters.schemas import VersionSource, VersionState
from ringi.adapters.service import version_record
from ringi.approvals.schemas import ApprovalOut, VoteDecision
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.base_models.models import BaseModel, BaseRevision
from ringi.base_models.schemas import RevisionState
from ringi.datasets.models import Dataset, DatasetVersion
from ringi.evaluation.models import Evaluation
from ringi.identity.models import Project, User
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import FileRef, as_document
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.kit.actor import system_actor
from ringi.kit.digests import sha256_json
from ringi.storage.models import Blob
from support.running_platform import PROJECT, Platform
from support.story import published

ADAPTER, CHANNEL = "bot", "production"
_FACTS = {
    "peft_type": "LORA", "task_type": None, "rank": 8, "alpha": 16.0, "use_rslora": False, "use_dora": False, "target_modules": ["q_proj"],
    "adapted_modules": ["q_proj"], "unmatched_tensors": [], "unfilled_tensors": [], "replaced_tensors": [], "non_finite_tensors": [],
    "tensors": [], "parameters": 1000,
}  # fmt: skip
_EFFECT = {"prompts": 2, "probe_digest": digest(), "change": 0.5, "noise": None, "dtype": "float32"}


@dataclass
class Scene:
    """One organisation with a base, an adapter and its versions; each `sealed` one has an evaluation that speaks for it."""

    platform: Platform
    sessions: sessionmaker[Session]
    organization: UUID
    adapter: str = ADAPTER

    def sealed(self, count: int = 1, *, adapter: str | None = None) -> list[str]:
        """More versions; returns their ids."""
        return [self._version(adapter or self.adapter) for _ in range(count)]

    def adapter_named(self, name: str) -> str:
        """One more adapter."""
        self.platform.as_("contributor").adapters.create(PROJECT, name, base="tiny")
        return name

    def approved(self, version: str, *, adapter: str | None = None, environment: str = CHANNEL) -> ApprovalOut:
        """A request of the contributor's that the reviewer approves."""
        request = self.platform.as_("contributor").approvals.request(
            PROJECT, adapter or self.adapter, version, environment=environment, note="稟議をお願いします"
        )
        reason = "品質が十分に改善したため承認する"
        return self.platform.as_("reviewer").approvals.vote(PROJECT, request, decision=VoteDecision.APPROVE, reason=reason)

    def live(self, version: str, *, adapter: str | None = None) -> None:
        """Approved and released to production."""
        self.approved(version, adapter=adapter)
        published(self.platform, version, adapter or self.adapter, channel=CHANNEL)

    def close(self) -> None:
        """Give the connections back."""
        self.sessions.kw["bind"].dispose()

    def _version(self, adapter_name: str) -> str:
        with self.sessions.begin() as session:
            member, project = _whose(session, self.organization)
            adapter = session.scalars(select(Adapter).where(Adapter.project_id == project.id, Adapter.name == adapter_name)).one()
            revision = session.scalars(select(BaseRevision).where(BaseRevision.base_model_id == adapter.base_model_id)).one()
            numbers = session.scalars(select(AdapterVersion.number).where(AdapterVersion.adapter_id == adapter.id)).all()
            file = FileRef(path="adapter_model.safetensors", size=16, digest=digest())
            manifest = Manifest.of([file], base_name="bases/tiny", base_revision=1, base_digest=revision.digest)
            version = AdapterVersion(
                id=uuid4(), project_id=project.id, adapter_id=adapter.id, number=len(numbers) + 1, state=VersionState.SEALED,
                source=VersionSource.REGISTERED, manifest_digest=manifest.digest, manifest=manifest.canonical, files=[as_document(file)],
                base_revision_id=revision.id, facts=_FACTS, effect=_EFFECT, runtime={}, job_id=_job(session, JobKind.INSPECT, project, member).id,
                created_by=member.id,
            )  # fmt: skip
            version.audit_event_id = audit.record(
                session, system_actor("worker"), AuditAction.ADAPTER_VERSION_SEAL, object_type="adapter_version", object_id=version.id,
                object_digest=manifest.digest, project_id=project.id, organization_id=self.organization, record=version_record(version),
                details={"number": version.number},
            )  # fmt: skip
            session.add(version)
            session.flush()
            _evaluation(session, version, project, member)
            return str(version.id)


def _whose(session: Session, organization: UUID) -> tuple[User, Project]:
    project = session.scalars(select(Project).where(Project.organization_id == organization, Project.name == PROJECT)).one()
    return session.scalars(select(User).where(User.organization_id == organization, User.name == "admin")).one(), project


def _job(session: Session, kind: JobKind, project: Project, member: User) -> Job:
    job = Job(
        organization_id=project.organization_id, project_id=project.id, kind=kind, queue="cpu", subject="応答", state=JobState.SUCCEEDED, payload={},
        created_by=member.id,
    )  # fmt: skip
    session.add(job)
    session.flush()
    return job


def _evaluation(session: Session, version: AdapterVersion, project: Project, member: User) -> None:
    evaluation = Evaluation(
        id=uuid4(), project_id=project.id, version_id=version.id, base_revision_id=version.base_revision_id, baseline="base",
        dataset_version_id=_dataset(session, project, member), job_id=_job(session, JobKind.EVALUATE, project, member).id,
        evidence={"type": "evaluation", "records": digest(), "verdict": "better"}, summary={"verdict": "better"}, requested_by=member.id,
        completed_at=datetime.now(UTC),
    )  # fmt: skip
    evaluation.evidence_digest = sha256_json(evaluation.evidence)
    session.add(evaluation)
    audit.record(
        session, system_actor("worker"), AuditAction.EVALUATION_COMPLETE, object_type="evaluation", object_id=evaluation.id,
        object_digest=evaluation.evidence_digest, project_id=project.id, organization_id=project.organization_id, record=evaluation.evidence,
        details={"verdict": "better"},
    )  # fmt: skip


def _dataset(session: Session, project: Project, member: User) -> UUID:
    found = session.scalars(select(DatasetVersion.id).where(DatasetVersion.project_id == project.id)).first()
    if found is not None:
        return found
    dataset, parts = Dataset(project_id=project.id, name="faq", description="よくある質問"), [digest() for _ in range(3)]
    session.add(dataset)
    session.add_all(Blob(digest=part, size=1) for part in parts)
    session.flush()
    version = DatasetVersion(
        project_id=project.id, dataset_id=dataset.id, number=1, digest=digest(), source_digest=parts[0], split={"seed": 0}, train_digest=parts[1],
        train_size=1, validation_digest=parts[2], validation_size=1, report={}, created_by=member.id,
    )  # fmt: skip
    session.add(version)
    session.flush()
    for action, kind, thing in (
        (AuditAction.DATASET_CREATE, "dataset", dataset),
        (AuditAction.DATASET_VERSION_SEAL, "dataset_version", version),
    ):
        audit.record(
            session, system_actor("worker"), action, object_type=kind, object_id=thing.id, project_id=project.id,
            organization_id=project.organization_id,
        )  # fmt: skip
    return version.id


def _sealed_base(session: Session, organization: UUID) -> None:
    member, project = _whose(session, organization)
    base = BaseModel(organization_id=organization, name="tiny", description="")
    session.add(base)
    session.flush()
    audit.record(
        session,
        system_actor("worker"),
        AuditAction.BASE_MODEL_CREATE,
        object_type="base_model",
        object_id=base.id,
        organization_id=organization,
    )
    revision = BaseRevision(
        organization_id=organization, base_model_id=base.id, number=1, state=RevisionState.SEALED, digest=digest(), files=[],
        parts={"F1": "f1", "F2": "f2"}, facts=None, job_id=_job(session, JobKind.FINGERPRINT, project, member).id, created_by=member.id,
    )  # fmt: skip
    session.add(revision)
    session.flush()
    audit.record(
        session, system_actor("worker"), AuditAction.BASE_MODEL_REVISION_SEAL, object_type="base_revision", object_id=revision.id,
        object_digest=revision.digest, organization_id=organization, details={"f1": "f1", "f2": "f2"},
    )  # fmt: skip


def set_up(platform: Platform) -> Scene:
    """A sealed base, the adapter `bot` without versions, and the channel `production`."""
    engine = create_engine(platform.processes.urls.app_url)
    sessions = sessionmaker(engine, expire_on_commit=False)
    with sessions.begin() as session:
        organization = session.scalars(select(User.organization_id).where(User.id == platform.as_("admin").identity.whoami().id)).one()
        _sealed_base(session, organization)
    platform.as_("contributor").adapters.create(PROJECT, ADAPTER, base="tiny", description="応答の品質を上げる")
    platform.as_("deployer").releases.create_channel(PROJECT, CHANNEL, environment=CHANNEL)
    return Scene(platform, sessions, organization)
