"""Decisions of the gate in and out."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from ringi.gating.schemas import Decision, Verdict
from ringi.jobs.contracts.parts import Part
from ringi.kit.digests import Digest
from ringi.measurements.schemas import BaseName, SuiteName
from ringi.web.schemas import Schema

# `bot:v2`, `bot:production`, or the id of a measurement.
Candidate = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,160}$")]
# The same; or `base`, or `channel:NAME` for what the channel serves now.
Baseline = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,160}$")]


class Format(StrEnum):
    """How a report is written."""

    JSON = "json"
    MARKDOWN = "markdown"
    JUNIT = "junit"
    SVG = "svg"
    PNG = "png"


class DecideGate(Schema):
    """Judge `candidate` against `baseline` from what was measured with `suite`; nothing is run.

    `candidate`: a version (`bot:v2`) or the id of a measurement. `baseline`: `channel:production` is what that channel serves now, `base` the bare
    base that the candidate was measured on, else a version or the id of a measurement. `base_revision`: what the candidate was
    measured on, where that is not the one it was trained on. There is no "last run".
    """

    candidate: Candidate
    baseline: Baseline
    suite: SuiteName
    base_revision: BaseName | None = None


class Bound(Part):
    """An arm of a decision: the exact measurement, and what its evidence names."""

    measurement: UUID
    name: str
    manifest: Digest | None
    base: Digest
    records: Digest
    evidence: Digest
    runtime: Digest


class GateDocument(Part):
    """What is signed for: the decision, and all that it was made from. The same records give the same `decision`."""

    type: Literal["gate"] = "gate"
    suite: Digest
    candidate: Bound
    baseline: Bound
    asked: str
    imported: bool
    decision: Decision


class GateOut(Schema):
    """A decision. `digest` is of the canonical JSON of `document`, and what an approval names."""

    id: UUID
    candidate: str
    baseline: str
    asked: str
    suite: str
    verdict: Verdict
    imported: bool
    digest: Digest
    document: GateDocument
    decided_by: UUID
    created_at: datetime


class MissingMeasurement(Schema):
    """What a sweep must measure first; the details of `gate_measurement_missing`."""

    which: Literal["candidate", "baseline"]
    version: str | None
    base: str
    suite: str
    include_base: bool = Field(description="Whether it is the bare base that is missing.")
