"""`ringi watches`: what is live, looked at again and again. Jobs are what `ringi watch` shows."""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated

import typer
from rich.console import Group, RenderableType

from ringi.cli.asked import AskedInOrder
from ringi.cli.errors import Usage
from ringi.cli.invocation import Commands, connect
from ringi.cli.options import Description, IfMatch, LeastMemory, Limit, LowerPriority, WantedDevice
from ringi.cli.output import cell, emit, emit_list, facts, note, table
from ringi.cli.references import check_name
from ringi.jobs.schemas import placement_of
from ringi.watches.schemas import ChangeWatch, CreateWatch, DriftLimits, LookOut, WatchLineOut, WatchOut

app = Commands("Watches: measure what is live on a schedule, and tell when the gate turns or figures drift.")


def _named(what: str) -> Callable[[str], str]:
    return lambda text: check_name(text, what=what)


Project = Annotated[str, typer.Argument(help="The project.", callback=_named("project"))]
Name = Annotated[str, typer.Argument(metavar="WATCH", help="The watch.", callback=_named("watch"))]
_SCHEDULE = "'every 6h' (s, m, h, d), or five fields of crontab: '0 3 * * mon-fri'."
_ZONE = "The time zone of the crontab, such as Asia/Tokyo."
_BASELINE = "release: the version's own first measurement; base: the bare base; or a version of the adapter: bot:v1."
_METRIC = "How much worse one metric may get: faq.nll=0.1; may be given several times."
_FIGURE = "By which share an operational figure may get worse: item_p95_s=0.5; may be given several times."
_SCORES = "How much worse every metric between 0 and 1 may get."
_WITHIN = "A look without a result after so many seconds has failed."


def _limits(scores: float | None, metric: list[str] | None, figure: list[str] | None) -> DriftLimits | None:
    """The limits that were given, over the usual ones; None when none was."""
    given = {
        name: value for name, value in {"scores": scores, "metrics": _numbers(metric), "operations": _numbers(figure)}.items() if value
    }
    if not given:
        return None
    usual = DriftLimits().model_dump(mode="json")["operations"]
    return DriftLimits.model_validate({**given, "operations": usual | _numbers(figure)})


def _numbers(given: list[str] | None) -> dict[str, float]:
    found = {}
    for one in given or []:
        name, _, number = one.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise Usage(f"'{one}' is no limit.", next_step="Write NAME=NUMBER, such as faq.nll=0.1.") from None
    return found


@app.verb(
    "create",
    "ringi watches create support nightly --channel production --suite quality --schedule '0 3 * * *' --timezone Asia/Tokyo",
    "ringi watches create support bot --channel production --adapter bot --suite quality:v2 --schedule 'every 6h' --baseline bot:v1",
)
def create(
    project: Project,
    name: Name,
    channel: Annotated[list[str], typer.Option(help="What this channel serves; may be given several times.")],
    suite: Annotated[str, typer.Option(metavar="SUITE[:vN]", help="The suite of the project; its newest version without a number.")],
    schedule: Annotated[str, typer.Option(help=_SCHEDULE)],
    adapter: Annotated[str | None, typer.Option(help="Of this adapter alone.", show_default=False)] = None,
    timezone: Annotated[str, typer.Option(help=_ZONE)] = "UTC",
    baseline: Annotated[str, typer.Option(help=_BASELINE)] = "release",
    scores: Annotated[float | None, typer.Option("--score-limit", help=_SCORES, show_default="0.05")] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric-limit", help=_METRIC, show_default=False)] = None,
    figure: Annotated[list[str] | None, typer.Option("--figure-limit", help=_FIGURE, show_default=False)] = None,
    within_s: Annotated[int, typer.Option(min=1, help=_WITHIN)] = 6 * 3600,
    device: WantedDevice = None,
    memory_gib: LeastMemory = None,
    priority: LowerPriority = 0,
    description: Description = "",
) -> None:
    """Watch what channels serve; the first look is due at once, or when the crontab says."""
    body = CreateWatch(
        name=name, description=description, channels=channel, adapter=adapter, suite=suite, schedule=schedule, timezone=timezone, baseline=baseline,
        drift=_limits(scores, metric, figure) or DriftLimits(), within_s=within_s, placement=placement_of(device, memory_gib, priority),
    )  # fmt: skip
    with connect() as client:
        made = client.watches.create(project, body)
    emit(made, lambda: _drawn(made))
    note(
        f"See its looks: ringi watches history {project} {name}. Be told: ringi subscriptions create {project} ops --event 'evaluation.watch.*' …"
    )


@app.verb("list", "ringi watches list support", "ringi watches list support --filter suite=quality --sort due_at")
def list_watches(project: Project, asked: AskedInOrder, limit: Limit = 50) -> None:
    """List the watches of a project, and how what they watch stands."""
    columns = ["watch", "channels", "suite", "schedule", "next look", "stands"]
    with connect() as client:
        emit_list(
            client.watches.all(project, **asked), limit=limit,
            render=lambda found: table(columns, [
                (one.name, one.channels, one.suite, f"{one.schedule} ({one.timezone})", one.due_at or "paused", [_stands(line) for line in one.standing])
                for one in found
            ]),
        )  # fmt: skip


@app.verb("show", "ringi watches show support nightly")
def show(project: Project, name: Name) -> None:
    """Show a watch, and how what it watches stands."""
    with connect() as client:
        found = client.watches.get(project, name)
    emit(found, lambda: _drawn(found))


@app.verb("look", "ringi watches look support nightly")
def look(project: Project, name: Name) -> None:
    """Look now, whatever the schedule says."""
    with connect() as client:
        asked = client.watches.look(project, name)
    emit(asked, lambda: _listed(asked.looks))
    note(f"See what comes of it: ringi watches history {project} {name}.")


@app.verb(
    "history",
    "ringi watches history support nightly",
    "ringi watches history support nightly --metric faq.accuracy --filter channel=production",
    "ringi watches history support nightly --filter turned=true",
)
def history(
    project: Project,
    name: Name,
    asked: AskedInOrder,
    metric: Annotated[
        str | None,
        typer.Option(metavar="TASK.METRIC", help="The trend of one metric, or of a figure such as faq.item_p95_s.", show_default=False),
    ] = None,
    limit: Limit = 50,
) -> None:
    """List every look, newest first; or how one metric went over time."""
    with connect() as client:
        emit_list(
            client.watches.looks(project, name, **asked), limit=limit,
            render=_listed if metric is None else lambda found: _trend(found, metric or ""),
        )  # fmt: skip


@app.verb(
    "change",
    "ringi watches change support nightly --schedule '30 2 * * mon-fri' --suite quality:v3",
    "ringi watches change support nightly --metric-limit faq.nll=0.2 --figure-limit item_p95_s=0.3",
)
def change(
    project: Project,
    name: Name,
    channel: Annotated[list[str] | None, typer.Option(help="These channels instead.", show_default=False)] = None,
    suite: Annotated[str | None, typer.Option(metavar="SUITE[:vN]", help="This suite instead.", show_default=False)] = None,
    schedule: Annotated[str | None, typer.Option(help=_SCHEDULE, show_default=False)] = None,
    timezone: Annotated[str | None, typer.Option(help=_ZONE, show_default=False)] = None,
    baseline: Annotated[str | None, typer.Option(help=_BASELINE, show_default=False)] = None,
    scores: Annotated[float | None, typer.Option("--score-limit", help=_SCORES, show_default=False)] = None,
    metric: Annotated[list[str] | None, typer.Option("--metric-limit", help=_METRIC, show_default=False)] = None,
    figure: Annotated[list[str] | None, typer.Option("--figure-limit", help=_FIGURE, show_default=False)] = None,
    within_s: Annotated[int | None, typer.Option(min=1, help=_WITHIN, show_default=False)] = None,
    description: Annotated[str | None, typer.Option(help="What it is, in any script.", show_default=False)] = None,
    if_match: IfMatch = None,
) -> None:
    """Change a watch; what is left out stays, but limits are set as a whole."""
    given = {
        "channels": channel or None, "suite": suite, "schedule": schedule, "timezone": timezone, "baseline": baseline, "within_s": within_s,
        "description": description, "drift": _limits(scores, metric, figure),
    }  # fmt: skip
    _changed(project, name, ChangeWatch.model_validate({field: value for field, value in given.items() if value is not None}), if_match)


@app.verb("pause", "ringi watches pause support nightly")
def pause(project: Project, name: Name, if_match: IfMatch = None) -> None:
    """Take no more looks until it is resumed."""
    _changed(project, name, ChangeWatch(paused=True), if_match)


@app.verb("resume", "ringi watches resume support nightly")
def resume(project: Project, name: Name, if_match: IfMatch = None) -> None:
    """Look again; what was missed is not made up for."""
    _changed(project, name, ChangeWatch(paused=False), if_match)


@app.verb("remove", "ringi watches remove support nightly")
def remove(project: Project, name: Name, if_match: IfMatch = None) -> None:
    """End it; measurements and decisions stay."""
    with connect() as client:
        removed = client.watches.remove(project, name, if_match=if_match)
    emit(removed, lambda: _drawn(removed))


def _changed(project: str, name: str, body: ChangeWatch, if_match: str | None) -> None:
    with connect() as client:
        changed = client.watches.change(project, name, body, if_match=if_match)
    emit(changed, lambda: _drawn(changed))


def _stands(one: WatchLineOut) -> str:
    said = one.problem.code if one.problem else one.verdict or "first look"
    return f"{one.channel} {one.version or 'nothing'}: {said}{', drifted' if one.drifted else ''}"


def _drawn(one: WatchOut) -> RenderableType:
    pairs: list[tuple[str, object]] = [
        ("watch", one.name), ("description", one.description), ("channels", one.channels), ("adapter", one.adapter or "every one"), ("suite", one.suite),
        ("schedule", f"{one.schedule} ({one.timezone})"), ("next look", one.due_at or f"paused since {cell(one.paused_at)}"),
        ("baseline", one.baseline), ("a score may lose", one.drift.scores),
        ("metrics may lose", [f"{name} {limit:g}" for name, limit in one.drift.metrics.items()]),
        ("figures may lose", [f"{name} {limit:.0%}" for name, limit in one.drift.operations.items()]), ("a look may take", f"{one.within_s} s"),
    ]  # fmt: skip
    rows = [
        (line.channel, line.version, line.problem.code if line.problem else line.state, line.verdict, line.drifted, line.completed_at)
        for line in one.standing
    ]
    return Group(facts(pairs), "", table(["channel", "serves", "state", "verdict", "drifted", "at"], rows))


def _listed(found: Sequence[LookOut]) -> RenderableType:
    return table(["due", "channel", "of", "state", "verdict", "before", "drifted", "measurement"], [
        (one.due_at, one.channel, one.version, one.problem.code if one.problem else one.state, one.verdict, one.verdict_before if one.turned else None,
         [f"{line.task}.{line.metric}" for line in one.drift.scores if line.drifted]
         + [f"{line.task}.{line.figure}" for line in one.drift.operations if line.drifted] if one.drift else None, one.measurement_id)
        for one in found
    ])  # fmt: skip


def _trend(found: Sequence[LookOut], wanted: str) -> RenderableType:
    rows = [(one.due_at, one.channel, one.version, *line) for one in found for line in _lines(one, wanted)]
    return table(["due", "channel", "of", wanted, "first", "difference", "90 % interval", "drifted"], rows)


def _lines(look: LookOut, wanted: str) -> Iterator[tuple[object, ...]]:
    for score in look.drift.scores if look.drift else ():
        if f"{score.task}.{score.metric}" == wanted:
            interval = None if score.low is None or score.high is None else f"{score.low:+.3g} to {score.high:+.3g}"
            yield (score.mean, score.first, score.difference, interval, score.drifted)
    for figure in look.drift.operations if look.drift else ():
        if f"{figure.task}.{figure.figure}" == wanted:
            yield (figure.value, figure.first, figure.change, None, figure.drifted)
