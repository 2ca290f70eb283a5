"""Rows for the tables that no request of the matrix needs, so that every table has some of each organisation."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import insert, select
from sqlalchemy.orm import Session, sessionmaker

from identity.matrix.world import World
from lists.world import digest
from ringi.approvals.models import ApprovalVote
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.base_models.models import BaseRevision
from ringi.compatibility.models import BaseComparison, CompatibilityAssessment
from ringi.datasets.models import DatasetPolicy
from ringi.events.models import DeliveryAttempt
from ringi.fleet.models import Worker
from ringi.identity.models import BrowserSession, LoginProof, Project, User
from ringi.kit.actor import Actor, ActorKind
from ringi.quotas.models import ProjectBytes, ProjectQuota
from ringi.retraining.models import RetrainingPolicy
from ringi.tags.models import Tag
from ringi.training.models import TrainingRun
from ringi.uploads.models import UploadPart
from ringi.web.models import KeptAnswer


def fill(sessions: sessionmaker[Session], world: World) -> None:
    """Add them; also to the other organisation of the world, as far as it has none of its own."""
    with sessions.begin() as session:
        values = {name: UUID(value) for name, value in world.values.items() if value in world.ids()}
        project = session.get_one(Project, values["project_id"])
        run = session.get_one(TrainingRun, values["run_id"])
        revision = session.get_one(BaseRevision, run.base_revision_id)
        voter = session.scalars(select(User).where(User.organization_id == project.organization_id, User.name == "reviewer")).one()
        world.values["organization_id"] = str(project.organization_id)
        assert run.version_id is not None
        for one in _of_project(values, project.id, version=run.version_id, revision=revision.id, voter=voter.id):
            session.add(one)
        session.add_all((
            Tag(
                organization_id=project.organization_id, project_id=project.id, object_type="adapter", object_id=values["object_id"], key="team",
                value="金融", set_by=voter.id,
            ),
            BaseComparison(
                organization_id=project.organization_id, old_revision_id=revision.id, new_revision_id=revision.id, facts={}, job_id=revision.job_id
            ),
            LoginProof(
                proof=uuid4().hex * 2, organization_id=project.organization_id, user_id=voter.id, expires_at=datetime.now(UTC) + timedelta(hours=1)
            ),
            BrowserSession(
                organization_id=project.organization_id, user_id=voter.id, secret_hash=uuid4().hex * 2, issuer="https://login.example.test", amr=[],
                ends_at=datetime.now(UTC) + timedelta(hours=1),
            ),
            DatasetPolicy(project_id=project.id, personal_data="report"),
            UploadPart(id=uuid4(), session_id=values["session_id"], start=0, size=1),
        ))  # fmt: skip
        session.execute(
            insert(KeptAnswer).values(
                user_id=voter.id, key="k", organization_id=project.organization_id, fingerprint=digest(), status=201, headers={}, body=b"{}"
            )
        )
        actor = Actor(ActorKind.USER, voter.id, "reviewer", project.organization_id)
        audit.record(
            session,
            actor,
            AuditAction.ADAPTER_VERSION_RETIRE,
            object_type="adapter_version",
            object_id=run.version_id,
            payload="古いので使わない",
        )
        if session.scalars(select(Worker).where(Worker.organization_id.is_(None))).first() is None:
            session.add(
                Worker(
                    name="for-all", owner="t/1", queues=["cpu"], device="cpu", device_name="cpu", engines=[], versions={}, heartbeat_s=5.0
                )
            )


def _of_project(values: dict[str, UUID], project: UUID, *, version: UUID, revision: UUID, voter: UUID) -> list[Any]:
    return [
        ProjectQuota(project_id=project, open_jobs=5),
        RetrainingPolicy(project_id=project, enabled=False, environment="production"),
        ProjectBytes(project_id=project, digest=digest(), size=1),
        ApprovalVote(
            project_id=project, request_id=values["request_id"], voter_id=voter, role="reviewer", stage="review", decision="approve",
            reason="品質が十分である", salt=b"0" * 32, manifest_digest=digest(), policy_digest=digest(), evidence_digest=digest(),
        ),
        CompatibilityAssessment(
            project_id=project, version_id=version, base_revision_id=revision, verdict="identical", action="keep", report={}, report_digest=digest()
        ),
        DeliveryAttempt(
            project_id=project, delivery_id=values["delivery_id"], number=1, outcome="delivered", started_at=datetime.now(UTC), duration_ms=1
        ),
    ]  # fmt: skip
