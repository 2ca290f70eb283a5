"""HTTP for decisions of the gate, and their reports."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response

from ringi.base_models.service import RevisionNotSealed
from ringi.gates import refusals, service, together
from ringi.gates.lists import GATES
from ringi.gates.models import GateDecision
from ringi.gates.schemas import DecideGate, DecideTogether, Format, GateDocument, GateOut, LeftOut, TogetherOut
from ringi.gating import painting, reports
from ringi.gating.forest import drawing, forest
from ringi.gating.pairs import DuplicateItem, ItemsChanged
from ringi.gating.schemas import Verdict
from ringi.identity.dependencies import InProject, allowed_in_project
from ringi.identity.permissions import Permission
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.web.errors import responses
from ringi.web.paging import Ask, asking, page_of
from ringi.web.route import ApiRoute
from ringi.web.schemas import Page
from ringi.web.session import SessionDep

router = APIRouter(
    route_class=ApiRoute, prefix="/projects/{project}/gates", tags=["gates"], responses=responses(Unauthenticated, Forbidden, NotFound)
)
Reader = Annotated[InProject, allowed_in_project(Permission.PROJECT_READ)]
Requester = Annotated[InProject, allowed_in_project(Permission.EVALUATION_REQUEST)]
_MEDIA = {
    Format.JSON: "application/json", Format.MARKDOWN: "text/markdown; charset=utf-8", Format.JUNIT: "application/xml",
    Format.SVG: "image/svg+xml", Format.PNG: "image/png",
}  # fmt: skip
_WRITTEN: dict[int | str, dict[str, Any]] = {200: {"content": {"*/*": {"schema": {"type": "string"}}}}}


def gate_out(gate: GateDecision) -> GateOut:
    """A decision with names instead of ids."""
    document, suite = GateDocument.model_validate(gate.document), gate.suite_version
    return GateOut(
        id=gate.id, candidate=document.candidate.name, baseline=document.baseline.name, asked=gate.asked,
        suite=f"{suite.suite.project.name}/{suite.suite.name}:v{suite.number}", verdict=Verdict(gate.verdict), imported=gate.imported, together_id=gate.together_id,
        digest=gate.digest, document=document, decided_by=gate.decided_by, created_at=gate.created_at,
    )  # fmt: skip


_REFUSALS = (
    refusals.MeasurementMissing, refusals.NothingServed, refusals.RuntimeDiffers, refusals.SuitesDiffer, refusals.NotMeasured,
    refusals.NothingRequired, refusals.BaselineIsCandidate, refusals.StoppedAgainstAnother, RevisionNotSealed, ItemsChanged, DuplicateItem,
)  # fmt: skip


@router.post("", status_code=201, responses=responses(*_REFUSALS))
def decide_gate(session: SessionDep, caller: Requester, body: DecideGate) -> GateOut:
    """Decide from what was measured. A missing measurement is refused with what a sweep must measure; nothing else is taken in its place."""
    return gate_out(service.decide_gate(session, caller.actor, project=caller.project, body=body))


@router.post("/together", status_code=201, responses=responses(*_REFUSALS, refusals.SweepOpen, refusals.NothingToJudge))
def decide_gates_together(session: SessionDep, caller: Requester, body: DecideTogether) -> TogetherOut:
    """Decide about many adapters at once: one decision each, and a GO holds only where few of those that are kept can be wrong. All or nothing."""
    judged = together.decide_together(session, caller.actor, project=caller.project, body=body)
    return TogetherOut(
        together_id=judged.together_id, verdict=judged.verdict, q=judged.said.q, method=judged.said.method, adapters=judged.said.adapters,
        tested=judged.said.tested, gates=[gate_out(one) for one in judged.gates],
        left_out=[LeftOut(measurement=one.measurement.id, name=one.name, code=one.code) for one in judged.left_out],
    )  # fmt: skip


@router.get("")
def list_gates(session: SessionDep, caller: Reader, ask: Annotated[Ask, asking(GATES)]) -> Page[GateOut]:
    """Decisions of the project, newest first."""
    return page_of(session, service.listed(caller.actor).where(GateDecision.project_id == caller.project.id), ask, gate_out)


@router.get("/{gate_id}")
def get_gate(session: SessionDep, caller: Reader, gate_id: UUID) -> GateOut:
    """One decision."""
    return gate_out(service.find(session, caller.actor, project=caller.project, gate_id=gate_id))


@router.get(
    "/{gate_id}/report", response_class=Response, responses=_WRITTEN | responses(painting.PictureUnavailable, painting.PictureTooLarge)
)
def gate_report(
    session: SessionDep,
    caller: Reader,
    gate_id: UUID,
    written: Annotated[Format, Query(alias="format", description="How it is written.")] = Format.MARKDOWN,
) -> Response:
    """The decision for people (Markdown, SVG, PNG) and for CI servers (JUnit XML, JSON); the same bytes every time."""
    found = gate_out(service.find(session, caller.actor, project=caller.project, gate_id=gate_id))
    decision, title = found.document.decision, f"{found.candidate} against {found.baseline}"
    match written:
        case Format.JSON:
            text = reports.as_json(decision)
        case Format.JUNIT:
            text = reports.as_junit(decision, candidate=found.candidate)
        case Format.SVG:
            text = forest(decision, title=title)
        case Format.PNG:
            return Response(painting.painted(drawing(decision, title=title)), media_type=_MEDIA[written])
        case _:
            text = reports.as_markdown(decision, candidate=found.candidate, baseline=found.baseline)
    return Response(text, media_type=_MEDIA[written])
