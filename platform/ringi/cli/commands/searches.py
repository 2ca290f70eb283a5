"""`ringi search-rank`: which rank and learning rate to train with; and the searches that it starts."""

import shlex
from typing import Annotated
from uuid import UUID

import typer
from rich.console import Group, RenderableType

from ringi.cli.asked import AskedInOrder
from ringi.cli.client import RingiClient
from ringi.cli.follow import follow, said_state
from ringi.cli.invocation import Commands, connect
from ringi.cli.options import AdapterName, Detach, LeastMemory, Limit, LowerPriority, WantedDevice
from ringi.cli.output import emit, emit_list, facts, note, table
from ringi.cli.plan_options import (
    AfterWarmUp,
    Decay,
    Dropped,
    FewerActivations,
    PackingMode,
    RowsOfAPass,
    RowsOfAStep,
    ScaledByRoot,
    StepsBetweenSnapshots,
    Targets,
    TokensOfAPack,
    TokensOfARow,
    WarmUp,
    WhatIsLearnt,
    checked_plan,
    of_plan,
)
from ringi.cli.references import Reference, check_name, dataset_within, parse_adapter
from ringi.jobs.contracts.training import LoraSpec
from ringi.jobs.schemas import OPEN, placement_of
from ringi.searches.schemas import RecommendationOut, RequestSearch, SearchLine, SearchOut, TrialOut
from ringi.training.schemas import TrainingPlan

app = Commands("Searches for a rank and a learning rate.")
verbs = Commands()
_PLAN = TrainingPlan()
_RANKS = (4, 8, 16, 32)
# Of the rate that a run would have without one: the searched ones lie on both sides of it.
_OF_USUAL = (1 / 3, 1, 3)
_ID = "0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e"
Project = Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")]
JobId = Annotated[UUID, typer.Argument(metavar="SEARCH", help="The search: the id of its job.")]
_RATES_HELP = (
    "A peak learning rate to try; repeat it. Unless given: what `ringi train` takes for the base, a third of it and three times it."
)
LearningRates = Annotated[list[float] | None, typer.Option(help=_RATES_HELP, show_default=False)]


@verbs.verb(
    "search-rank",
    "ringi search-rank risk/answers --dataset questions",
    "ringi search-rank risk/answers --dataset questions:v2 --rank 4 --rank 16 --learning-rate 0.0002 --learning-rate 0.001 --epochs 2",
    "ringi search-rank risk/answers --dataset questions --reduction 2 --first-steps 50 --tie 0.02 --detach",
)
def search_rank(
    name: AdapterName,
    dataset: Annotated[str, typer.Option(help="A dataset of the same project: NAME or NAME:v1.")],
    base_revision: Annotated[str, typer.Option(help="The revision of its base to train on.")] = "latest",
    rank: Annotated[list[int] | None, typer.Option(help=f"A rank to try; repeat it. {_RANKS} unless given.", show_default=False)] = None,
    learning_rate: LearningRates = None,
    reduction: Annotated[int, typer.Option(min=2, max=8, help="One of so many goes on at each comparison.")] = 3,
    first_steps: Annotated[int, typer.Option(min=1, help="No comparison before so many steps.")] = 20,
    tie: Annotated[float, typer.Option(min=0, max=1, help="Share above the best loss that counts as equal; the smaller rank wins.")] = 0.01,
    alpha: Annotated[float | None, of_plan("alpha", "Scale of every trial; twice its rank unless given.", show_default=False)] = None,
    dropout: Dropped = _PLAN.dropout,
    target_module: Targets = None,
    use_rslora: ScaledByRoot = None,
    epochs: Annotated[int, of_plan("epochs", "Passes over the rows of a whole trial.")] = _PLAN.epochs,
    max_steps: Annotated[int | None, of_plan("max_steps", "End a whole trial after so many steps.", show_default=False)] = None,
    batch_size: RowsOfAStep = _PLAN.batch_size,
    warmup_fraction: WarmUp = _PLAN.warmup_fraction,
    weight_decay: Decay = _PLAN.weight_decay,
    max_length: TokensOfARow = _PLAN.max_length,
    seed: Annotated[int, of_plan("seed", "Seed of every trial.")] = _PLAN.seed,
    checkpoint_every: StepsBetweenSnapshots = _PLAN.checkpoint_every,
    micro_batch_size: RowsOfAPass = None,
    packing: PackingMode = _PLAN.packing,
    pack_length: TokensOfAPack = _PLAN.pack_length,
    schedule: AfterWarmUp = _PLAN.schedule,
    gradient_checkpointing: FewerActivations = _PLAN.gradient_checkpointing,
    task: WhatIsLearnt = None,
    device: WantedDevice = None,
    memory_gib: LeastMemory = None,
    priority: LowerPriority = 0,
    detach: Detach = False,
) -> None:
    """Train every rank with every learning rate, stop the losers early, and recommend one pair with its evidence. Seals nothing."""
    wanted = parse_adapter(name)
    plan = checked_plan(
        alpha=alpha, dropout=dropout, target_modules=target_module, use_rslora=use_rslora, epochs=epochs, max_steps=max_steps,
        batch_size=batch_size, warmup_fraction=warmup_fraction, weight_decay=weight_decay, max_length=max_length, seed=seed,
        checkpoint_every=checkpoint_every, micro_batch_size=micro_batch_size, packing=packing, pack_length=pack_length, schedule=schedule,
        gradient_checkpointing=gradient_checkpointing, task=task,
    )  # fmt: skip
    with connect() as client:
        body = RequestSearch(
            adapter=wanted.name, dataset=dataset_within(dataset, project=wanted.project), base_revision=base_revision, ranks=rank or list(_RANKS),
            learning_rates=learning_rate or _around_usual(client, wanted, base_revision, plan), plan=plan, reduction=reduction,
            first_steps=first_steps, tie=tie, placement=placement_of(device, memory_gib, priority),
        )  # fmt: skip
        found = client.searches.request(wanted.project, body)
        for one in found.preflight:
            note(f"{one.gravity}: {one.message} [{one.code}]")
        if not detach:
            follow(client, found.job_id, f"searching for {wanted}")
            found = client.searches.get(wanted.project, found.job_id)
    emit(found, lambda: _drawn(found))
    if detach:
        note(f"Follow it: ringi jobs wait {found.job_id}. See it: ringi searches show {wanted.project} {found.job_id}.")


def _around_usual(client: RingiClient, wanted: Reference, base_revision: str, plan: TrainingPlan) -> list[float]:
    base = client.adapters.get(wanted.project, wanted.name).base
    usual = plan.resolved(client.bases.revision(base, base_revision).facts).learning_rate
    return [float(f"{usual * factor:.2g}") for factor in _OF_USUAL]


@app.verb("list", "ringi searches list risk", "ringi searches list risk --filter adapter=risk/answers --filter state=succeeded")
def list_searches(project: Project, asked: AskedInOrder, limit: Limit = 50) -> None:
    """List searches, newest first."""
    with connect() as client:
        emit_list(
            client.searches.all(check_name(project, what="project"), **asked), limit=limit,
            render=lambda found: table(["search", "state", "adapter", "dataset", "base", "trials", "created"], [
                (one.job_id, one.state, one.adapter, one.dataset, one.base, _counts(one), one.created_at) for one in found
            ]),
        )  # fmt: skip


@app.verb("show", f"ringi searches show risk {_ID}")
def show(project: Project, search: JobId) -> None:
    """Show a search: every trial with its validation losses, what was stopped when, and what is recommended. Cancel it: ringi jobs cancel."""
    with connect() as client:
        found = client.searches.get(check_name(project, what="project"), search)
    emit(found, lambda: _drawn(found))


def _counts(one: SearchLine) -> list[str]:
    return [f"{count} {state}" for state, count in one.trials.items() if count]


def _drawn(found: SearchOut) -> RenderableType:
    rule = found.rule
    pairs: list[tuple[str, object]] = [
        ("search", found.job_id), ("state", said_state(found.state, cancel_requested=found.cancel_requested)), ("adapter", found.adapter),
        ("dataset", found.dataset), ("base", found.base), ("trials", _counts(found)),
        ("rule", f"one of {rule.reduction} goes on at each comparison, the first after at least {rule.first_steps} steps; losses within {rule.tie:.2%} are equal"),
        ("compared after steps", found.compared_after or None), ("doing", found.progress.phase if found.progress and found.state in OPEN else None),
        ("started", found.started_at), ("finished", found.finished_at),
    ]  # fmt: skip
    if found.error is not None:
        pairs.append(("error", f"{found.error.message} [{found.error.code}]"))
    columns = ["rank", "learning rate", "state", *(f"loss at {step}" for step in found.compared_after), "seconds", "tokens learnt", "what"]
    trials = table(columns, [_row(one, found.compared_after) for one in found.children])
    if found.recommendation is None:
        return Group(facts(pairs), "", trials)
    return Group(facts(pairs), "", trials, "", facts(_recommended(found, found.recommendation)))


def _row(one: TrialOut, compared_after: list[int]) -> tuple[object, ...]:
    losses = {found.step: found.validation_loss for found in one.comparisons}
    last = one.comparisons[-1] if one.comparisons else None
    what = f"stopped after {one.stopped_after} steps" if one.stopped_after is not None else one.problem.code if one.problem else None
    shown = [f"{losses[step]:.4f}" if step in losses else None for step in compared_after]
    return (one.rank, f"{one.learning_rate:g}", one.state, *shown, last and round(last.seconds, 1), last and last.label_tokens, what)


def _recommended(found: SearchOut, advice: RecommendationOut) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = [
        ("recommended", f"rank {advice.spec.rank}, learning rate {advice.spec.learning_rate:g}"),
        ("validation loss", f"{advice.validation_loss:.4f}"),
    ]
    pairs += [("because", reason) for reason in advice.reasons]
    pairs += [("mind", caution) for caution in advice.cautions]
    return [*pairs, ("train it", command_of(found, advice.spec))]


def command_of(found: SearchOut, spec: LoraSpec) -> str:
    """The command that trains the recommended pair on the same rows and base."""
    base_revision, dataset = found.base.rpartition(":")[2], found.dataset.partition("/")[2]
    words = ["ringi", "train", found.adapter, "--dataset", dataset, "--base-revision", base_revision]
    told = {"rank", "learning_rate"}
    usual = TrainingPlan(rank=spec.rank).resolved()
    for name, value in spec:
        option = f"--{name.replace('_', '-')}"
        if name not in told and value == getattr(usual, name):
            continue
        if name == "target_modules":
            words += [word for module in value for word in ("--target-module", module)]
        elif value is True:
            words.append(option)
        else:
            words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    return shlex.join(words)
