"""What a project wants of every new dataset version, at the least."""

from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.datasets.models import DatasetPolicy
from ringi.datasets.schemas import PERSONAL_ACTIONS, SetDatasetPolicy
from ringi.identity.models import Project
from ringi.jobs.contracts.datasets import PERSONAL_KINDS, Recipe
from ringi.kit.actor import Actor
from ringi.web.preconditions import Match


def of(session: Session, project_id: UUID, *, lock: bool = False) -> DatasetPolicy | None:
    """The project's policy; `lock` holds it until the end of the transaction."""
    # unscoped: the caller has been let into the project already.
    query = select(DatasetPolicy).where(DatasetPolicy.project_id == project_id)
    return session.scalars(query.with_for_update() if lock else query).one_or_none()


def at_least(session: Session, project_id: UUID, recipe: Recipe) -> Recipe:
    """The recipe with personal data treated as the project wants it, or as the request does where that is more.

    Where the policy is more than the request, it is looked for in every kind: a request cannot leave out the one that matters.
    """
    policy = of(session, project_id)
    if policy is None:
        return recipe
    wanted = next(action for action in PERSONAL_ACTIONS if action == policy.personal_data)
    if wanted in {"ignore", "report"}:
        more = PERSONAL_ACTIONS.index(wanted) > PERSONAL_ACTIONS.index(recipe.personal_data)
        return recipe.model_copy(update={"personal_data": wanted}) if more else recipe
    action = max(wanted, recipe.personal_data, key=PERSONAL_ACTIONS.index)
    return recipe.model_copy(update={"personal_data": action, "personal_kinds": PERSONAL_KINDS})


def set_policy(session: Session, actor: Actor, *, project: Project, wanted: SetDatasetPolicy, match: Match) -> DatasetPolicy:
    """Replace the policy; it holds for versions that are added from now on. Raises PreconditionFailed."""
    # unscoped: the caller has been let into the project already. Its row is the lock: the first policy has none of its own.
    session.execute(select(Project.id).where(Project.id == project.id).with_for_update(key_share=True))
    policy = of(session, project.id, lock=True)
    match.require(policy.row_version if policy else 0)
    if policy is None:
        policy = DatasetPolicy(project_id=project.id, personal_data=wanted.personal_data)
        session.add(policy)
    policy.personal_data = wanted.personal_data
    session.flush()  # the answer has its row_version
    details = {"personal_data": wanted.personal_data}
    audit.record(
        session, actor, AuditAction.DATASET_POLICY_SET, object_type="project", object_id=project.id, project_id=project.id, details=details
    )
    return policy
