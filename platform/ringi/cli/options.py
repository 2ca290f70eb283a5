"""Options and arguments that several commands share. A reference without a project means the project of the context."""

from typing import Annotated

import typer

from ringi.cli import completion
from ringi.cli.invocation import in_project
from ringi.fleet.schemas import Device

Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many to show, newest first unless sorted.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; at least ten characters. It is kept for ever.")]
Description = Annotated[str, typer.Option("--description", help="What it is, in any script.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return at once and let the job go on.")]
AdapterName = Annotated[
    str, typer.Argument(metavar="[PROJECT/]ADAPTER", help="The adapter.", callback=in_project, autocompletion=completion.adapters)
]
DatasetName = Annotated[
    str, typer.Argument(metavar="[PROJECT/]DATASET", help="The dataset.", callback=in_project, autocompletion=completion.datasets)
]
SuiteName = Annotated[str, typer.Argument(metavar="[PROJECT/]SUITE", help="The suite.", callback=in_project)]
SuiteVersion = Annotated[
    str, typer.Argument(metavar="[PROJECT/]SUITE[:vN]", help="A version of a suite; the latest without a number.", callback=in_project)
]
OffTask = Annotated[
    bool, typer.Option("--off-task/--no-off-task", help="Whether the off-task probe is sealed with it: general prompts for every sweep.")
]
AdapterOrProject = Annotated[str, typer.Argument(metavar="PROJECT[/ADAPTER]", help="The adapter, or the project for all of its adapters.")]
AsOf = Annotated[
    str | None, typer.Option("--as-of", metavar="TIME", help="What it meant then: 2026-11-01 or 2026-11-01T09:30Z.", show_default=False)
]
Version = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="project/adapter:v3, project/adapter:production, project/adapter:production@2026-11-01 or project/adapter@sha256:…",
        callback=in_project,
        autocompletion=completion.adapters,
    ),
]
IfMatch = Annotated[
    str | None,
    typer.Option("--if-match", metavar="VERSION", help="Only if its row_version (see --json) is still this.", show_default=False),
]
WantedDevice = Annotated[Device | None, typer.Option("--device", help="Only a worker with this device.", show_default=False)]
LeastMemory = Annotated[float | None, typer.Option("--memory-gib", min=0.1, help="Only a worker with so much memory.", show_default=False)]
LowerPriority = Annotated[int, typer.Option("--priority", min=-100, max=0, help="Below zero: let others go first.")]
