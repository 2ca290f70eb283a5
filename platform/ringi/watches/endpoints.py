"""HTTP for watches and their looks."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter
from sqlalchemy.orm import Session

from ringi.gating.schemas import Verdict
from ringi.identity.dependencies import InProject, allowed_in_project
from ringi.identity.permissions import Permission
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.measurements.schemas import ProblemOut
from ringi.watches import looking, refusals, schedule, service
from ringi.watches.lists import LOOKS, WATCHES
from ringi.watches.models import Watch, WatchLook
from ringi.watches.schemas import ChangeWatch, CreateWatch, Drift, DriftLimits, LookOut, LooksOut, LookState, WatchLineOut, WatchOut
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, page_of, rows_of
from ringi.web.preconditions import IfMatch, Match, PreconditionFailed
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute, prefix="/projects/{project}/watches", tags=["watches"], responses=responses(Unauthenticated, Forbidden, NotFound)
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
Requester = Annotated[InProject, allowed_in_project(Permission.EVALUATION_REQUEST)]
_NAMED = (schedule.ScheduleUnreadable, schedule.ZoneUnknown, refusals.AdapterNeeded, refusals.MetricUnknown)


def look_out(look: WatchLook) -> LookOut:
    """A look with names instead of ids."""
    suite = look.suite_version
    return LookOut(
        id=look.id, watch=look.watch.name, channel=look.channel, adapter=_adapter(look), version=_version(look),
        suite=f"{suite.suite.project.name}/{suite.suite.name}:v{suite.number}" if suite else None, due_at=look.due_at, by_hand=look.by_hand,
        state=LookState(look.state), problem=_problem(look), measurement_id=look.measurement_id, reference_id=look.reference_id,
        baseline_id=look.baseline_id, gate_id=look.gate_id, verdict=_verdict(look.verdict), verdict_before=_verdict(look.verdict_before),
        turned=look.turned, drifted=look.drifted, drift=Drift.model_validate(look.drift) if look.drift is not None else None, job_id=look.job_id,
        created_at=look.created_at, completed_at=look.completed_at,
    )  # fmt: skip


def _adapter(look: WatchLook) -> str | None:
    return look.adapter.reference if look.adapter else None


def _version(look: WatchLook) -> str | None:
    return f"{look.version.adapter.reference}:v{look.version.number}" if look.version else None


def _problem(look: WatchLook) -> ProblemOut | None:
    return ProblemOut.model_validate(look.problem) if look.problem else None


def _verdict(word: str | None) -> Verdict | None:
    return Verdict(word) if word else None


def watches_out(session: Session, caller: InProject, found: Sequence[Watch]) -> list[WatchOut]:
    """Watches with how what they watch stands."""
    standing = service.standing(session, caller.actor, [one.id for one in found])
    return [
        WatchOut(
            id=one.id, name=one.name, description=one.description, channels=one.channels, adapter=one.adapter.reference if one.adapter else None,
            suite=one.suite, schedule=one.schedule, timezone=one.timezone, baseline=one.baseline, drift=DriftLimits.model_validate(one.drift),
            within_s=one.within_s, placement=one.placement, due_at=None if one.paused_at else one.due_at, paused_at=one.paused_at,
            standing=[standing_out(look) for look in standing[one.id]], created_at=one.created_at, row_version=one.row_version,
        )
        for one in found
    ]  # fmt: skip


def standing_out(look: WatchLook) -> WatchLineOut:
    """What the newest look of a line says."""
    return WatchLineOut(
        channel=look.channel, adapter=_adapter(look), version=_version(look), state=LookState(look.state), problem=_problem(look),
        verdict=_verdict(look.verdict), drifted=look.drifted, completed_at=look.completed_at,
    )  # fmt: skip


def _out(session: Session, caller: InProject, watch: Watch) -> WatchOut:
    return watches_out(session, caller, [watch])[0]


def _locked(session: Session, caller: InProject, name: str, match: Match | None = None) -> Watch:
    found = service.find(session, caller.actor, project=caller.project, name=name, lock=True)
    if match is not None:
        match.require(found.row_version)
    return found


@router.post("", status_code=201, responses=responses(refusals.WatchExists, refusals.TooManyWatches, *_NAMED))
def create_watch(session: SessionDep, caller: Requester, body: CreateWatch) -> WatchOut:
    """Look at what channels serve, again and again; the first look is due at once, or when the crontab says."""
    return _out(session, caller, service.create(session, caller.actor, project=caller.project, body=body))


@router.get("")
def list_watches(session: SessionDep, caller: Reader, ask: Annotated[Ask, asking(WATCHES)]) -> Page[WatchOut]:
    """The project's watches and how what they watch stands, newest first."""
    found = rows_of(session, service.listed(caller.actor, caller.project), ask)
    items = watches_out(session, caller, [row[0] for row in found.rows])
    return Page(items=items, next_cursor=found.next_cursor, total=found.total, total_exact=found.total_exact)


@router.get("/{watch}")
def get_watch(session: SessionDep, caller: Reader, watch: str) -> WatchOut:
    """One watch."""
    return _out(session, caller, service.find(session, caller.actor, project=caller.project, name=watch))


@router.patch("/{watch}", responses=responses(PreconditionFailed, *_NAMED))
def change_watch(session: SessionDep, caller: Requester, watch: str, body: ChangeWatch, match: IfMatch) -> WatchOut:
    """Change, pause (`paused: true`) or resume it."""
    found = _locked(session, caller, watch, match)
    return _out(session, caller, service.change(session, caller.actor, found, body))


@router.delete("/{watch}", responses=responses(PreconditionFailed))
def remove_watch(session: SessionDep, caller: Requester, watch: str, match: IfMatch) -> WatchOut:
    """No more looks; measurements and decisions stay."""
    return _out(session, caller, service.remove(session, caller.actor, _locked(session, caller, watch, match)))


@router.post("/{watch}/look", status_code=201, responses=responses(refusals.LookOnItsWay))
def look_now(session: SessionDep, caller: Requester, watch: str) -> LooksOut:
    """Look now, whatever the schedule says: one look for each adapter of each channel."""
    found = _locked(session, caller, watch)
    return LooksOut(looks=[look_out(one) for one in looking.look_now(session, caller.actor, found)])


@router.get("/{watch}/looks")
def list_looks(session: SessionDep, caller: Reader, watch: str, ask: Annotated[Ask, asking(LOOKS)]) -> Page[LookOut]:
    """Every look of the watch, newest first."""
    found = service.find(session, caller.actor, project=caller.project, name=watch)
    return page_of(session, service.looks(caller.actor, found), ask, look_out)
