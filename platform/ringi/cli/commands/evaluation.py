"""`ringi evaluate` and the evaluations it starts."""

from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

import typer
from rich.table import Table

from ringi.cli.asked import Asked, AskedInOrder
from ringi.cli.follow import follow
from ringi.cli.invocation import Commands, connect
from ringi.cli.options import Detach, LeastMemory, Limit, LowerPriority, Version, WantedDevice
from ringi.cli.output import cell, emit, emit_list, facts, note, table
from ringi.cli.references import check_name, dataset_within, parse_version
from ringi.evaluation.schemas import EvaluationOut, RequestEvaluation
from ringi.evaluation.verdict import EvaluationSummary, Interval
from ringi.jobs.contracts.evaluation import ArmRecord
from ringi.jobs.schemas import placement_of

app = Commands("Evaluations: a version against a baseline, item by item.")
verbs = Commands()

EvaluationId = Annotated[UUID, typer.Argument(help="The evaluation's id.")]


class Baseline(StrEnum):
    """What a version is compared with."""

    BASE = "base"
    TRAINED_ON = "trained_on"


_BASELINES: dict[Baseline, Literal["base", "trained_on"]] = {Baseline.BASE: "base", Baseline.TRAINED_ON: "trained_on"}


@verbs.verb(
    "evaluate",
    "ringi evaluate risk/answers:v1 --dataset questions",
    "ringi evaluate risk/answers:v1 --dataset questions:v1 --on r2 --baseline trained_on",
)
def evaluate(
    reference: Version,
    dataset: Annotated[str, typer.Option(help="Its validation split is used: NAME or NAME:v1 of the same project.")],
    on: Annotated[str | None, typer.Option(metavar="rN", help="Base revision to run on; its own unless given.", show_default=False)] = None,
    baseline: Annotated[Baseline, typer.Option(help="The bare base, or the version on the base it was trained on.")] = Baseline.BASE,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=4096, help="Tokens of a generated answer.")] = 32,
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="Items a pass.")] = 16,
    max_length: Annotated[int, typer.Option(min=8, help="Tokens of an item.")] = 512,
    device: WantedDevice = None,
    memory_gib: LeastMemory = None,
    priority: LowerPriority = 0,
    detach: Detach = False,
) -> None:
    """Compare a version with a baseline on a dataset's validation split, and show the verdict."""
    wanted = parse_version(reference)
    body = RequestEvaluation(
        dataset=dataset_within(dataset, project=wanted.project), base_revision=on, baseline=_BASELINES[baseline], max_new_tokens=max_new_tokens,
        batch_size=batch_size, max_length=max_length, placement=placement_of(device, memory_gib, priority),
    )  # fmt: skip
    with connect() as client:
        asked = client.evaluations.request(wanted.project, wanted.name, wanted.selector or "", body)
        if not detach:
            follow(client, asked.job_id, f"evaluating {asked.version}")
            # The selector may be a channel that has moved meanwhile; the version is what was evaluated.
            asked = client.evaluations.get(wanted.project, wanted.name, asked.version.rpartition(":")[2], asked.id)
    emit(asked, lambda: _drawn(asked))
    if detach:
        note(f"Follow it: ringi jobs wait {asked.job_id}. See it: ringi evaluations show {asked.version} {asked.id}.")


@app.verb(
    "list", "ringi evaluations list risk/answers:v1", "ringi evaluations list risk --filter verdict=better --sort -metrics.improvement"
)
def list_evaluations(
    reference: Annotated[str, typer.Argument(metavar="REF|PROJECT", help="A version, or a project for all of its versions.")],
    asked: AskedInOrder,
    limit: Limit = 50,
) -> None:
    """List the evaluations of a version, or of a whole project."""
    columns = ["evaluation", "state", "on", "against", "dataset", "verdict", "improvement", "items", "requested"]
    with connect() as client:
        if "/" in reference:
            wanted = parse_version(reference)
            listed = client.evaluations.all(wanted.project, wanted.name, wanted.selector or "", **asked)
        else:
            listed = client.evaluations.all_of_project(check_name(reference, what="project"), **asked)
        emit_list(
            listed, limit=limit,
            render=lambda found: table(columns, [
                (one.id, one.state, one.base, one.baseline, one.dataset, one.summary.verdict if one.summary else None,
                 one.summary.improvement if one.summary else None, one.summary.scored if one.summary else None, one.created_at) for one in found
            ]),
        )  # fmt: skip


@app.verb("show", "ringi evaluations show risk/answers:v1 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e")
def show(reference: Version, evaluation: EvaluationId) -> None:
    """Show an evaluation: verdict, intervals, reasons, slices."""
    wanted = parse_version(reference)
    with connect() as client:
        found = client.evaluations.get(wanted.project, wanted.name, wanted.selector or "", evaluation)
    emit(found, lambda: _drawn(found))


@app.verb(
    "records", "ringi evaluations records risk/answers:v1 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e --limit 20",
    "ringi evaluations records risk/answers:v1 0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e --filter flip=negative --sort improvement",
)  # fmt: skip
def records(reference: Version, evaluation: EvaluationId, asked: Asked, limit: Limit = 50) -> None:
    """Show the items one by one: the reference, both answers, both likelihoods."""
    wanted = parse_version(reference)
    columns = ["item", "reference", "candidate", "baseline", "candidate nll", "baseline nll"]
    with connect() as client:
        emit_list(
            client.evaluations.records(wanted.project, wanted.name, wanted.selector or "", evaluation, **asked), limit=limit,
            render=lambda found: table(columns, [
                (one.item, one.reference, _answer(one.candidate), _answer(one.baseline), one.candidate.nll, one.baseline.nll) for one in found
            ]),
        )  # fmt: skip


def _answer(arm: ArmRecord) -> str:
    mark = {True: "✓ ", False: "✗ ", None: "? "}[arm.match]
    return mark + arm.output


def _drawn(evaluation: EvaluationOut) -> Table:
    whole = Table.grid()
    pairs: list[tuple[str, object]] = [
        ("evaluation", evaluation.id),
        ("state", evaluation.state),
        ("version", evaluation.version),
        ("on", evaluation.base),
        ("against", evaluation.baseline),
        ("dataset", evaluation.dataset),
    ]
    if evaluation.error is not None:
        pairs += [("error", f"{evaluation.error.message} [{evaluation.error.code}]"), ("next", evaluation.error.next_step)]
    summary = evaluation.summary
    if summary is not None:
        pairs += _measured(summary)
    pairs += [("evidence", evaluation.evidence_digest), ("records", evaluation.records_digest), ("job", evaluation.job_id)]
    whole.add_row(facts(pairs))
    if summary is not None and summary.slices:
        rows = [
            (f"{one.key}={one.value}", one.n, one.improvement, one.candidate_match_rate, one.baseline_match_rate) for one in summary.slices
        ]
        whole.add_row("")
        whole.add_row(table(["slice", "items", "improvement", "candidate match", "baseline match"], rows))
    return whole


def _measured(summary: EvaluationSummary) -> list[tuple[str, object]]:
    return [
        ("verdict", summary.verdict),
        ("regressed", "not told: too few items" if summary.regressed is None else summary.regressed),
        ("items", f"{summary.scored} scored, {summary.unscored} not scored, {summary.minimum_items} needed"),
        ("nats per token", f"candidate {cell(summary.candidate_nll)}, baseline {cell(summary.baseline_nll)}"),
        ("improvement", f"{cell(summary.improvement)} {_interval(summary.improvement_interval)}"),
        (
            "match",
            f"candidate {cell(summary.candidate_match_rate)}, baseline {cell(summary.baseline_match_rate)}, of {summary.matched} items",
        ),
        ("match difference", f"{cell(summary.match_difference)} {_interval(summary.match_difference_interval)}"),
        ("flips", f"{len(summary.positive_flips)} for the better, {len(summary.negative_flips)} for the worse"),
        *(("because", f"{reason.text} [{reason.code}]") for reason in summary.reasons),
    ]


def _interval(interval: Interval | None) -> str:
    return "(no interval)" if interval is None else f"[{interval.low:+.4f}, {interval.high:+.4f}] at {interval.confidence:.0%}"
