"""The record of how a version came to be: what went in, with what it was done, and what it took. Pure; written once, when the run succeeds.

It has a digest of its own and stands beside the manifest, which names files, base and format alone: two runs that bring equal bytes make one
version and have two records.
"""

from datetime import date
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from ringi.jobs.contracts.training import PriceTable, RunOrigin, TrainMetrics, TrainPayload, TrainResult
from ringi.kit.digests import Digest
from ringi.preflight.compute import flops_per_token
from ringi.preflight.shapes import Shape
from ringi.training.workload import workload_of


class _Record(BaseModel):
    """Closed and frozen: what is stored is what its digest is of."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BaseUsed(_Record):
    """`digest`: of the list of its files; `fingerprint`: the parts that were computed (F1, F2)."""

    name: str
    revision: int
    commit: str
    digest: Digest
    fingerprint: dict[str, str]


class DatasetUsed(_Record):
    """`digest`: of the version; `train`, `validation`: of the rows. `validation` is null where the run did not look at it."""

    name: str
    version: int
    digest: Digest
    train: Digest
    validation: Digest | None


class PriceUsed(_Record):
    """The table that held when the run was started."""

    currency: str
    as_of: date
    source: str


class EarlierUsed(_Record):
    """The version that the run began with; `stacked`: frozen under what was trained."""

    name: str
    manifest_digest: Digest
    stacked: bool


class Spent(_Record):
    """What the loop took, over all processes of the run; work that was lost with a worker is not in it. Null is not measured.

    `flops`: an estimate from the base's shape and the tokens that were read (preflight/compute.py). `energy_j`: of the whole GPU. `cost`: by
    `price`, null where the device has none or there is only the example table.
    """

    steps: int
    tokens: int | None
    label_tokens: int
    seconds: FiniteFloat
    gpu_seconds: FiniteFloat | None
    flops: FiniteFloat | None
    energy_j: FiniteFloat | None
    cost: FiniteFloat | None
    price: PriceUsed | None


class Provenance(_Record):
    """One succeeded run. `libraries`: every distribution of the worker, by name, with its version. `device`: kind and name.

    `packed`, `micro_batch_size`, `memory_halvings`, `processes` (each with a device like `device`): what the recipe leaves open.
    """

    schema_version: int = 1
    run_id: UUID
    adapter: str
    manifest_digest: Digest
    recipe: dict[str, Any]
    seed: int
    base: BaseUsed
    dataset: DatasetUsed
    origin: RunOrigin | None
    earlier: EarlierUsed | None
    device: str
    dtype: str
    libraries: dict[str, str]
    packed: bool
    micro_batch_size: int | None
    memory_halvings: int
    spent: Spent
    # Left out where it is one, so that the digest of a record from before it was there is still that of what is shown.
    processes: int = Field(default=1, exclude_if=lambda count: count == 1)


def recorded(
    payload: TrainPayload,
    result: TrainResult,
    *,
    manifest_digest: Digest,
    fingerprint: dict[str, Any],
    dataset: DatasetUsed,
    shape: Shape | None,
) -> Provenance:
    """The record of a run that has ended with a version. `fingerprint`: the parts of the base revision; `shape` None: no FLOPs."""
    base, spec, metrics = payload.base, payload.spec, result.metrics
    return Provenance(
        run_id=payload.run_id, adapter=payload.adapter_name, manifest_digest=manifest_digest,
        recipe=spec.model_dump(mode="json"), seed=spec.seed,
        base=BaseUsed(
            name=base.name, revision=base.revision, commit=base.commit, digest=base.digest,
            fingerprint={name: part for name, part in sorted(fingerprint.items()) if isinstance(part, str)},
        ),
        dataset=dataset, origin=payload.origin, earlier=_earlier(payload),
        device=result.runtime.get("device", "not measured"), dtype=result.runtime.get("dtype", "not measured"), libraries=dict(result.libraries),
        packed=metrics.packed, micro_batch_size=metrics.micro_batch_size, memory_halvings=metrics.memory_halvings,
        processes=metrics.processes, spent=Spent(
            steps=metrics.steps, tokens=metrics.tokens, label_tokens=metrics.label_tokens, seconds=metrics.seconds, gpu_seconds=metrics.gpu_seconds,
            flops=_flops(payload, metrics, shape), energy_j=metrics.energy_j, cost=metrics.cost,
            price=_price(payload.prices) if metrics.cost is not None else None,
        ),
    )  # fmt: skip


def _price(prices: PriceTable | None) -> PriceUsed | None:
    return None if prices is None else PriceUsed(currency=prices.currency, as_of=prices.as_of, source=prices.source)


def _earlier(payload: TrainPayload) -> EarlierUsed | None:
    if payload.earlier is None:
        return None
    return EarlierUsed(name=payload.earlier.name, manifest_digest=payload.earlier.manifest_digest, stacked=payload.stacked)


def _flops(payload: TrainPayload, metrics: TrainMetrics, shape: Shape | None) -> float | None:
    """Of the tokens that were read; None where they or the shape are not known."""
    rows_seen = min(metrics.rows * payload.spec.epochs, metrics.steps * payload.spec.batch_size)
    if payload.origin is not None and payload.origin.step is not None:
        # What was read before the branch was the other run's.
        rows_seen -= payload.origin.step * payload.spec.batch_size
    if shape is None or not metrics.tokens or rows_seen <= 0:
        return None
    work = workload_of(payload.spec).model_copy(update={"checkpointing": payload.spec.gradient_checkpointing})
    each = flops_per_token(shape, work, tokens_per_row=metrics.tokens / rows_seen, label_tokens_per_row=metrics.label_tokens / rows_seen)
    return metrics.tokens * each
