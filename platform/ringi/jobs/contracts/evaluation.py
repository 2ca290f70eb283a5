"""Evaluate an adapter against a baseline."""

from uuid import UUID

from pydantic import FiniteFloat

from ringi.jobs.contracts.parts import AdapterRef, BaseRef, Contract, FileRef, Part
from ringi.kit.digests import Digest


class Arm(Part):
    """One side of a paired evaluation: a base revision, with an adapter version or bare."""

    base: BaseRef
    adapter: AdapterRef | None


class EvaluatePayload(Contract):
    """Answer every row of `rows` with both arms."""

    evaluation_id: UUID
    candidate: Arm
    baseline: Arm
    rows: Digest
    max_new_tokens: int
    max_length: int
    batch_size: int


class ArmRecord(Part):
    """One arm on one item. `nll` is the mean negative log-likelihood per reference token, in nats; None where not scored."""

    nll: FiniteFloat | None
    tokens: int
    output: str
    match: bool | None


class ItemRecord(Part):
    """One validation item answered by both arms; the unit of pairing."""

    item: str
    slices: dict[str, str]
    prompt_digest: Digest
    reference: str
    candidate: ArmRecord
    baseline: ArmRecord


class EvaluateResult(Contract):
    """`records` is a JSON lines blob of `ItemRecord`; judgement happens in the platform."""

    records: FileRef
    items: int
    seconds: FiniteFloat
    runtime: dict[str, str]
    mlflow_run_id: str | None
