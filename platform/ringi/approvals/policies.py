"""Which policy holds: the newest of the environment, else the newest of the project, else the starting policy, written down on first use."""

from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ringi.approvals.models import ApprovalPolicy
from ringi.approvals.policy import STARTING_POLICY, PolicyDocument
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.db.session import transaction
from ringi.events.catalogue import approvals as approvals_events
from ringi.events.emission import emit
from ringi.identity.models import Project
from ringi.kit.actor import Actor, system_actor
from ringi.kit.digests import sha256_json


def current(session: Session, project_id: UUID, *, environment: str) -> ApprovalPolicy:
    """The policy that decides in `environment` now."""
    for place in (environment, None):
        if (policy := _newest(session, project_id, place)) is not None:
            return policy
    return create(session, system_actor("platform"), project_id=project_id, environment=None, document=STARTING_POLICY, only_if_none=True)


def shown(session: Session, project_id: UUID, *, environment: str) -> ApprovalPolicy:
    """The same for a request that only reads: the policy that a project starts with is written in a transaction of its own."""
    if _newest(session, project_id, environment) is None and _newest(session, project_id, None) is None:
        with transaction() as own:
            current(own, project_id, environment=environment)
    return current(session, project_id, environment=environment)


def _newest(session: Session, project_id: UUID, environment: str | None) -> ApprovalPolicy | None:
    # unscoped: the caller has been let into the project already.
    query = select(ApprovalPolicy).where(
        ApprovalPolicy.project_id == project_id, ApprovalPolicy.environment.is_not_distinct_from(environment)
    )
    return session.scalars(query.order_by(ApprovalPolicy.number.desc()).limit(1)).one_or_none()


def count(session: Session, project_id: UUID, *, lock: bool = False) -> int:
    """How many policy versions the project has, in all its environments: grows with every change. `lock`: and nobody adds one meanwhile."""
    if lock:
        # unscoped: the caller has been let into the project already.
        session.execute(select(Project.id).where(Project.id == project_id).with_for_update(key_share=True))
    # unscoped: as above.
    return session.scalar(select(func.count(ApprovalPolicy.id)).where(ApprovalPolicy.project_id == project_id)) or 0


def create(
    session: Session, actor: Actor, *, project_id: UUID, environment: str | None, document: PolicyDocument, only_if_none: bool = False
) -> ApprovalPolicy:
    """A new policy version. It holds for new requests; open ones go stale at their next vote."""
    # unscoped: the caller has been let into the project already. Its row is the lock: policy numbers are given one at a time.
    organization_id = session.scalars(select(Project.organization_id).where(Project.id == project_id).with_for_update(key_share=True)).one()
    newest = _newest(session, project_id, environment)
    if newest is not None and only_if_none:
        return newest
    number = session.scalar(
        select(func.coalesce(func.max(ApprovalPolicy.number), 0)).where(
            ApprovalPolicy.project_id == project_id, ApprovalPolicy.environment.is_not_distinct_from(environment)
        )
    )
    content = document.model_dump(mode="json")
    policy = ApprovalPolicy(
        project_id=project_id,
        environment=environment,
        number=(number or 0) + 1,
        digest=sha256_json(content),
        document=content,
        created_by=actor.id,
    )
    session.add(policy)
    session.flush()  # policy.id goes into the audit event
    audit.record(
        session, actor, AuditAction.POLICY_CREATE, object_type="approval_policy", object_id=policy.id, object_digest=policy.digest,
        project_id=project_id, organization_id=organization_id, record=content, details={"number": policy.number, "environment": environment},
    )  # fmt: skip
    told = approvals_events.ApprovalPolicySet(policy_id=policy.id, number=policy.number, digest=policy.digest, environment=environment)
    emit(session, told, project_id=project_id)
    return policy
