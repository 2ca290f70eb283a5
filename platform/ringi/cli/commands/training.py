"""`ringi train` and the runs it starts."""

from typing import Annotated, TypedDict
from uuid import UUID

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from ringi.cli.asked import AskedInOrder
from ringi.cli.client import RingiClient
from ringi.cli.commands import estimate
from ringi.cli.follow import follow
from ringi.cli.invocation import Commands, connect
from ringi.cli.options import AdapterName, AdapterOrProject, Detach, LeastMemory, Limit, LowerPriority, WantedDevice
from ringi.cli.output import emit, emit_list, facts, note, table
from ringi.cli.plan_options import (
    AfterWarmUp,
    Alpha,
    ClippedTo,
    Decay,
    Dropped,
    Epochs,
    FewerActivations,
    HowItBegins,
    HowStored,
    MostSteps,
    OwnAlphas,
    OwnRanks,
    PackingMode,
    Patience,
    PeakRate,
    RankOfMatrices,
    RatioOfRates,
    RowsOfAPass,
    RowsOfAStep,
    ScaledByRoot,
    Seed,
    Stacked,
    StartFrom,
    StepsBetweenLosses,
    StepsBetweenSnapshots,
    Targets,
    TokensOfAPack,
    TokensOfARow,
    WarmUp,
    WhatIsLearnt,
    WhatIsTrained,
    by_module,
    checked_plan,
)  # fmt: skip
from ringi.cli.references import Reference, check_name, dataset_within, parse_adapter
from ringi.jobs.contracts.methods import Init, Method, Quantisation, TrainingTask
from ringi.jobs.contracts.training import LoraSpec, TrainMetrics
from ringi.jobs.schemas import JobState, Placement, placement_of
from ringi.preflight.schemas import PreflightOut
from ringi.training.schemas import RunOut, TrainingPlan

app = Commands("Training runs.")
verbs = Commands()

_PLAN = TrainingPlan()
_NOT_MEASURED, _KWH_J = "not measured", 3.6e6


class _Asked(TypedDict):
    """What starting a run and looking at it beforehand are asked alike."""

    dataset: str
    base_revision: str
    plan: TrainingPlan
    placement: Placement | None
    start_from: str | None
    stacked: bool


@verbs.verb(
    "train",
    "ringi train risk/answers --dataset questions",
    "ringi train risk/answers --dataset questions:v2 --rank 8 --epochs 2 --learning-rate 0.001 --batch-size 8",
    "ringi train risk/answers --dataset questions --device cuda --memory-gib 24 --priority -10",
    "ringi train risk/answers --dataset questions --batch-size 32 --micro-batch-size 4 --gradient-checkpointing",
    "ringi train risk/answers --dataset questions --epochs 20 --schedule cosine --early-stopping-patience 3 --evaluate-every 25",
    "ringi train risk/answers --dataset questions --target-module q_proj --target-module v_proj --detach",
    "ringi train risk/answers --dataset questions --method dora --rank 8 --rank-of down_proj=16 --alpha-of down_proj=32",
    "ringi train risk/answers --dataset questions --init pissa --lora-plus-ratio 16",
    "ringi train risk/answers --dataset questions --quantisation nf4 --gradient-checkpointing",
    "ringi train risk/answers --dataset questions --method ia3 --target-module suggested --learning-rate 0.005",
    "ringi train risk/answers --dataset questions --method full --learning-rate 0.00002 --gradient-checkpointing",
    "ringi train risk/answers --dataset more-questions --start-from v3 --learning-rate 0.0001",
    "ringi train risk/answers --dataset complaints --start-from v3 --stacked --rank 4",
    "ringi train risk/answers --dataset questions --rank 8 --check",
    "ringi train support/desk --dataset tickets --task sequence-classification --early-stopping-patience 3",
)
def train(
    name: AdapterName,
    dataset: Annotated[str, typer.Option(help="A dataset of the same project: NAME or NAME:v1.")],
    base_revision: Annotated[str, typer.Option(help="The revision of its base to train on.")] = "latest",
    rank: RankOfMatrices = None,
    alpha: Alpha = None,
    dropout: Dropped = _PLAN.dropout,
    target_module: Targets = None,
    method: WhatIsTrained = None,
    init: HowItBegins = None,
    lora_plus_ratio: RatioOfRates = None,
    rank_of: OwnRanks = None,
    alpha_of: OwnAlphas = None,
    quantisation: HowStored = _PLAN.quantisation,
    task: WhatIsLearnt = None,
    start_from: StartFrom = None,
    stacked: Stacked = False,
    use_rslora: ScaledByRoot = None,
    learning_rate: PeakRate = None,
    epochs: Epochs = _PLAN.epochs,
    max_steps: MostSteps = None,
    batch_size: RowsOfAStep = _PLAN.batch_size,
    warmup_fraction: WarmUp = _PLAN.warmup_fraction,
    weight_decay: Decay = _PLAN.weight_decay,
    max_grad_norm: ClippedTo = _PLAN.max_grad_norm,
    max_length: TokensOfARow = _PLAN.max_length,
    seed: Seed = _PLAN.seed,
    checkpoint_every: StepsBetweenSnapshots = _PLAN.checkpoint_every,
    micro_batch_size: RowsOfAPass = None,
    packing: PackingMode = _PLAN.packing,
    pack_length: TokensOfAPack = _PLAN.pack_length,
    schedule: AfterWarmUp = _PLAN.schedule,
    gradient_checkpointing: FewerActivations = _PLAN.gradient_checkpointing,
    early_stopping_patience: Patience = None,
    evaluate_every: StepsBetweenLosses = _PLAN.evaluate_every,
    device: WantedDevice = None,
    memory_gib: LeastMemory = None,
    priority: LowerPriority = 0,
    check: Annotated[bool, typer.Option("--check", help="Start nothing: show what would be found, and what it would need.")] = False,
    detach: Detach = False,
) -> None:
    """Train an adapter on a dataset's training split, and follow it until a new version is sealed."""
    wanted = parse_adapter(name)
    plan = checked_plan(
        rank=rank, alpha=alpha, dropout=dropout, target_modules=target_module, use_rslora=use_rslora,
        learning_rate=learning_rate, epochs=epochs, max_steps=max_steps, batch_size=batch_size, warmup_fraction=warmup_fraction,
        weight_decay=weight_decay, max_grad_norm=max_grad_norm, max_length=max_length, seed=seed, checkpoint_every=checkpoint_every,
        micro_batch_size=micro_batch_size, packing=packing, pack_length=pack_length, schedule=schedule, method=method, init=init,
        gradient_checkpointing=gradient_checkpointing, early_stopping_patience=early_stopping_patience, evaluate_every=evaluate_every,
        lora_plus_ratio=lora_plus_ratio, rank_pattern=by_module(rank_of), alpha_pattern=by_module(alpha_of), quantisation=quantisation, task=task,
    )  # fmt: skip
    with connect() as client:
        asked = _Asked(dataset=dataset_within(dataset, project=wanted.project), base_revision=base_revision, plan=plan,
                       placement=placement_of(device, memory_gib, priority), start_from=start_from, stacked=stacked)  # fmt: skip
        if check:
            _show_findings(client.training.check(wanted.project, wanted.name, **asked))
            return
        run = _started(client, wanted, asked, detach=detach)
    _end(run, f"Follow it: ringi jobs wait {run.job_id}. See it: ringi runs show {wanted} {run.id}." if detach else None)


def _started(client: RingiClient, wanted: Reference, asked: _Asked, *, detach: bool) -> RunOut:
    """The run, once what was found against it is told; unless `detach`, as it is when its job has ended."""
    run = client.training.start(wanted.project, wanted.name, **asked)
    for found in run.preflight:
        note(f"{found.gravity}: {found.message} [{found.code}]")
    if detach:
        return run
    follow(client, run.job_id, f"training {wanted}")
    return client.training.get(wanted.project, wanted.name, run.id)


def _end(run: RunOut, how_to_follow: str | None) -> None:
    emit(run, lambda: drawn(run))
    if how_to_follow:
        note(how_to_follow)


@app.verb(
    "list",
    "ringi runs list risk/answers",
    "ringi runs list risk --filter dataset=questions --filter metrics.final_loss --sort metrics.final_loss",
)
def list_runs(name: AdapterOrProject, asked: AskedInOrder, limit: Limit = 50) -> None:
    """List the runs of an adapter, or of all adapters of a project."""
    columns = ["run", "adapter", "state", "dataset", "base", "rank", "final loss", "version", "started"]
    with connect() as client:
        if "/" in name:
            wanted = parse_adapter(name)
            listed = client.training.all(wanted.project, wanted.name, **asked)
        else:
            listed = client.training.all_of_project(check_name(name, what="project"), **asked)
        emit_list(
            listed, limit=limit,
            render=lambda found: table(columns, [
                (one.id, one.adapter, one.state, one.dataset, one.base, one.spec.rank, one.metrics.final_loss if one.metrics else None, one.version, one.created_at)
                for one in found
            ]),
        )  # fmt: skip


@app.verb("show", "ringi runs show risk/answers 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e")
def show(name: AdapterName, run: Annotated[UUID, typer.Argument(help="The run's id.")]) -> None:
    """Show a run: its hyperparameters, its state, what it measured."""
    wanted = parse_adapter(name)
    with connect() as client:
        found = client.training.get(wanted.project, wanted.name, run)
    emit(found, lambda: drawn(found))


def _show_findings(found: PreflightOut) -> None:
    """Print a dry run; ends with code 1 where the run would be refused, so that a script can ask."""
    emit(found, lambda: _look(found))
    if found.refused:
        raise typer.Exit(code=1)


def _look(found: PreflightOut) -> RenderableType:
    rows = [(one.gravity, one.code, one.message, one.next_step) for one in found.findings]
    shown: RenderableType = table(["gravity", "code", "finding", "next"], rows) if rows else "nothing found against it"
    return Group(shown, "", estimate.drawn(found.estimate)) if found.estimate is not None else shown


def drawn(run: RunOut) -> Table:
    """One run as a table."""
    spec, metrics, progress = run.spec, run.metrics, run.progress
    how = f"{spec.epochs} epochs of {spec.batch_size} rows a step, learning rate {spec.learning_rate:g} {spec.schedule}, seed {spec.seed}"
    pairs: list[tuple[str, object]] = [
        ("run", run.id),
        ("state", f"{run.state}, rests after its step" if run.pause_requested and run.state is JobState.RUNNING else run.state),
        ("snapshot", f"of step {run.snapshot_step}" if run.snapshot_step is not None else None),
        ("comes from", _origin(run)),
        ("version", run.version),
        ("adapter", run.adapter),
        ("dataset", run.dataset),
        ("base", run.base),
        ("method", _method(spec)),
        *([("stacked on" if run.stacked else "begun from", run.started_from)] if run.started_from else []),
        ("schedule", how),
    ]
    if metrics is not None:
        pairs += _measured(metrics)
    elif progress is not None:
        pairs += [("phase", progress.phase), ("step", progress.step), ("of", progress.total), ("loss", progress.loss)]
    if run.error is not None:
        pairs += [("error", f"{run.error.message} [{run.error.code}]"), ("next", run.error.next_step)]
    pairs += [(f"found before ({one.gravity})", f"{one.message} [{one.code}]") for one in run.preflight]
    return facts([*pairs, ("record", run.provenance_digest), ("job", run.job_id), ("MLflow run", run.mlflow_run_id)])


def _origin(run: RunOut) -> str | None:
    if run.origin is None:
        return None
    return f"run {run.origin.run_id}, " + ("done again" if run.origin.step is None else f"from its snapshot of step {run.origin.step}")


def _method(spec: LoraSpec) -> str:
    said = ["a classifier"] * (spec.task is TrainingTask.SEQUENCE_CLASSIFICATION)
    said += [spec.method.value if spec.init is Init.ZERO else f"{spec.method} begun as {spec.init}"]
    rank = None if spec.method is Method.IA3 else spec.rank
    alpha = None if spec.method in {Method.IA3, Method.VERA} else spec.alpha
    dropout = None if spec.method in {Method.IA3, Method.FULL} else spec.dropout
    figures = (("rank", rank), ("alpha", alpha), ("dropout", dropout), ("LoRA+ ratio", spec.lora_plus_ratio))
    said += [f"{name} {value:g}" for name, value in figures if value is not None]
    said += ["scaled by the root of the rank (rsLoRA)"] * spec.use_rslora
    if spec.quantisation is not Quantisation.NONE:
        said.append(f"over the base in {spec.quantisation}")
    said += [f"rank {rank} on {name}" for name, rank in spec.rank_pattern.items()]
    said += [f"alpha {alpha:g} on {name}" for name, alpha in spec.alpha_pattern.items()]
    return f"{', '.join(said)}, on {', '.join(spec.target_modules) or 'every weight of the base'}"


def _measured(metrics: TrainMetrics) -> list[tuple[str, object]]:
    """A finished run's figures; what a run does not have is left out."""
    pairs: list[tuple[str, object]] = [
        ("steps", f"{metrics.steps}, resumed from {metrics.resumed_from_step}" if metrics.resumed_from_step else metrics.steps),
        ("rows", f"{metrics.rows} ({metrics.skipped_rows} skipped: no label token left)"),
        ("rows a pass", f"{metrics.micro_batch_size}, {'packed' if metrics.packed else 'padded'}" if metrics.micro_batch_size else None),
        ("first loss", metrics.first_loss),
        ("final loss", metrics.final_loss),
        ("tokens/s", metrics.tokens_per_s),
        ("seconds", metrics.seconds),
        ("GPU seconds", metrics.gpu_seconds if metrics.gpu_seconds is not None else _NOT_MEASURED),
        ("energy", f"{metrics.energy_j / _KWH_J:.4g} kWh of the whole GPU" if metrics.energy_j is not None else _NOT_MEASURED),
        ("cost", f"{metrics.cost:.4g} {metrics.currency}" if metrics.cost is not None else _NOT_MEASURED),
    ]
    if metrics.processes > 1:
        pairs.append(("processes", f"{metrics.processes}, a device each"))
    if metrics.memory_halvings:
        pairs.append(("out of memory", f"{metrics.memory_halvings} times: passes were halved and the run went on"))
    if metrics.best_step is not None:
        ended = ", where nothing better came the run ended early" if metrics.stopped_early else ""
        right = "" if metrics.validation_accuracy is None else f", {metrics.validation_accuracy:.1%} of the rows right"
        pairs.append(("validation loss", f"{metrics.validation_loss:.4f} at step {metrics.best_step}{right}{ended}"))
    return pairs
