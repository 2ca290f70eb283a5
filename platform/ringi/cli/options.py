"""Options that several commands share."""

from typing import Annotated

import typer

Filter = Annotated[
    list[str] | None,
    typer.Option(
        "--filter", metavar="FIELD=VALUE", help="Only what compares so; repeat it, all must hold. Operators: = != > >= < <= ~ !~; FIELD alone: is known.",
        show_default=False,
    ),
]  # fmt: skip
Sort = Annotated[
    str | None,
    typer.Option("--sort", metavar="FIELDS", help="The order: fields apart by commas, '-' before one for descending.", show_default=False),
]
Search = Annotated[
    str | None, typer.Option("--search", metavar="WORDS", help="Only what holds every word, in any width and case.", show_default=False)
]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many to show, newest first unless sorted.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; at least ten characters. It is kept for ever.")]
Description = Annotated[str, typer.Option("--description", help="What it is, in any script.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return at once and let the job go on.")]
AdapterName = Annotated[str, typer.Argument(metavar="PROJECT/ADAPTER", help="The adapter.")]
AdapterOrProject = Annotated[str, typer.Argument(metavar="PROJECT[/ADAPTER]", help="The adapter, or the project for all of its adapters.")]
AsOf = Annotated[
    str | None, typer.Option("--as-of", metavar="TIME", help="What it meant then: 2026-11-01 or 2026-11-01T09:30Z.", show_default=False)
]
Version = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="project/adapter:v3, project/adapter:production, project/adapter:production@2026-11-01 or project/adapter@sha256:…",
    ),
]
