"""How a training run is carried out, as options of `ringi train`; what they do is told in docs/training.md."""

from typing import Annotated

import typer

from ringi.jobs.contracts.training import Packing, Schedule

_MICRO_BATCH = "Rows of one pass; a step then takes several. All rows of the step unless given."
_CHECKPOINTING = "Compute activations twice to keep fewer: less memory, about a third more time."
_PATIENCE = "End after so many validation losses in a row that are no better; the best weights are kept."

RowsOfAPass = Annotated[int | None, typer.Option(min=1, max=4096, help=_MICRO_BATCH, show_default=False)]
PackingMode = Annotated[
    Packing, typer.Option(help="Rows behind each other without padding: where the base keeps them apart, always, never.")
]
TokensOfAPack = Annotated[int, typer.Option(min=8, help="Tokens of packed rows; a longer row stands alone.")]
AfterWarmUp = Annotated[Schedule, typer.Option(help="How the learning rate goes on after the warm-up.")]
FewerActivations = Annotated[bool, typer.Option("--gradient-checkpointing", help=_CHECKPOINTING)]
Patience = Annotated[int | None, typer.Option(min=1, max=1000, help=_PATIENCE, show_default=False)]
StepsBetweenLosses = Annotated[int, typer.Option(min=1, help="Steps between validation losses, with early stopping.")]
