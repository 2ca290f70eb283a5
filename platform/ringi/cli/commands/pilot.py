"""`ringi pilot`: train several ways on one dataset, compare them with the bare base, and write a page that says which to take.

A client like any other: what it does, `ringi adapters`, `train`, `suites` and `sweep` do by hand. The platform keeps what was trained and measured,
so the same command again goes on where it was; this file keeps nothing.
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType

from ringi.cli.client import RingiClient
from ringi.cli.errors import Usage
from ringi.cli.invocation import Commands, connect, in_project
from ringi.cli.options import LeastMemory, LowerPriority, WantedDevice
from ringi.cli.output import emit, note, table
from ringi.cli.pilot_arms import Setting, Trained, looking_again, trained
from ringi.cli.pilot_files import figures_of, folder_of, written
from ringi.cli.pilot_measuring import Yard, found_arms, swept_once, yard_of, yard_of_rows
from ringi.cli.plan_options import Epochs, MostSteps, RowsOfAStep, Targets, TokensOfARow, by_module, checked_plan, of_plan
from ringi.cli.references import Reference, check_name, parse_base_revision, parse_dataset_version, parse_suite_version
from ringi.datasets.schemas import DatasetVersionOut
from ringi.jobs.contracts.methods import USUAL_RANK, Method
from ringi.jobs.contracts.suites import Answering
from ringi.jobs.schemas import placement_of
from ringi.pilots import telling
from ringi.pilots.comparing import compared
from ringi.pilots.page import writer
from ringi.pilots.schemas import BASE, FULL, Figures, Ground, Language, Report
from ringi.sweeps.schemas import SweepOut
from ringi.training.schemas import TrainingPlan

verbs = Commands()
_PLAN = TrainingPlan()
_KNOWN = tuple(one.value for one in Method)
_USUAL = "lora,dora,full"
# Full fine-tuning wants about a tenth of the rate that LoRA wants (Biderman et al. 2024, arXiv:2405.09673, section 3).
_SHARE_OF_RATE = 0.1


class UnknownMethods(Usage):
    """An arm that the platform cannot train."""

    code = "pilot_methods_unknown"

    def __init__(self, unknown: list[str], known: tuple[str, ...]) -> None:
        named = f"no method '{', '.join(unknown)}'" if unknown else "no method named"
        super().__init__(
            f"There is {named} here; there are {', '.join(known)}. The base as it is is always an arm.",
            next_step="Name some of these: --methods lora,dora.",
            details={"unknown": unknown, "known": list(known)},
        )


@verbs.verb(
    "pilot",
    "ringi pilot support/faq:v1 --base smollm2 --choices-from category --out pilot",
    "ringi pilot support/faq --base smollm2:r2 --methods lora,dora --rank 8 --epochs 2 --learning-rate 0.001 --learning-rate-of dora=0.0005",
    "ringi pilot support/faq:v1 --base smollm2 --suite quality:v2 --language ja --out 報告書 --roi figures.yaml",
    "ringi pilot support/faq:v1 --base smollm2 --currency JPY --requests-per-month 4000 --minutes-saved 3 --hourly-wage 2800"
    " --wrong-answer-cost 150 --running-cost 60000 --one-off-cost 900000 --months 12",
)
def pilot(  # long: an option a line
    dataset: Annotated[str, typer.Argument(metavar="[PROJECT/]DATASET[:vN]", help="What is learnt; its validation rows judge.", callback=in_project)],
    base: Annotated[str, typer.Option(metavar="BASE[:rN]", help="The base model; its latest revision without a number.")],
    methods: Annotated[str, typer.Option(metavar="METHOD,…", help=f"The arms beside the base, of {', '.join(_KNOWN)}.")] = _USUAL,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where pilot.json, pilot.html and the pictures are written.")] = Path("pilot"),
    name: Annotated[str | None, typer.Option(help="Adapters and suite begin with it: pilot-DATASET-vN unless given.", show_default=False)] = None,
    language: Annotated[Language, typer.Option(help="In what the page is written.")] = Language.ENGLISH,
    choices_from: Annotated[str | None, typer.Option(metavar="COLUMN", help="An answer is a choice among the values of this column.", show_default=False)] = None,
    answering: Annotated[Answering | None, typer.Option(help="Unless there are choices: exact.", show_default=False)] = None,
    suite: Annotated[str | None, typer.Option(metavar="NAME[:vN]", help="In place of the validation rows: a suite; its first requirement judges.", show_default=False)] = None,
    at_once: Annotated[int, typer.Option(min=1, max=1024, help="Questions that are asked together; with 1 a latency is what one waits.")] = 1,
    rank: Annotated[int, of_plan("rank", "Rank of every arm that has one.")] = USUAL_RANK,
    target_module: Targets = None,
    learning_rate: Annotated[float | None, of_plan("learning_rate", "Peak learning rate of all arms, a tenth of it for full; what is usual for each unless given.", show_default=False)] = None,
    learning_rate_of: Annotated[list[str] | None, typer.Option(help="METHOD=NUMBER: an arm's own; repeat it.", show_default=False)] = None,
    epochs: Epochs = _PLAN.epochs,
    max_steps: MostSteps = None,
    batch_size: RowsOfAStep = _PLAN.batch_size,
    max_length: TokensOfARow = _PLAN.max_length,
    seed: Annotated[int, of_plan("seed", "Seed of every arm.")] = _PLAN.seed,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Train and measure again what failed before.")] = False,
    roi: Annotated[Path | None, typer.Option(metavar="FILE", help="Your figures for the return, as YAML (docs/pilot.md).", show_default=False)] = None,
    currency: Annotated[str | None, typer.Option(help="Of the money below, as JPY.", show_default=False)] = None,
    requests_per_month: Annotated[float | None, typer.Option(min=0, help="Requests a month.", show_default=False)] = None,
    minutes_saved: Annotated[float | None, typer.Option(min=0, help="Minutes that a right answer saves.", show_default=False)] = None,
    hourly_wage: Annotated[float | None, typer.Option(min=0, help="What an hour of that work costs.", show_default=False)] = None,
    wrong_answer_cost: Annotated[float | None, typer.Option(min=0, help="What a wrong answer costs.", show_default=False)] = None,
    running_cost: Annotated[float | None, typer.Option(min=0, help="What serving costs a month.", show_default=False)] = None,
    one_off_cost: Annotated[float | None, typer.Option(min=0, help="What is spent once, without training.", show_default=False)] = None,
    months: Annotated[float | None, typer.Option(min=0, help="Over how many months it is counted.", show_default=False)] = None,
    device: WantedDevice = None,
    memory_gib: LeastMemory = None,
    priority: LowerPriority = 0,
) -> None:  # fmt: skip
    """Compare ways of adapting a base on one dataset: quality, memory, time, cost, latency and return, as a page. Goes on where it was."""
    arms = _methods(methods)
    figures = figures_of(roi, {
        "currency": currency, "requests_per_month": requests_per_month, "minutes_saved": minutes_saved, "hourly_wage": hourly_wage,
        "wrong_answer_cost": wrong_answer_cost, "running_cost": running_cost, "one_off_cost": one_off_cost, "months": months,
    })  # fmt: skip
    plans = _plans(arms, learning_rate, learning_rate_of, {
        "rank": rank, "target_modules": target_module or _PLAN.target_modules, "epochs": epochs, "max_steps": max_steps, "batch_size": batch_size,
        "max_length": max_length, "seed": seed,
    })  # fmt: skip
    folder, rows, placement = folder_of(out), parse_dataset_version(dataset), placement_of(device, memory_gib, priority)
    with connect() as client:
        sealed = client.datasets.version(rows.project, rows.name, rows.selector or "latest")
        rows = rows._replace(selector=f"v{sealed.number}")
        setting = _setting(client, rows, base, name)
        try:
            chosen = looking_again(lambda: _yard(client, setting, rows, suite, choices_from=choices_from, answering=answering))
            done = looking_again(lambda: trained(client, setting, plans, placement=placement, retry_failed=retry_failed))
            versions = [one.version for one in done if one.version is not None]
            sweep = looking_again(lambda: swept_once(
                client, setting.project, chosen, base=f"{setting.base}:r{setting.revision}", versions=versions, at_once=at_once, placement=placement,
                again=retry_failed,
            ))  # fmt: skip
        except (typer.Exit, KeyboardInterrupt):
            note("What was started goes on. The same command goes on with it, and trains nothing twice.")
            raise
        report = _reported(client, setting, sealed, chosen, done, sweep, figures, on_validation=suite is None)
    _end(report, written(report, folder, language), language)


def _methods(text: str) -> list[str]:
    """The arms, each once, in the order in which they are named; raises UnknownMethods."""
    named = list(dict.fromkeys(one.strip() for one in text.split(",") if one.strip()))
    unknown = [one for one in named if one not in _KNOWN]
    if unknown or not named:
        raise UnknownMethods(unknown, _KNOWN)
    return named


def _plans(arms: list[str], rate: float | None, own: list[str] | None, alike: dict[str, object]) -> dict[str, TrainingPlan]:
    """The recipe of each arm; raises UnknownMethods, BadPlan."""
    given = by_module(own)
    if astray := [one for one in given if one not in arms]:
        raise UnknownMethods(astray, tuple(arms))
    rates: dict[str, object] = {arm: rate if rate is None or arm != FULL else float(f"{rate * _SHARE_OF_RATE:.12g}") for arm in arms}
    rates |= given
    # Every weight is trained there: no rank, no targets.
    without_form = {name: value for name, value in alike.items() if name not in {"rank", "target_modules"}}
    return {arm: checked_plan(**((without_form if arm == FULL else alike) | {"method": arm, "learning_rate": rates[arm]})) for arm in arms}


def _setting(client: RingiClient, rows: Reference, base: str, name: str | None) -> Setting:
    wanted = parse_base_revision(base)
    revision = client.bases.revision(wanted.name, wanted.selector or "latest")
    called = check_name(name or f"pilot-{rows.name}-{rows.selector}", what="pilot")
    return Setting(rows.project, called, f"{rows.name}:{rows.selector}", wanted.name, revision.number, revision.facts)


def _yard(
    client: RingiClient, setting: Setting, rows: Reference, suite: str | None, *, choices_from: str | None, answering: Answering | None
) -> Yard:
    if suite is None:
        return yard_of_rows(client, rows, name=setting.name, choices_from=choices_from, answering=answering)
    if choices_from is not None or answering is not None:
        raise Usage("A suite says itself how it is answered.", next_step="Leave out --choices-from and --answering, or --suite.")
    wanted = parse_suite_version(suite if "/" in suite else f"{setting.project}/{suite}")
    if wanted.project != setting.project:
        raise Usage(f"The suite must be in the project '{setting.project}'.", next_step=f"Name one of it: {setting.project}/{wanted.name}.")
    return yard_of(client, setting.project, wanted)


def _reported(
    client: RingiClient,
    setting: Setting,
    rows: DatasetVersionOut,
    yard: Yard,
    arms: list[Trained],
    sweep: SweepOut,
    figures: Figures,
    *,
    on_validation: bool,
) -> Report:
    facts = client.bases.revision(setting.base, f"r{setting.revision}").facts
    parameters = facts.parameters if facts is not None else None
    shown = next((one for one in arms if one.method != FULL), arms[0]).plan
    ground = Ground(
        name=setting.name, dataset=rows.reference, dataset_digest=rows.digest, train_rows=rows.report.train_rows,
        validation_rows=rows.report.validation_rows, items=yard.suite.facts[yard.task].items, on_validation=on_validation,
        base=f"{setting.base}:r{setting.revision}", base_parameters=parameters, suite=yard.suite.reference, suite_digest=yard.suite.digest, task=yard.task, metric=yard.metric, lower_is_better=yard.lower_is_better,
        right_or_wrong=yard.right_or_wrong, plan=shown.model_dump(mode="json", exclude={"method", "learning_rate"}),
    )  # fmt: skip
    found = found_arms(client, setting.project, yard, sweep, arms, base_parameters=parameters)
    return compared(ground, found, figures, measured_at=sweep.finished_at)


def _end(report: Report, files: list[Path], language: Language) -> None:
    """Print what the page begins with; ends with code 1 where no arm came to a version."""
    emit(report, lambda: _drawn(report, language))
    note(f"Written: {', '.join(map(str, files))}.")
    chosen = next((arm for arm in report.arms if arm.name == report.recommendation.arm), None)
    if chosen is not None and chosen.name != FULL:
        note(f"What {chosen.version} still needs for a release: ringi standing {chosen.version}.")
    if all(arm.version is None for arm in report.arms if arm.name != BASE):
        raise typer.Exit(code=1)


def _drawn(report: Report, language: Language) -> RenderableType:
    words = writer(report, language)
    tables = [telling.quality(report, words), telling.effort(report, words)]
    if any(arm.returns is not None for arm in report.arms):
        tables.append(telling.returned(report, words))
    return Group(*telling.opening(report, words), *(part for one in tables for part in ("", table(one.columns, one.rows))))
