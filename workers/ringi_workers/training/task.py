"""The training job: payload -> workspace -> recipe -> export -> training.service.complete. The run itself is recipe.py."""

from importlib import metadata

from sqlalchemy.orm import Session

from ringi.compatibility import service as compatibility
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.training import TrainPayload, TrainResult
from ringi.jobs.models import Job
from ringi.training import service
from ringi.training.picture import loss_curve
from ringi_workers.adapters.inspect import measure
from ringi_workers.following import JobSink
from ringi_workers.runtime import job
from ringi_workers.tracking import mirror
from ringi_workers.training import recipe
from ringi_workers.training.earlier import Earlier
from ringi_workers.workspace import Workspace


def distributions() -> dict[str, str]:
    """Every distribution that this process could import, with its version: what would have to be installed to do the same again."""
    return {one.name: one.version for one in sorted(metadata.distributions(), key=lambda one: one.name.lower())}


def complete(session: Session, finished: Job, result: TrainResult) -> None:
    """Seal the version, and judge it at once against base revisions that are newer than the one it was trained on."""
    version = service.complete(session, finished, result)
    compatibility.assess_new_version(session, version.id, organization_id=finished.organization_id)


@job(JobKind.TRAIN, finish=complete, failed=service.failed)
def train(payload: TrainPayload, workspace: Workspace, sink: JobSink) -> TrainResult:
    """Train, export and measure; goes on from the job's last checkpoint when there is one."""
    sink.report(Progress(phase="fetching"))
    base, rows = workspace.base(payload.base), workspace.fetch(payload.rows)
    validation = None if payload.validation is None else workspace.fetch(payload.validation)
    earlier = None if payload.earlier is None else Earlier(workspace.fetch_tree(payload.earlier.files, name="earlier"), payload.stacked)
    sink.mirror = mirror(
        experiment=f"{workspace.job.organization_id}/{payload.adapter_name}", name=f"run {payload.run_id}",
        parameters={key: str(value) for key, value in payload.spec.model_dump().items() if value is not None},
        tags={"ringi.run": str(payload.run_id), "ringi.base": payload.base.digest, "ringi.rows": payload.rows, "ringi.attempt": str(workspace.job.attempt)},
        rows={"training": payload.rows} | ({} if payload.validation is None else {"validation": payload.validation}),
    )  # fmt: skip
    trained = recipe.train(
        payload.spec, base=base, rows=rows, out=workspace.out, sink=sink, checkpoints=workspace, base_name=payload.base.repository,
        base_commit=payload.base.commit, validation=validation, branched_at=payload.origin.step if payload.origin else None,
        prices=payload.prices, earlier=earlier,
    )  # fmt: skip
    sink.report(Progress(phase="measuring the effect"))
    measured = measure(trained.directory, base=base)
    sink.mirror.keep(trained.directory, {"loss.svg": loss_curve(trained.metrics, title=f"{payload.adapter_name}, run {payload.run_id}")})
    return TrainResult(
        files=workspace.upload_tree(trained.directory), facts=measured.facts, effect=measured.effect, metrics=trained.metrics, runtime=trained.runtime,
        mlflow_run_id=sink.mirror.run_id, libraries=distributions(),
    )  # fmt: skip
