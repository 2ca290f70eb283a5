"""The options of every verb that lists something; what they mean is in docs/lists.md."""

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
