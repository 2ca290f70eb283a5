"""`ringi runs`: what is done with a run after its start. Listing and showing them is training.py."""

from typing import Annotated
from uuid import UUID

import typer

from ringi.cli.commands.training import app, drawn
from ringi.cli.follow import follow
from ringi.cli.invocation import connect
from ringi.cli.options import AdapterName, Detach, IfMatch
from ringi.cli.output import emit, note
from ringi.cli.references import Reference, parse_adapter
from ringi.jobs.contracts.training import Schedule
from ringi.training.schemas import BranchRun, RunOut

_ID = "risk/answers 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e"
RunId = Annotated[UUID, typer.Argument(metavar="RUN", help="The run's id.")]

__all__ = ["app"]


@app.verb("pause", f"ringi runs pause {_ID}")
def pause(name: AdapterName, run: RunId, if_match: IfMatch = None) -> None:
    """Let a run rest: after its present step it keeps a snapshot and gives its worker back."""
    wanted = parse_adapter(name)
    with connect() as client:
        found = client.training.pause(wanted.project, wanted.name, run, if_match=if_match)
    emit(found, lambda: drawn(found))
    note(f"Let it go on: ringi runs continue {wanted} {run}.")


@app.verb("continue", f"ringi runs continue {_ID}", f"ringi runs continue {_ID} --detach")
def go_on(name: AdapterName, run: RunId, detach: Detach = False, if_match: IfMatch = None) -> None:
    """Let a paused run go on from its snapshot, on whichever worker is free."""
    wanted = parse_adapter(name)
    with connect() as client:
        found = client.training.go_on(wanted.project, wanted.name, run, if_match=if_match)
    _follow(wanted, found, detach=detach)


@app.verb("again", f"ringi runs again {_ID}", f"ringi runs again {_ID} --detach")
def again(name: AdapterName, run: RunId, detach: Detach = False) -> None:
    """Start a run with the recipe of another: the same rows, base revision, hyperparameters and seed."""
    wanted = parse_adapter(name)
    with connect() as client:
        found = client.training.again(wanted.project, wanted.name, run)
    _follow(wanted, found, detach=detach)


@app.verb(
    "branch",
    f"ringi runs branch {_ID} --learning-rate 0.0001",
    f"ringi runs branch {_ID} --epochs 6 --schedule cosine --detach",
)
def branch(
    name: AdapterName,
    run: RunId,
    learning_rate: Annotated[float | None, typer.Option(min=0, max=1, help="Peak learning rate.", show_default=False)] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Passes over the rows, from the beginning.", show_default=False)
    ] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps, from the beginning.", show_default=False)] = None,
    schedule: Annotated[Schedule | None, typer.Option(help="How the learning rate goes on.", show_default=False)] = None,
    early_stopping_patience: Annotated[int | None, typer.Option(min=1, max=1000, show_default=False)] = None,
    evaluate_every: Annotated[int | None, typer.Option(min=1, show_default=False)] = None,
    checkpoint_every: Annotated[int | None, typer.Option(min=1, help="Steps between checkpoints.", show_default=False)] = None,
    detach: Detach = False,
) -> None:
    """Start a run that goes on from the last snapshot of another, which may be paused, failed or cancelled. What is not given stays."""
    wanted = parse_adapter(name)
    change = BranchRun(
        learning_rate=learning_rate, epochs=epochs, max_steps=max_steps, schedule=schedule, early_stopping_patience=early_stopping_patience,
        evaluate_every=evaluate_every, checkpoint_every=checkpoint_every,
    )  # fmt: skip
    with connect() as client:
        found = client.training.branch(wanted.project, wanted.name, run, change)
    _follow(wanted, found, detach=detach)


def _follow(wanted: Reference, run: RunOut, *, detach: bool) -> None:
    """Follow the run to its end, then show it; raises JobFailed."""
    if not detach:
        with connect() as client:
            follow(client, run.job_id, f"training {wanted}")
            run = client.training.get(wanted.project, wanted.name, run.id)
    emit(run, lambda: drawn(run))
    if detach:
        note(f"Follow it: ringi jobs wait {run.job_id}. See it: ringi runs show {wanted} {run.id}.")
