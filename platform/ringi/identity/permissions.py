"""Which role allows what, which roles exclude each other, and what a caller may see (governance E1). Deny by default."""

from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Select, false, select

from ringi.db.base import Base, OwnedByOrganization, OwnedByProject
from ringi.identity.models import Project
from ringi.identity.schemas import Role
from ringi.kit.actor import Actor, ActorKind

Model = TypeVar("Model", bound=Base)


class Permission(StrEnum):
    """One action on one kind of thing. No wildcards."""

    IDENTITY_MANAGE = "identity:manage"
    IDENTITY_READ = "identity:read"
    ORGANIZATION_READ = "organization:read"
    PROJECT_READ = "project:read"
    UPLOAD = "upload:store"
    STORAGE_READ = "storage:read"
    STORAGE_COLLECT = "storage:collect"
    BASE_REGISTER = "base_model:register"
    DATASET_WRITE = "dataset:write"
    ADAPTER_WRITE = "adapter:write"
    ADAPTER_PULL_CANDIDATE = "adapter:pull_candidate"
    VERSION_RETIRE = "version:retire"
    VERSION_REVOKE = "version:revoke"
    TRAINING_START = "training:start"
    EVALUATION_REQUEST = "evaluation:request"
    APPROVAL_REQUEST = "approval:request"
    APPROVAL_VOTE = "approval:vote"
    POLICY_WRITE = "policy:write"
    CHANNEL_CREATE = "channel:create"
    RELEASE_PUBLISH = "release:publish"
    RELEASE_PULL = "release:pull"
    JOB_CANCEL = "job:cancel"
    TAG_WRITE = "tag:write"
    QUOTA_SET = "quota:set"
    JOB_PRIORITIZE = "job:prioritize"
    WORKER_MANAGE = "worker:manage"
    FLEET_READ = "fleet:read"
    SUBSCRIPTION_MANAGE = "subscription:manage"
    AUDIT_READ = "audit:read"
    AUDIT_EXPORT = "audit:export"
    # No role has it: figures of the whole deployment are of every organisation at once.
    METRICS_READ = "metrics:read"


P = Permission
_READ = frozenset({P.ORGANIZATION_READ, P.PROJECT_READ, P.RELEASE_PULL})
_WORK = _READ | {P.UPLOAD, P.EVALUATION_REQUEST, P.JOB_CANCEL, P.TAG_WRITE}

PROJECT_ROLES: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _READ,
    Role.CONTRIBUTOR: _WORK
    | {
        P.DATASET_WRITE,
        P.ADAPTER_WRITE,
        P.ADAPTER_PULL_CANDIDATE,
        P.TRAINING_START,
        P.APPROVAL_REQUEST,
        P.VERSION_RETIRE,
    },
    Role.EVALUATOR: _WORK | {P.ADAPTER_PULL_CANDIDATE},
    Role.REVIEWER: _READ | {P.ADAPTER_PULL_CANDIDATE, P.APPROVAL_VOTE},
    Role.VALIDATOR: _READ | {P.ADAPTER_PULL_CANDIDATE, P.APPROVAL_VOTE, P.EVALUATION_REQUEST},
    Role.RISK_OWNER: _READ | {P.ADAPTER_PULL_CANDIDATE, P.APPROVAL_VOTE, P.VERSION_REVOKE},
    Role.SERVICE_OWNER: _WORK
    | {P.ADAPTER_PULL_CANDIDATE, P.APPROVAL_VOTE, P.BASE_REGISTER, P.VERSION_RETIRE, P.JOB_PRIORITIZE}
    | {P.SUBSCRIPTION_MANAGE},
    Role.DEPLOYER: _READ | {P.CHANNEL_CREATE, P.RELEASE_PUBLISH, P.VERSION_RETIRE, P.TAG_WRITE, P.SUBSCRIPTION_MANAGE},
    Role.INCIDENT_COMMANDER: _READ | {P.VERSION_REVOKE},
}
ORGANIZATION_ROLES: dict[Role, frozenset[Permission]] = {
    Role.POLICY_ADMIN: frozenset({P.ORGANIZATION_READ, P.PROJECT_READ, P.POLICY_WRITE}),
    Role.IDENTITY_ADMIN: frozenset({P.ORGANIZATION_READ, P.PROJECT_READ, P.IDENTITY_READ, P.IDENTITY_MANAGE}),
    Role.SYSTEM_ADMIN: frozenset(
        {P.ORGANIZATION_READ, P.PROJECT_READ, P.UPLOAD, P.BASE_REGISTER, P.JOB_CANCEL, P.JOB_PRIORITIZE, P.WORKER_MANAGE, P.FLEET_READ}
        | {P.TAG_WRITE, P.QUOTA_SET, P.STORAGE_READ, P.STORAGE_COLLECT, P.SUBSCRIPTION_MANAGE}
    ),
    Role.AUDITOR: frozenset({P.ORGANIZATION_READ, P.PROJECT_READ, P.IDENTITY_READ, P.AUDIT_READ, P.AUDIT_EXPORT}),
}

# What no service account does, whatever roles it was given: hand out roles and tokens (E2). That none votes is said where votes are counted.
FOR_PEOPLE = frozenset({P.IDENTITY_MANAGE})

# Who judges, releases, stops, administers or reads everything holds the role for a time (E1; AISVS 5.2.6): all but who only proposes work.
PRIVILEGED = frozenset(Role) - {Role.VIEWER, Role.CONTRIBUTOR, Role.EVALUATOR}
PRIVILEGED_MAX_DAYS = 365

_VOTING = frozenset({Role.REVIEWER, Role.VALIDATOR, Role.RISK_OWNER, Role.SERVICE_OWNER})
_READ_ONLY = frozenset({Role.AUDITOR, Role.VIEWER})


def exclusions(role: Role) -> frozenset[Role]:
    """Roles that one user may not hold together with `role` (E1): an auditor writes nothing, who hands out roles does not judge."""
    forbidden: set[Role] = set()
    if role is Role.AUDITOR:
        forbidden |= set(Role) - _READ_ONLY
    elif role not in _READ_ONLY:
        forbidden.add(Role.AUDITOR)
    if role is Role.IDENTITY_ADMIN:
        forbidden |= {Role.VALIDATOR, Role.RISK_OWNER}
    if role in {Role.VALIDATOR, Role.RISK_OWNER}:
        forbidden.add(Role.IDENTITY_ADMIN)
    if role is Role.SYSTEM_ADMIN:
        forbidden |= _VOTING
    if role in _VOTING:
        forbidden.add(Role.SYSTEM_ADMIN)
    if role is Role.POLICY_ADMIN:
        forbidden.add(Role.CONTRIBUTOR)
    if role is Role.CONTRIBUTOR:
        forbidden.add(Role.POLICY_ADMIN)
    return frozenset(forbidden)


def visible_projects(actor: Actor) -> Select[UUID]:
    """Ids of the projects that the caller may read."""
    query = select(Project.id)
    if actor.kind is ActorKind.SYSTEM:
        return query
    query = query.where(Project.organization_id == actor.organization_id)
    if P.PROJECT_READ in actor.organization_permissions:
        return query
    readable = [project for project, allowed in actor.project_permissions.items() if P.PROJECT_READ in allowed]
    return query.where(Project.id.in_(readable))


def visible(actor: Actor, model: type[Model]) -> Select[Model]:
    """The start of every read: only rows that the caller may see. A model without an owner is visible to the platform alone."""
    query = select(model)
    if actor.kind is ActorKind.SYSTEM:
        return query
    if model is Project:
        return query.where(Project.id.in_(visible_projects(actor)))
    if issubclass(model, OwnedByProject):
        return query.where(model.project_id.in_(visible_projects(actor)))
    if issubclass(model, OwnedByOrganization):
        return query.where(model.organization_id == actor.organization_id)
    return query.where(false())
