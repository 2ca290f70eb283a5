"""Options that several commands share."""

from typing import Annotated

import typer

Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many to show, newest first.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; at least ten characters. It is kept for ever.")]
Description = Annotated[str, typer.Option("--description", help="What it is, in any script.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return at once and let the job go on.")]
IfMatch = Annotated[
    str | None,
    typer.Option("--if-match", metavar="VERSION", help="Only if its row_version (see --json) is still this.", show_default=False),
]
AdapterName = Annotated[str, typer.Argument(metavar="PROJECT/ADAPTER", help="The adapter.")]
Version = Annotated[str, typer.Argument(metavar="REF", help="project/adapter:v3, project/adapter:production or project/adapter@sha256:…")]
