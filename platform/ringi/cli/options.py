"""Options that several commands share."""

from typing import Annotated

import typer

from ringi.fleet.schemas import Device

Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many to show, newest first.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; at least ten characters. It is kept for ever.")]
Description = Annotated[str, typer.Option("--description", help="What it is, in any script.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return at once and let the job go on.")]
AdapterName = Annotated[str, typer.Argument(metavar="PROJECT/ADAPTER", help="The adapter.")]
Version = Annotated[str, typer.Argument(metavar="REF", help="project/adapter:v3, project/adapter:production or project/adapter@sha256:…")]
WantedDevice = Annotated[Device | None, typer.Option("--device", help="Only a worker with this device.", show_default=False)]
LeastMemory = Annotated[float | None, typer.Option("--memory-gib", min=0.1, help="Only a worker with so much memory.", show_default=False)]
LowerPriority = Annotated[int, typer.Option("--priority", min=-100, max=0, help="Below zero: let others go first.")]
