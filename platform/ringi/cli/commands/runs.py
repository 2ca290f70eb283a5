"""`ringi runs`: what is done with a run after its start. Listing and showing them is training.py."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from ringi.cli.commands.training import app, drawn
from ringi.cli.errors import Usage
from ringi.cli.follow import follow
from ringi.cli.invocation import connect
from ringi.cli.options import AdapterName, Detach, IfMatch
from ringi.cli.output import emit, facts, note, save_to
from ringi.cli.plan_options import Patience, of_plan
from ringi.cli.references import Reference, parse_adapter
from ringi.jobs.contracts.training import Schedule
from ringi.training.provenance import Provenance
from ringi.training.schemas import BranchRun, RunOut

_ID = "risk/answers 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e"
RunId = Annotated[UUID, typer.Argument(metavar="RUN", help="The run's id.")]

__all__ = ["app"]


class NotAnSvg(Usage):
    """The picture has one format, and the file's name another."""

    code = "not_an_svg"

    def __init__(self, out: Path) -> None:
        super().__init__(f"The picture is SVG, and '{out.name}' names another format.", next_step="Name a file that ends in .svg.")


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


@app.verb("provenance", f"ringi runs provenance {_ID}", f"ringi runs provenance {_ID} --output json")
def provenance(name: AdapterName, run: RunId) -> None:
    """Show how a run's version came to be: recipe, libraries, base, rows, device, and what it took."""
    wanted = parse_adapter(name)
    with connect() as client:
        found = client.training.provenance(wanted.project, wanted.name, run)
        digest = client.training.get(wanted.project, wanted.name, run).provenance_digest
    emit(found, lambda: facts(_lines(found, digest)))


def _an_svg(out: Path) -> Path:
    if out.suffix.lower() != ".svg":
        raise NotAnSvg(out)
    return out


@app.verb("curve", f"ringi runs curve {_ID} loss.svg")
def curve(
    name: AdapterName,
    run: RunId,
    out: Annotated[Path, typer.Argument(metavar="FILE.svg", help="Where the picture goes.", callback=_an_svg)],
) -> None:
    """Draw the losses of a succeeded run."""
    wanted = parse_adapter(name)
    with connect() as client:
        drawing = client.training.curve(wanted.project, wanted.name, run)
    save_to(out, drawing)
    emit({"file": str(out)}, lambda: facts([("file", str(out))]))


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
    learning_rate: Annotated[float | None, of_plan("learning_rate", "Peak learning rate.", show_default=False)] = None,
    epochs: Annotated[int | None, of_plan("epochs", "Passes over the rows, from the beginning.", show_default=False)] = None,
    max_steps: Annotated[int | None, of_plan("max_steps", "Stop after so many steps, from the beginning.", show_default=False)] = None,
    warmup_fraction: Annotated[float | None, of_plan("warmup_fraction", "Share of the steps that warm up.", show_default=False)] = None,
    max_grad_norm: Annotated[float | None, of_plan("max_grad_norm", "Gradients are clipped to this norm.", show_default=False)] = None,
    schedule: Annotated[Schedule | None, typer.Option(help="How the learning rate goes on.", show_default=False)] = None,
    early_stopping_patience: Patience = None,
    evaluate_every: Annotated[int | None, of_plan("evaluate_every", "Steps between validation losses.", show_default=False)] = None,
    checkpoint_every: Annotated[int | None, of_plan("checkpoint_every", "Steps between checkpoints.", show_default=False)] = None,
    detach: Detach = False,
) -> None:
    """Start a run that goes on from the last snapshot of another, which may be paused, failed or cancelled. What is not given stays."""
    wanted = parse_adapter(name)
    change = BranchRun(
        learning_rate=learning_rate, epochs=epochs, max_steps=max_steps, warmup_fraction=warmup_fraction, max_grad_norm=max_grad_norm,
        schedule=schedule, early_stopping_patience=early_stopping_patience, evaluate_every=evaluate_every, checkpoint_every=checkpoint_every,
    )  # fmt: skip
    with connect() as client:
        found = client.training.branch(wanted.project, wanted.name, run, change)
    _follow(wanted, found, detach=detach)


def _lines(found: Provenance, digest: str | None) -> list[tuple[str, object]]:
    spent, dataset, base, origin, earlier = found.spent, found.dataset, found.base, found.origin, found.earlier
    price = f", by the prices of {spent.price.as_of} ({spent.price.source})" if spent.price is not None else ""
    measured: list[tuple[str, float | None, str]] = [
        ("GPU seconds", spent.gpu_seconds, ""), ("FLOPs, estimated", spent.flops, ""), ("energy of the GPU", spent.energy_j, " J"),
        ("cost", spent.cost, f" {spent.price.currency}{price}" if spent.price else ""),
    ]  # fmt: skip
    return [
        ("run", found.run_id),
        ("record", digest),
        ("files", found.manifest_digest),
        ("recipe", ", ".join(f"{key} {value}" for key, value in found.recipe.items() if value is not None)),
        *([("recipe of", f"run {origin.run_id}" + (f", from its step {origin.step}" if origin.step else ""))] if origin else []),
        *(
            [("began with", f"{earlier.name} {earlier.manifest_digest}" + (", stacked on it" if earlier.stacked else ""))]
            if earlier
            else []
        ),
        ("base", f"{base.name}:r{base.revision} {base.digest}"),
        ("fingerprint", ", ".join(f"{part} {value}" for part, value in base.fingerprint.items()) or "not measured"),
        ("dataset", f"{dataset.name}:v{dataset.version} {dataset.digest}"),
        ("device", f"{found.device}, {found.dtype}" + (f", {found.processes} processes" if found.processes > 1 else "")),
        ("libraries", f"{len(found.libraries)} (--output json has them), torch {found.libraries.get('torch', 'unknown')}"),
        ("steps", f"{spent.steps} in {spent.seconds:.1f} s"),
        *((name, "not measured" if value is None else f"{value:.4g}{unit}") for name, value, unit in measured),
    ]


def _follow(wanted: Reference, run: RunOut, *, detach: bool) -> None:
    """Follow the run to its end, then show it; raises JobFailed."""
    if not detach:
        with connect() as client:
            follow(client, run.job_id, f"training {wanted}")
            run = client.training.get(wanted.project, wanted.name, run.id)
    emit(run, lambda: drawn(run))
    if detach:
        note(f"Follow it: ringi jobs wait {run.job_id}. See it: ringi runs show {wanted} {run.id}.")
