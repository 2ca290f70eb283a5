"""Ask for a search, and see how it stands. The rule is halving.py, what workers bring is delivery.py, the work workers/…/training/search.py."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from ringi.adapters.models import Adapter
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.base_models import service as base_models
from ringi.base_models.models import BaseRevision
from ringi.datasets.models import DatasetVersion
from ringi.events.catalogue import work as work_events
from ringi.events.emission import emit
from ringi.identity.models import Project
from ringi.jobs import service as jobs
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import as_document
from ringi.jobs.contracts.searches import HalvingRule, PlannedTrial, SearchPayload
from ringi.jobs.contracts.training import Gravity, LoraSpec
from ringi.jobs.models import Job
from ringi.jobs.service import AlreadyRunning
from ringi.kit.actor import Actor
from ringi.kit.errors import Conflict, NotFound
from ringi.kit.ids import uuid7
from ringi.preflight import service as preflight
from ringi.preflight.service import RunRefused
from ringi.searches.halving import Recommended, Trial, ladder, recommend
from ringi.searches.models import SearchTrial
from ringi.searches.schemas import RequestSearch, TrialState
from ringi.settings import get_settings
from ringi.training.workload import workload_of

# Each trial outlives so many workers beside the first.
_ATTEMPTS = 4


class SearchInProgress(Conflict):
    """One open search per adapter: two would train the same trials twice."""

    code = "search_in_progress"

    def __init__(self, adapter: Adapter) -> None:
        super().__init__(
            f"Adapter {adapter.reference} already has an open search.", next_step="Cancel it, or wait for it to end: ringi searches list."
        )


def request(
    session: Session, actor: Actor, *, adapter: Adapter, dataset: DatasetVersion, base_revision: BaseRevision, body: RequestSearch
) -> Job:
    """A job with a trial for each pair, in one transaction. Raises SearchInProgress, RunRefused, QuotaExceeded."""
    name = f"{adapter.project.name}/{dataset.dataset.name}:v{dataset.number}"
    specs = body.specs()
    # The largest rank needs the most memory; the rest of the plan is the same in all.
    device = body.placement.device if body.placement else None
    largest = preflight.Planned(base_revision, dataset, workload_of(specs[-1]), device, patterns=specs[-1].patterns)
    found = preflight.findings(session, actor, largest)
    if get_settings().preflight_refuses and any(one.gravity is Gravity.REFUSE for one in found):
        raise RunRefused(found)
    trials = [PlannedTrial(trial_id=uuid7(), spec=spec) for spec in specs]
    rule = HalvingRule(reduction=body.reduction, first_steps=body.first_steps, tie=body.tie)
    payload = SearchPayload(
        adapter_name=adapter.reference, dataset=name, base=base_models.reference(base_revision), rows=dataset.train_digest,
        validation=dataset.validation_digest, trials=tuple(trials), rule=rule, preflight=tuple(found),
    )  # fmt: skip
    try:
        job = jobs.enqueue(
            session, actor, JobKind.SEARCH_RANK, payload, subject=f"adapter {adapter.reference}, {len(trials)} trials", project_id=adapter.project_id,
            exclusive_key=f"search:{adapter.id}", wish=body.placement,
        )  # fmt: skip
    except AlreadyRunning as error:
        raise SearchInProgress(adapter) from error
    job.max_attempts = _ATTEMPTS + len(trials)
    session.add_all(
        SearchTrial(id=one.trial_id, project_id=adapter.project_id, job_id=job.id, place=place, spec=as_document(one.spec))
        for place, one in enumerate(trials)
    )
    session.flush()  # the trials must be findable in the answer
    audit.record(
        session, actor, AuditAction.SEARCH_REQUEST, object_type="job", object_id=job.id, project_id=adapter.project_id,
        details={"adapter": str(adapter.id), "dataset": dataset.digest, "base": base_revision.digest, "trials": len(trials)},
    )  # fmt: skip
    told = work_events.SearchRequested(job_id=job.id, adapter=adapter.reference, dataset_digest=dataset.digest, trials=len(trials))
    emit(session, told, project_id=adapter.project_id)
    return job


def listed(actor: Actor, *, project: Project) -> Select[Job]:
    """The project's searches that the caller may see."""
    return jobs.listed(actor).where(Job.kind == JobKind.SEARCH_RANK, Job.project_id == project.id)


def find(session: Session, actor: Actor, *, project: Project, job_id: UUID) -> Job:
    """The parent of a search."""
    found = session.scalars(listed(actor, project=project).where(Job.id == job_id)).unique().one_or_none()
    if found is None:
        raise NotFound("search", job_id)
    return found


def trials_of(session: Session, found: Sequence[Job]) -> dict[UUID, list[SearchTrial]]:
    """The children of these searches in their order."""
    # unscoped: the caller holds the jobs already.
    query = select(SearchTrial).where(SearchTrial.job_id.in_([job.id for job in found])).order_by(SearchTrial.place)
    trials: dict[UUID, list[SearchTrial]] = {job.id: [] for job in found}
    for one in session.scalars(query):
        trials[one.job_id].append(one)
    return trials


def as_trial(one: SearchTrial) -> Trial:
    """The row as the rule sees it."""
    spec = LoraSpec.model_validate(one.spec)
    losses = {int(found["step"]): float(found["validation_loss"]) for found in one.comparisons}
    return Trial(one.id, one.place, spec.adapter_rank, spec.learning_rate, losses, out=one.state == TrialState.FAILED)


def steps_of(trials: Sequence[SearchTrial], rule: HalvingRule, *, steps: int | None = None) -> tuple[int, ...]:
    """The steps after which these are compared; none while nobody knows how long a run is."""
    whole = steps or next((one.steps for one in trials if one.steps is not None), None)
    if whole is None:
        return ()
    unit = LoraSpec.model_validate(trials[0].spec).checkpoint_every
    return ladder(whole, len(trials), reduction=rule.reduction, first_steps=rule.first_steps, unit=unit)


def recommended(trials: Sequence[SearchTrial], rule: HalvingRule) -> Recommended | None:
    """What to train; None before the end of the search, and where nothing came of it."""
    steps = steps_of(trials, rule)
    return recommend([as_trial(one) for one in trials], steps, reduction=rule.reduction, tie=rule.tie) if steps else None
