"""Inspect an adapter that was trained elsewhere: the same facts, the same effect proof, the same sealing."""

from sqlalchemy.orm import Session

from ringi.adapters import service
from ringi.compatibility import service as compatibility
from ringi.jobs.contracts.adapters import InspectPayload, InspectResult
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.models import Job
from ringi_workers.adapters.inspect import inspect_adapter
from ringi_workers.following import JobSink
from ringi_workers.runtime import job
from ringi_workers.workspace import Workspace


def complete(session: Session, finished: Job, result: InspectResult) -> None:
    """Seal the version, and judge it at once against base revisions that are newer than the one it was trained on."""
    version = service.complete_inspection(session, finished, result)
    compatibility.assess_new_version(session, version.id, organization_id=finished.organization_id)


@job(JobKind.INSPECT, finish=complete, failed=service.note_refusal)
def inspect(payload: InspectPayload, workspace: Workspace, sink: JobSink) -> InspectResult:
    """Read, attach and measure the adapter; its config is rewritten canonically."""
    sink.report(Progress(phase="fetching"))
    base, folder = workspace.base(payload.base), workspace.fetch_tree(payload.files, name="adapter")
    sink.report(Progress(phase="measuring the effect"))
    inspected = inspect_adapter(folder, base=base, base_name=payload.base.repository, base_commit=payload.base.commit, out=workspace.out)
    return InspectResult(
        files=workspace.upload_tree(inspected.directory), facts=inspected.facts, effect=inspected.effect, runtime=inspected.runtime
    )
