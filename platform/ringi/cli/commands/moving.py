"""Move in: registered models of an MLflow server, and PEFT folders in bulk."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ringi.cli.client import RingiClient
from ringi.cli.errors import INTERRUPTED, Usage
from ringi.cli.invocation import Commands, connect, invocation
from ringi.cli.moving.carry_out import carry_out
from ringi.cli.moving.folder_source import FolderSource
from ringi.cli.moving.mlflow_api import TrackingServer
from ringi.cli.moving.mlflow_source import MlflowSource
from ringi.cli.moving.names import parse_renames
from ringi.cli.moving.plan import Planner, Source, Wanted
from ringi.cli.moving.report import drawn, exit_code, report_of, summary
from ringi.cli.output import emit, note
from ringi.cli.references import check_name, parse_base

app = Commands("Move adapters in from elsewhere.")

GIB = 2**30
InProject = Annotated[str, typer.Option("--project", help="The project that they become adapters of.")]
TrainedOn = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME[@REVISION]", help="What the base is called in their configs; may be given several times."),
]
Rename = Annotated[list[str] | None, typer.Option(metavar="OLD=NEW", help="An adapter's name here, where the mapped one does not suit.")]
BaseRevision = Annotated[str, typer.Option(help="The revision of the base that they were trained on.")]
MaxBytes = Annotated[int, typer.Option(min=1, help="How large one adapter may be.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")]


@app.verb(
    "mlflow",
    "ringi import mlflow --server http://mlflow.example.com:5000 --project risk --base smollm2 --dry-run",
    "ringi import mlflow --server https://mlflow.example.com --project risk --base smollm2 --trained-on HuggingFaceTB/SmolLM2-135M",
    "ringi import mlflow --name 'faq-*' --rename 'FAQ Bot=faq' --project risk --base smollm2 --json",
)
def mlflow(
    project: InProject,
    base: Annotated[str, typer.Option(help="The base model here that they were trained on.")],
    server: Annotated[str, typer.Option(envvar="MLFLOW_TRACKING_URI", help="The tracking server's address.")] = "",
    name: Annotated[list[str] | None, typer.Option(metavar="PATTERN", help="Only models whose name fits, e.g. 'faq-*'.")] = None,
    trained_on: TrainedOn = None,
    base_revision: BaseRevision = "latest",
    rename: Rename = None,
    max_bytes: MaxBytes = 4 * GIB,
    dry_run: DryRun = False,
) -> None:
    """Import the LoRA adapters among an MLflow server's registered models, version by version; interrupted, the same command goes on."""
    if not server:
        raise Usage("There is no MLflow server to import from.", next_step="Add --server URL, or set MLFLOW_TRACKING_URI.")
    wanted = _wanted(project, parse_base(base), base_revision, trained_on, rename)
    with connect() as client, TrackingServer(server, os.environ) as tracking:
        _import(client, MlflowSource(tracking, name or (), limit=max_bytes), wanted, dry_run=dry_run)


@app.verb(
    "folders",
    "ringi import folders ./adapters --project risk --base smollm2 --trained-on HuggingFaceTB/SmolLM2-135M",
    "ringi import folders ./adapters --mapping adapters.csv --project risk --dry-run",
)
def folders(
    top: Annotated[Path, typer.Argument(metavar="DIR", help="The folder whose subfolders are PEFT folders.")],
    project: InProject,
    base: Annotated[str | None, typer.Option(help="The base model here, for folders whose row names none.")] = None,
    mapping: Annotated[Path | None, typer.Option(help="CSV or JSON lines: folder, adapter, base, tags.")] = None,
    label: Annotated[
        str | None, typer.Option(help="What the collection is called in the origins; the folder's own name without it.")
    ] = None,
    trained_on: TrainedOn = None,
    base_revision: BaseRevision = "latest",
    rename: Rename = None,
    max_bytes: MaxBytes = 4 * GIB,
    dry_run: DryRun = False,
) -> None:
    """Import many PEFT folders: each subfolder one adapter, or as a mapping says; interrupted, the same command goes on."""
    source = FolderSource(top, mapping, label=label, limit=max_bytes)
    wanted = _wanted(project, parse_base(base) if base else None, base_revision, trained_on, rename)
    with connect() as client:
        _import(client, source, wanted, dry_run=dry_run)


def _wanted(project: str, base: str | None, base_revision: str, trained_on: list[str] | None, rename: list[str] | None) -> Wanted:
    return Wanted(check_name(project, what="project"), base, base_revision, tuple(trained_on or ()), parse_renames(rename or ()))


def _import(client: RingiClient, source: Source, wanted: Wanted, *, dry_run: bool) -> None:
    tell = _quiet if invocation.as_data else note
    away = None
    try:
        steps = Planner(client, source, wanted, tell).steps()
        if not dry_run:
            away = carry_out(client, source, wanted, steps, tell)
    except (KeyboardInterrupt, typer.Exit):
        note("What is in stays in. The same command goes on where this one ended.")
        raise typer.Exit(INTERRUPTED) from None
    report = report_of(source, wanted.project, steps, dry_run=dry_run)
    emit(report, lambda: drawn(report))
    for remark in summary(report):
        tell(remark)
    if code := exit_code(report, away):
        raise typer.Exit(code)


def _quiet(_text: str) -> None:
    """With `--json` the report says it all."""
