"""Compatibility assessments as clients see them."""

from datetime import datetime
from uuid import UUID

from ringi.compatibility.rules import Assessment
from ringi.kit.digests import Digest
from ringi.web.schemas import Schema


class AssessmentOut(Schema):
    """One version judged against one base revision."""

    id: UUID
    version: str
    trained_on: str
    base: str
    assessment: Assessment
    report_digest: Digest
    created_at: datetime
