"""The fields of the lists of compatibility assessments."""

from ringi.adapters.lists import version_of
from ringi.base_models.lists import base_of
from ringi.compatibility.models import CompatibilityAssessment
from ringi.compatibility.rules import Action, Verdict
from ringi.identity.lists import project
from ringi.web.listing import Listing, column

ASSESSMENTS = Listing(
    "assessments", key=CompatibilityAssessment.id,
    fields={
        "project": project(CompatibilityAssessment.project_id),
        **version_of(CompatibilityAssessment.version_id),
        **base_of(CompatibilityAssessment.base_revision_id),
        "verdict": column(CompatibilityAssessment.verdict, "What was found.", choices=Verdict),
        "action": column(CompatibilityAssessment.action, "What to do.", choices=Action),
        "created_at": column(CompatibilityAssessment.created_at, "When it was judged."),
    },
)  # fmt: skip
