"""Carry a plan out: download aside, name the base as it is here, register in the ordinary way, and record where it came from.

Killed at any moment it leaves nothing that a repetition would do twice: equal bytes are the version that exists, and a version counts as
in once its origin is recorded.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from ringi.adapters.files import CONFIG
from ringi.cli.client import RingiClient
from ringi.cli.connection import OnBytes
from ringi.cli.errors import AnswerNotUnderstood, ApiError, JobFailed, Unreachable
from ringi.cli.follow import follow, uploading
from ringi.cli.moving.plan import Outcome, Ready, Source, Step, Wanted, imported_from
from ringi.cli.moving.refusals import ArtifactIncomplete, SourceNotUnderstood, SourceRefused
from ringi.cli.references import parse_adapter, parse_version
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.schemas import OPEN, JobState
from ringi.kit.errors import RingiError

# Something between the two sides and nothing about the adapter: a repetition may end otherwise.
_PASSING = (SourceRefused, SourceNotUnderstood, ArtifactIncomplete, AnswerNotUnderstood)
_SERVER_FAILED, _BUSY = 500, 429
_DESCRIPTION_LIMIT = 2000


def carry_out(
    client: RingiClient, source: Source, wanted: Wanted, steps: Sequence[Step], tell: Callable[[str], None]
) -> Unreachable | None:
    """Move what is planned, one after the other, and write the outcome into the steps.

    What a side refuses ends that version only; what fails in passing holds back the later versions of the same name, so that their order
    is kept; a side that cannot be reached ends the whole and is returned.
    """
    held: set[str] = set()
    planned = sum(step.ready is not None for step in steps)
    number = 0
    for position, step in enumerate(steps):
        line, ready = step.line, step.ready
        if line.outcome is Outcome.FAILED:
            held.add(line.name)  # it could not even be looked at
        if ready is None:
            continue
        number += 1
        if line.name in held:
            step.end(Outcome.NOT_TRIED, reason="An earlier version of it failed, and versions come in their order.")
            continue
        what = f"{line.name} {line.version}"
        tell(f"{what} → {line.adapter} ({number} of {planned})")
        try:
            _move(client, source, wanted, step, ready, what)
        except Unreachable as away:
            step.end(Outcome.FAILED, away)
            for rest in steps[position + 1 :]:
                if rest.ready is not None:
                    rest.end(Outcome.NOT_TRIED, reason="A server could not be reached any more.")
            return away
        except RingiError as error:
            step.end(Outcome.FAILED if _in_passing(error) else Outcome.REFUSED, _with_codes(error))
            if step.line.outcome is Outcome.FAILED:
                held.add(line.name)
        tell(f"{what}: {line.outcome}" + (f" as {line.reference}" if line.reference else f" [{line.code}]" if line.code else ""))
    return None


def _in_passing(error: RingiError) -> bool:
    cancelled = isinstance(error, JobFailed) and error.details.get("state") == JobState.CANCELLED
    answered = isinstance(error, ApiError) and (error.status >= _SERVER_FAILED or error.code == "already_running" or error.status == _BUSY)
    return cancelled or answered or isinstance(error, _PASSING)


def _with_codes(error: RingiError) -> RingiError:
    """The codes of the reasons belong into a report of one line."""
    reasons = error.details.get("reasons")
    codes = [str(one["code"]) for one in reasons if isinstance(one, dict) and "code" in one] if isinstance(reasons, list) else []
    if codes:
        error.message = f"{error.message} [{', '.join(codes)}]"
    return error


def _move(client: RingiClient, source: Source, wanted: Wanted, step: Step, ready: Ready, what: str) -> None:
    """One version, from there to here."""
    (sight, base, repository, must_bind), line = ready, step.line
    name = parse_adapter(line.adapter).name
    if name not in {adapter.name for adapter in client.adapters.all(wanted.project)}:
        description = imported_from(source, line.name)[:_DESCRIPTION_LIMIT]
        client.adapters.create(wanted.project, name, base=base.reference.partition(":")[0], description=description)
    before = max((version.number for version in client.adapters.versions(wanted.project, name)), default=0)
    with tempfile.TemporaryDirectory(prefix="ringi-import-") as scratch:
        folder = Path(scratch)
        with uploading(f"receiving {what}") as on_bytes:
            files = sight.fetch(folder, on_bytes)
        if must_bind:
            bind(folder / CONFIG, repository=repository, commit=base.commit)
        with uploading(f"sending {what}") as on_bytes:
            job = _registered(client, wanted.project, name, folder, revision=f"r{base.number}", on_bytes=on_bytes)
    done = follow(client, job, f"inspection of {what}")
    sealed = parse_version(done.produced or "")
    origin = sight.origin.model_copy(update={"facts": sight.origin.facts.model_copy(update={"files": files})})
    recorded = client.origins.record(wanted.project, name, sealed.selector or "", origin)
    line.reference = recorded.reference
    equal = int((sealed.selector or "v0")[1:]) <= before
    step.end(Outcome.ALREADY_IN if equal else Outcome.IMPORTED, reason="Equal bytes are this version already." if equal else None)


def bind(config: Path, *, repository: str, commit: str) -> None:
    """Name the base in a PEFT config as it is called here. The platform checks the rest, and whether the weights fit and have an effect."""
    document = json.loads(config.read_bytes())
    config.write_text(json.dumps(document | {"base_model_name_or_path": repository, "revision": commit}), encoding="utf-8")


def _registered(client: RingiClient, project: str, name: str, folder: Path, *, revision: str, on_bytes: OnBytes) -> UUID:
    """The inspection job; one that an interrupted import left running is waited for first."""
    try:
        return client.adapters.register(project, name, folder, base_revision=revision, on_bytes=on_bytes).job_id
    except ApiError as error:
        if error.code != "already_running":
            raise
    subject = f"adapter {project}/{name}"
    for job in client.jobs.all(kind=JobKind.INSPECT):
        if job.subject == subject and job.state in OPEN:
            # Its end is the affair of whoever began it.
            with suppress(JobFailed):
                follow(client, job.id, f"an inspection of {project}/{name} that runs already")
            break
    return client.adapters.register(project, name, folder, base_revision=revision, on_bytes=on_bytes).job_id
