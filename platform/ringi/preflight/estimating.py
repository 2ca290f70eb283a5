"""The forecast: shape + workload + prices + measured speeds -> memory, time and cost. Comes after memory.py, compute.py and calibration.py. Pure.

`ringi estimate` calls it on a file, the API on a registered base, and checks.py reads its result before a run.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ringi.jobs.contracts.methods import Quantisation
from ringi.kit.errors import InvalidInput
from ringi.preflight.calibration import Sample, rate_of
from ringi.preflight.compute import Flops, flops_of
from ringi.preflight.devices import DEVICES, kind_of
from ringi.preflight.memory import memory_of, snapshot_bytes, trainable_parameters, weight_bytes
from ringi.preflight.schemas import Cost, DeviceForecast, Duration, Estimate, Gpu, Precision, Prices, Rate, Trained, Workload
from ringi.preflight.shapes import Shape

_HOUR_S = 3600.0
# Two exist while one replaces the other.
_SNAPSHOTS = 2


class EstimateTargetsUnmatched(InvalidInput):
    """A LoRA on matrices that the base has not; a run of it would be refused, so it has no forecast."""

    code = "estimate_targets_unmatched"

    def __init__(self, missing: Sequence[str], choices: Sequence[str]) -> None:
        super().__init__(
            f"The base has no linear module named {', '.join(map(repr, missing))}.", next_step=f"Choose from: {', '.join(choices)}.",
            details={"missing": list(missing)},
        )  # fmt: skip


class Machine(NamedTuple):
    """One device to forecast for: a kind, or a registered worker's own (`name` as torch says it)."""

    kind: Gpu | None
    name: str
    memory_bytes: int | None


class Known(NamedTuple):
    """What the platform knows besides the base: the price table, and what finished runs measured. `base` is the revision's digest."""

    prices: Prices
    samples: Sequence[Sample] = ()
    base: str | None = None
    base_bytes: int | None = None


def machines(kinds: Sequence[Gpu] = ()) -> list[Machine]:
    """The kinds of the table, or those that are asked for."""
    return [Machine(kind, kind.value, DEVICES[kind].memory_bytes) for kind in (kinds or [one for one in Gpu if one is not Gpu.CPU])]


def worker_machine(device: str, device_name: str, memory_bytes: int | None) -> Machine:
    """A registered worker's device, by what it said of itself."""
    return Machine(kind_of(device, device_name), device_name, memory_bytes)


def require_targets(shape: Shape, work: Workload) -> None:
    """Raises EstimateTargetsUnmatched."""
    if work.method is Trained.LORA and (missing := shape.unmatched(work.target_modules)):
        raise EstimateTargetsUnmatched(missing, shape.module_names)


def estimate(shape: Shape, work: Workload, known: Known, *, base: str, devices: Sequence[Machine]) -> Estimate:
    """Everything that is forecast of one workload; where something is not known it is None, with the reason in the device's note."""
    shape = shape if work.classes is None else shape.with_head_for(work.classes)
    flops = flops_of(shape, work)
    first = devices[0].kind if devices else None
    trainable = trainable_parameters(shape, work)
    stored = known.base_bytes if known.base_bytes is not None else weight_bytes(shape, _as_stored(work))
    return Estimate(
        base=base, model_type=shape.model_type, parameters=shape.parameters, trainable_parameters=trainable,
        memory=memory_of(shape, work, device=first), disk_bytes=stored + _SNAPSHOTS * snapshot_bytes(work, trainable) + 4 * trainable,
        tokens=work.tokens, flops=flops and flops.run, devices=[_forecast(shape, work, known, flops, one) for one in devices], workload=work,
    )  # fmt: skip


def _as_stored(work: Workload) -> Workload:
    """How the files of a base are stored, where nobody knows: in bfloat16, as nearly all are published."""
    return work.model_copy(update={"method": Trained.LORA, "precision": Precision.BF16, "quantisation": Quantisation.NONE})


def _forecast(shape: Shape, work: Workload, known: Known, flops: Flops | None, machine: Machine) -> DeviceForecast:
    need = memory_of(shape, work, device=machine.kind).total
    fits = None if machine.memory_bytes is None else need <= machine.memory_bytes
    rate = rate_of(
        known.samples, kind=machine.kind, device_name=machine.name, base=known.base, quantisation=work.quantisation,
        step=flops and flops.step,
    )  # fmt: skip
    notes = []
    if fits is False:
        notes.append("does not fit one device")
    if flops is None:
        notes.append("time not measured: rows or tokens a row are not known")
    if rate is None:
        notes.append("time not measured: no finished run on this device, and no peak to assume from")
    # What does not fit does not run, so it takes no time either.
    duration = _duration(flops.run, rate) if flops is not None and rate is not None and fits is not False else None
    cost = _cost(duration, known.prices, machine.kind)
    if duration is not None and cost is None:
        notes.append("cost not measured: the price table has no such device")
    return DeviceForecast(
        device=machine.name, memory_bytes=machine.memory_bytes, fits=fits, rate=rate, duration=duration, cost=cost, note="; ".join(notes)
    )


def _duration(flops: float, rate: Rate) -> Duration:
    return Duration(low=flops / rate.high, typical=flops / rate.typical, high=flops / rate.low)


def _cost(duration: Duration | None, prices: Prices, kind: Gpu | None) -> Cost | None:
    per_hour = prices.per_hour.get(kind) if kind is not None else None
    if duration is None or per_hour is None:
        return None
    low, typical, high = (per_hour * seconds / _HOUR_S for seconds in (duration.low, duration.typical, duration.high))
    return Cost(
        currency=prices.currency, low=low, typical=typical, high=high, per_hour=per_hour, as_of=prices.as_of, example=prices.example
    )
