"""`ringi sweep`: measure many versions with a suite, see how far that is, and cancel it or one of its arms."""

import time
from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Group, RenderableType
from typer.core import TyperGroup

from ringi.cli.asked import AskedInOrder
from ringi.cli.client import RingiClient
from ringi.cli.commands.measurements import listed_measurements
from ringi.cli.errors import INTERRUPTED
from ringi.cli.follow import said_state
from ringi.cli.invocation import Commands, connect, invocation
from ringi.cli.options import Detach, IfMatch, LeastMemory, Limit, LowerPriority, SuiteVersion, WantedDevice
from ringi.cli.output import emit, emit_list, facts, note, table
from ringi.cli.references import check_name, named_suite, parse_suite_version, version_within
from ringi.jobs.schemas import OPEN, JobOut, placement_of
from ringi.measurements.schemas import MeasurementOut, MeasurementState, RequestSweep
from ringi.sweeps.schemas import SweepLine, SweepOut

_LOOK_EVERY_S, _LINE_EVERY_S = 1.0, 10.0
_ID, _ARM = "0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5e", "0198f0c2-7a3e-7c51-9d1e-3f5a1b2c4d5f"


class _Starting(TyperGroup):
    """What is no command of the group is a suite: `ringi sweep support/quality …` is `ringi sweep start support/quality …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Called with everything behind `ringi sweep`."""
        known = {*self.commands, "--help", "-h"}
        return super().parse_args(ctx, args if not args or args[0] in known else ["start", *args])


app = Commands("Sweeps: many versions, one suite, the base loaded once.", group=_Starting)
Project = Annotated[str, typer.Argument(metavar="PROJECT", help="The project.")]
JobId = Annotated[UUID, typer.Argument(metavar="SWEEP", help="The sweep: the id of its job.")]
OnBase = Annotated[
    str | None,
    typer.Option("--on", metavar="BASE:rN", help="The base revision; the one they were trained on unless given.", show_default=False),
]


@app.verb(
    "start",
    "ringi sweep start support/quality support/bot:v1 support/bot:v2 --include-base",
    "ringi sweep start support/quality:v1 support/bot:production --on smollm2:r2 --again --detach",
    "ringi sweep start support/quality support/bot:v2 support/bot:v3 --stop-early-against channel:production",
)
def start(
    suite: SuiteVersion,
    versions: Annotated[list[str] | None, typer.Argument(metavar="REF…", help="Versions of the same project.", show_default=False)] = None,
    on: OnBase = None,
    include_base: Annotated[bool, typer.Option("--include-base", help="Measure the bare base, too.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Measure also what was measured with the same bytes and runtime.")] = False,
    stop_early_against: Annotated[
        str | None,
        typer.Option(
            metavar="BASELINE", show_default=False,
            help="channel:NAME, base, a version or a measurement that is measured already: what is shown to be worse by more than a margin is not asked the rest.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=1024, help="Items a pass.")] = 16,
    device: WantedDevice = None,
    memory_gib: LeastMemory = None,
    priority: LowerPriority = 0,
    detach: Detach = False,
) -> None:  # fmt: skip
    """Measure versions with a suite: the base is loaded once, and what is done is kept."""
    wanted = parse_suite_version(suite)
    body = RequestSweep(
        suite=named_suite(wanted), base_revision=on, versions=[version_within(one, project=wanted.project) for one in versions or []],
        include_base=include_base, again=again, stop_early_against=_against(stop_early_against, wanted.project), batch_size=batch_size,
        placement=placement_of(device, memory_gib, priority),
    )  # fmt: skip
    with connect() as client:
        found = swept(client, wanted.project, body, detach=detach)
    emit(found, lambda: listed_measurements(found.measurements))
    named = len(body.versions) + body.include_base
    if len(found.measurements) < named:
        note(f"{named} arms were named and there are {len(found.measurements)}: a version that is named twice is one arm.")
    if found.items_saved:
        note(f"{found.items_saved} of {found.items} items were not asked: their arms were stopped early.")
    if detach:
        note(f"Follow it: ringi jobs wait {found.job_id}. See it: ringi sweep show {wanted.project} {found.job_id}.")


def _against(text: str | None, project: str) -> str | None:
    if text is None or "/" not in text:
        return text
    return version_within(text, project=project)


def swept(client: RingiClient, project: str, body: RequestSweep, *, detach: bool = False) -> SweepOut:
    """A sweep that was waited for. Raises JobFailed."""
    asked = client.sweeps.request(project, body)
    return asked if detach else followed(client, project, asked)


def followed(client: RingiClient, project: str, asked: SweepOut) -> SweepOut:
    """The sweep once it has ended, its arms told as they end. Raises JobFailed."""
    try:
        lines = _Lines(client, project, asked)
        client.wait(asked.job_id, None if invocation.as_data else lines.look)
    except KeyboardInterrupt:
        note(
            f"The sweep goes on. See it: ringi sweep show {project} {asked.job_id}. Cancel it: ringi sweep cancel {project} {asked.job_id}."
        )
        raise typer.Exit(INTERRUPTED) from None
    return client.sweeps.get(project, asked.job_id)


class _Lines:
    """A line for each arm that ended, and now and then how far all are."""

    def __init__(self, client: RingiClient, project: str, asked: SweepOut) -> None:
        self._client, self._project, self._job = client, project, asked.job_id
        self._known = {one.id: one.state for one in asked.measurements}
        self._looked_at, self._said_at = 0.0, 0.0

    def look(self, job: JobOut) -> None:
        now = time.monotonic()
        if job.state in OPEN and now - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = now
        found = self._client.sweeps.get(self._project, self._job)
        ended = [one for one in found.measurements if one.state is not self._known[one.id]]
        for one in ended:
            self._known[one.id] = one.state
            note(f"{name_of(one)}: {one.problem.message if one.problem else one.state.value}")
        if ended or now - self._said_at > _LINE_EVERY_S:
            self._said_at = now
            note(_overall(found, waiting=job.waiting_for.text if job.waiting_for else None))


def name_of(one: MeasurementOut) -> str:
    """What an arm is of."""
    return one.version or f"bare base {one.base}"


def _overall(found: SweepLine, *, waiting: str | None = None) -> str:
    arms, total = found.arms, sum(getattr(found.arms, name) for name in ("pending", "measured", "stopped", "failed", "cancelled"))
    parts = [str(found.state), f"{total - arms.pending} of {total} arms", f"{found.items_done} of {found.items} items"]
    if found.eta_s is not None:
        parts.append(f"about {timedelta(seconds=round(found.eta_s))} left")
    return "  ".join([*parts, f"waits for: {waiting}"] if waiting else parts)


@app.verb("list", "ringi sweep list support", "ringi sweep list support --filter state=running")
def list_sweeps(project: Project, asked: AskedInOrder, limit: Limit = 50) -> None:
    """List sweeps, newest first."""
    with connect() as client:
        emit_list(
            client.sweeps.all(check_name(project, what="project"), **asked), limit=limit,
            render=lambda found: table(["sweep", "state", "suite", "on", "arms", "items", "left", "created"], [
                (one.job_id, one.state, one.suite, one.base, _counts(one), f"{one.items_done}/{one.items}", _left(one), one.created_at) for one in found
            ]),
        )  # fmt: skip


@app.verb("show", f"ringi sweep show support {_ID}")
def show(project: Project, sweep: JobId) -> None:
    """Show a sweep: how each arm stands, how far all are, and what is left at their pace."""
    with connect() as client:
        found = client.sweeps.get(check_name(project, what="project"), sweep)
    emit(found, lambda: _drawn(found))


@app.verb("cancel", f"ringi sweep cancel support {_ID}", f"ringi sweep cancel support {_ID} --arm {_ARM}")
def cancel(
    project: Project,
    sweep: JobId,
    arm: Annotated[UUID | None, typer.Option(metavar="MEASUREMENT", help="Only this arm; the others go on.", show_default=False)] = None,
    if_match: IfMatch = None,
) -> None:
    """Cancel a sweep, or one of its arms. What is done stays."""
    place = check_name(project, what="project")
    with connect() as client:
        found = client.sweeps.cancel(place, sweep, if_match=if_match) if arm is None else client.sweeps.cancel_arm(place, sweep, arm)
    emit(found, lambda: _drawn(found))


def _counts(one: SweepLine) -> list[str]:
    return [f"{count} {name}" for name, count in one.arms if count]


def _left(one: SweepLine) -> str | None:
    return None if one.eta_s is None else str(timedelta(seconds=round(one.eta_s)))


def _drawn(found: SweepOut) -> RenderableType:
    pairs: list[tuple[str, object]] = [
        ("sweep", found.job_id), ("of", found.subject), ("state", said_state(found.state, cancel_requested=found.cancel_requested)),
        ("arms", _counts(found)), ("items", f"{found.items_done} of {found.items}"), ("not asked", found.items_saved or None),
        ("seconds an item", found.seconds_per_item), ("left", _left(found)), ("attempt", found.attempt), ("started", found.started_at),
        ("finished", found.finished_at),
    ]  # fmt: skip
    if found.error is not None:
        pairs.append(("error", f"{found.error.message} [{found.error.code}]"))
    rows = [
        (one.id, name_of(one), "measuring" if one.id == found.current else one.state, f"{one.items_done}/{one.items}", one.started_at, one.completed_at,
         one.problem.code if one.problem else "taken over" if one.reused_from and one.state is MeasurementState.MEASURED else None)
        for one in found.measurements
    ]  # fmt: skip
    return Group(facts(pairs), "", table(["measurement", "of", "state", "items", "began", "ended", "what"], rows))
