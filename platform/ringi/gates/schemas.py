"""Decisions of the gate in and out."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, FiniteFloat, StringConstraints, model_validator

from ringi.gating.schemas import Decision, Verdict
from ringi.gating.sweeps import SHARE
from ringi.jobs.contracts.parts import Part
from ringi.kit.digests import Digest
from ringi.measurements.schemas import MAX_ARMS, BaselineName, BaseName, SuiteName
from ringi.web.schemas import Schema, Truth

# `bot:v2`, `bot:production`, or the id of a measurement.
Candidate = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,160}$")]


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
    baseline: BaselineName
    suite: SuiteName
    base_revision: BaseName | None = None


class DecideTogether(Schema):
    """Judge many candidates against one baseline rule, and correct for their number: of those that are kept at most the share `q` may be wrong.

    Either `candidates` (versions or measurements' ids) with `suite`, or `sweep`, a sweep's job: all versions that it measured, with its suite.
    `channel:production` is each adapter's own, `base` the base that each was measured on. `dependent`: correct for any dependence (Benjamini and
    Yekutieli); unless given, that is done where the suite has safety requirements, else Benjamini and Hochberg.
    """

    candidates: Annotated[list[Candidate], Field(max_length=MAX_ARMS)] = []  # noqa: RUF012  # Pydantic copies it for every instance
    sweep: UUID | None = None
    suite: SuiteName | None = None
    baseline: BaselineName
    base_revision: BaseName | None = None
    q: Annotated[FiniteFloat, Field(gt=0, le=0.5)] = SHARE
    dependent: Truth | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.sweep is None) == (not self.candidates):
            raise ValueError("either candidates or sweep is needed, and not both")
        if self.candidates and self.suite is None:
            raise ValueError("candidates need a suite")
        if self.sweep is not None and (self.suite is not None or self.base_revision is not None):
            raise ValueError("a sweep has its own suite and base_revision")
        return self


class LeftOut(Schema):
    """An arm of the sweep that was not judged: `code` is its problem, `cancelled`, `bare_base` or `is_baseline`."""

    measurement: UUID
    name: str
    code: str


class Bound(Part):
    """An arm of a decision: the exact measurement, and what its evidence names. One that was stopped early is no evidence."""

    measurement: UUID
    name: str
    manifest: Digest | None
    base: Digest
    records: Digest
    evidence: Digest | None
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
    together_id: UUID | None
    digest: Digest
    document: GateDocument
    decided_by: UUID
    created_at: datetime


class TogetherOut(Schema):
    """Decisions that were made together, in the order of the candidates. `verdict` is the worst of them."""

    together_id: UUID
    verdict: Verdict
    q: FiniteFloat
    method: str
    adapters: int
    tested: int
    gates: list[GateOut]
    left_out: list[LeftOut]


class MissingMeasurement(Schema):
    """What a sweep must measure first; the details of `gate_measurement_missing`; those of `gate_runtime_differs` hold both arms."""

    which: Literal["candidate", "baseline"]
    version: str | None
    base: str
    suite: str
    include_base: bool = Field(description="Whether it is the bare base that is missing.")
