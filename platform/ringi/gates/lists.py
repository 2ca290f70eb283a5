"""The fields of the list of decisions."""

from sqlalchemy import select
from sqlalchemy.orm import aliased

from ringi.adapters.models import Adapter, AdapterVersion
from ringi.gates.models import GateDecision
from ringi.gating.schemas import Verdict
from ringi.identity.lists import owner
from ringi.measurements.models import Measurement
from ringi.suites.lists import suite_of
from ringi.web.listing import Listing, column, flag, through

# unscoped: the list's own rows are scoped.
_MEASURED = select(Measurement.id)
_VERSION = aliased(AdapterVersion)
_WITH_VERSION = _MEASURED.join(_VERSION, _VERSION.id == Measurement.version_id)

GATES = Listing(
    "gates", key=GateDecision.id,
    fields={
        "adapter": through(
            GateDecision.candidate_id, _WITH_VERSION.join(Adapter, Adapter.id == _VERSION.adapter_id), Adapter.name, "The candidate's adapter."
        ),
        "version": through(GateDecision.candidate_id, _WITH_VERSION, _VERSION.number, "The number of the candidate's version."),
        **suite_of(GateDecision.suite_version_id),
        "candidate": column(GateDecision.candidate_id, "The candidate's measurement."),
        "baseline": column(GateDecision.baseline_id, "The baseline's measurement."),
        "asked": column(GateDecision.asked, "The baseline in the words of whoever asked."),
        "verdict": column(GateDecision.verdict, "What was decided.", choices=Verdict),
        "imported": flag(GateDecision.document, "imported", about="Whether an arm was measured elsewhere."),
        "together": column(GateDecision.together_id, "What names all decisions that were made together."),
        "digest": column(GateDecision.digest, "The decision's digest."),
        "owner": owner(GateDecision.decided_by, "Who asked for it."),
        "created_at": column(GateDecision.created_at, "When it was decided."),
    },
)  # fmt: skip
