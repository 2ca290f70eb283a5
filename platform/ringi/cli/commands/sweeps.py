"""`ringi sweep`, and what was measured."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Group, RenderableType

from ringi.cli.asked import Asked
from ringi.cli.client import RingiClient
from ringi.cli.errors import Usage
from ringi.cli.follow import follow, uploading
from ringi.cli.invocation import Commands, connect
from ringi.cli.options import Detach, LeastMemory, Limit, LowerPriority, SuiteVersion, WantedDevice
from ringi.cli.output import cell, emit, emit_list, facts, note, table
from ringi.cli.references import BadReference, Reference, check_name, parse_suite_version, parse_version
from ringi.jobs.schemas import placement_of
from ringi.measurements.schemas import MeasurementOut, RequestSweep, SweepOut

app = Commands("Measurements: what a version, or a bare base, answered to a suite.")
verbs = Commands()

Project = Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")]
MeasurementId = Annotated[UUID, typer.Argument(help="The measurement's id.")]
OnBase = Annotated[
    str | None,
    typer.Option("--on", metavar="BASE:rN", help="The base revision; the one they were trained on unless given.", show_default=False),
]


@verbs.verb(
    "sweep",
    "ringi sweep support/quality support/bot:v1 support/bot:v2 --include-base",
    "ringi sweep support/quality:v1 support/bot:production --on smollm2:r2 --again --detach",
)
def sweep(
    suite: SuiteVersion,
    versions: Annotated[list[str] | None, typer.Argument(metavar="REF…", help="Versions of the same project.", show_default=False)] = None,
    on: OnBase = None,
    include_base: Annotated[bool, typer.Option("--include-base", help="Measure the bare base, too.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Measure also what was measured with the same bytes and runtime.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="Items a pass.")] = 16,
    device: WantedDevice = None,
    memory_gib: LeastMemory = None,
    priority: LowerPriority = 0,
    detach: Detach = False,
) -> None:
    """Measure versions with a suite: the base is loaded once, and what is done is kept."""
    wanted = parse_suite_version(suite)
    body = RequestSweep(
        suite=named(wanted), base_revision=on, versions=[within(one, project=wanted.project) for one in versions or []], include_base=include_base,
        again=again, batch_size=batch_size, placement=placement_of(device, memory_gib, priority),
    )  # fmt: skip
    with connect() as client:
        asked = swept(client, wanted.project, body, detach=detach)
    emit(asked, lambda: _listed(asked.measurements))
    if detach:
        note(f"Follow it: ringi jobs wait {asked.job_id}. See it: ringi measurements list {wanted.project} --filter job={asked.job_id}.")


def swept(client: RingiClient, project: str, body: RequestSweep, *, detach: bool = False) -> SweepOut:
    """A sweep that was waited for. Raises JobFailed."""
    asked = client.measurements.sweep(project, body)
    if detach:
        return asked
    follow(client, asked.job_id, f"measuring {len(asked.measurements)} with {body.suite}")
    found = client.measurements.all(project, filter=[f"job={asked.job_id}"], sort="created_at")
    by_id = {one.id: one for one in found}
    return asked.model_copy(update={"measurements": [by_id.get(one.id, one) for one in asked.measurements]})


def named(reference: Reference) -> str:
    """`suite:v1` as the API takes it beside a project."""
    return f"{reference.name}:{reference.selector or 'latest'}"


def within(text: str, *, project: str) -> str:
    """`adapter:selector` of `project/adapter:selector`; refuses one of another project."""
    found = parse_version(text if "/" in text.partition("@")[0] else f"{project}/{text}")
    if found.project != project:
        raise BadReference(text, f"the version must be in the project '{project}'", example=f"{project}/{found.name}:v1")
    return f"{found.name}:{found.selector}"


@app.verb("list", "ringi measurements list support", "ringi measurements list support --filter adapter=bot --sort -metrics.faq.accuracy")
def list_measurements(project: Project, asked: Asked, limit: Limit = 50) -> None:
    """List what was measured, newest first."""
    with connect() as client:
        emit_list(client.measurements.all(check_name(project, what="project"), **asked), limit=limit, render=_listed)


@app.verb("show", "ringi measurements show support 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e")
def show(project: Project, measurement: MeasurementId) -> None:
    """Show a measurement: its figures, what it is bound to, and what went wrong."""
    with connect() as client:
        found = client.measurements.get(check_name(project, what="project"), measurement)
    emit(found, lambda: _drawn(found))


@app.verb("records", "ringi measurements records support 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e --task faq --limit 20")
def records(
    project: Project,
    measurement: MeasurementId,
    task: Annotated[str | None, typer.Option(help="Only of this task.", show_default=False)] = None,
    limit: Limit = 50,
) -> None:
    """Show what was answered to each item."""
    with connect() as client:
        emit_list(
            client.measurements.records(check_name(project, what="project"), measurement, task=task), limit=limit,
            render=lambda found: table(["task", "item", "answer", "scores", "problem"], [
                (one.task, one.item, one.output, [f"{name} {cell(score)}" for name, score in one.scores.items()], one.problem) for one in found
            ]),
        )  # fmt: skip


@app.verb(
    "import",
    "ringi measurements import support/quality records.jsonl --version support/bot:v2 --on smollm2:r1 --source lm-evaluation-harness",
)
def import_records(
    suite: SuiteVersion,
    file: Annotated[Path, typer.Argument(help="JSON lines of records (docs/evaluation.md).")],
    on: Annotated[str, typer.Option("--on", metavar="BASE:rN", help="The base revision that it was measured on.")],
    source: Annotated[str, typer.Option(help="Where it was measured; it is shown for ever.")],
    version: Annotated[str | None, typer.Option(metavar="REF", help="The version; the bare base unless given.", show_default=False)] = None,
) -> None:
    """Bring in what was measured elsewhere. It is marked, and no evidence of an approval unless the policy says so."""
    wanted = parse_suite_version(suite)
    if not file.is_file():
        raise Usage(f"'{file}' is not a file.", next_step="Name a file of records.")
    with connect() as client, uploading(f"sending {file.name}") as on_bytes:
        found = client.measurements.bring_in_file(
            wanted.project, file, suite=named(wanted), base_revision=on, origin=source, on_bytes=on_bytes,
            version=within(version, project=wanted.project) if version else None,
        )  # fmt: skip
    emit(found, lambda: _drawn(found))


def _listed(found: list[MeasurementOut]) -> RenderableType:
    columns = ["measurement", "of", "on", "suite", "state", "figures", "evidence from"]
    return table(columns, [
        (one.id, one.version or "bare base", one.base, one.suite, one.problem.code if one.problem else one.state, _figures(one),
         one.imported_from or (f"taken over from {one.reused_from}" if one.reused_from else None))
        for one in found
    ])  # fmt: skip


def _figures(one: MeasurementOut) -> list[str]:
    return [
        f"{task} {metric} {cell(figures.mean)}"
        for task, summary in (one.summary or {}).items()
        for metric, figures in summary.metrics.items()
    ]


def _drawn(one: MeasurementOut) -> RenderableType:
    pairs: list[tuple[str, object]] = [
        ("measurement", one.id), ("of", one.version or "bare base"), ("on", one.base), ("suite", f"{one.suite}  {one.suite_digest}"),
        ("state", one.state),
    ]  # fmt: skip
    if one.problem is not None:
        pairs.append(("problem", f"{one.problem.message} [{one.problem.code}]"))
    pairs += [
        ("evidence", one.evidence_digest), ("records", one.records_digest), ("imported from", one.imported_from), ("taken over from", one.reused_from),
        ("runtime", [f"{name} {value}" for name, value in (one.runtime or {}).items()]), ("job", one.job_id),
    ]  # fmt: skip
    rows = [
        (task, metric, figures.n, figures.scored, figures.mean, None if figures.low is None or figures.high is None else f"{figures.low:.4g} to {figures.high:.4g}",
         [f"{code} {count}" for code, count in summary.problems.items()])
        for task, summary in (one.summary or {}).items()
        for metric, figures in summary.metrics.items()
    ]  # fmt: skip
    return Group(facts(pairs), "", table(["task", "metric", "items", "scored", "mean", "90 % interval", "problems"], rows))
