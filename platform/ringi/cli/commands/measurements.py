"""What was measured: figures, records, and what is brought in."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Group, RenderableType

from ringi.cli.asked import AskedInOrder
from ringi.cli.errors import Usage
from ringi.cli.follow import uploading
from ringi.cli.invocation import Commands, connect
from ringi.cli.options import Limit, SuiteVersion
from ringi.cli.output import cell, emit, emit_list, facts, table
from ringi.cli.references import check_name, named_suite, parse_suite_version, version_within
from ringi.measurements.schemas import MeasurementOut

app = Commands("Measurements: what a version, or a bare base, answered to a suite.")

Project = Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")]
MeasurementId = Annotated[UUID, typer.Argument(help="The measurement's id.")]


@app.verb("list", "ringi measurements list support", "ringi measurements list support --filter adapter=bot --sort -metrics.faq.accuracy")
def list_measurements(project: Project, asked: AskedInOrder, limit: Limit = 50) -> None:
    """List what was measured, newest first."""
    with connect() as client:
        emit_list(client.measurements.all(check_name(project, what="project"), **asked), limit=limit, render=listed_measurements)


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
            wanted.project, file, suite=named_suite(wanted), base_revision=on, origin=source, on_bytes=on_bytes,
            version=version_within(version, project=wanted.project) if version else None,
        )  # fmt: skip
    emit(found, lambda: _drawn(found))


def listed_measurements(found: list[MeasurementOut]) -> RenderableType:
    """A line each."""
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
        ("state", one.state), ("items", f"{one.items_done} of {one.items}"),
    ]  # fmt: skip
    if one.stop_unused is not None:
        pairs.append(("early stopping", one.stop_unused))
    if one.problem is not None:
        pairs.append(("problem", f"{one.problem.message} [{one.problem.code}]"))
    pairs += [
        ("evidence", one.evidence_digest), ("records", one.records_digest), ("imported from", one.imported_from), ("taken over from", one.reused_from),
        ("runtime", [f"{name} {value}" for name, value in (one.runtime or {}).items()]), ("job", one.job_id),
    ]  # fmt: skip
    rows = [
        (task, metric, figures.n, figures.scored, figures.mean, None if figures.low is None or figures.high is None else f"{figures.low:.4g} to {figures.high:.4g}",
         [f"{code} {count}" for code, count in (summary.problems | figures.problems).items()])
        for task, summary in (one.summary or {}).items()
        for metric, figures in summary.metrics.items()
    ]  # fmt: skip
    return Group(facts(pairs), "", table(["task", "metric", "items", "scored", "mean", "90 % interval", "problems"], rows))
