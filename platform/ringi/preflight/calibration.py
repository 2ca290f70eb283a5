"""How fast a device really is: from the tokens a second of finished runs to a rate, or an assumption, or nothing. Pure.

A sample's rate is its tokens a second times the FLOPs of one of its tokens (compute.py). Model FLOPs utilisation is that divided by the peak.
A step takes some time whatever it reads (weights come from memory, kernels are started, the optimiser moves), so small steps are slower per FLOP.
Runs of one base with steps of several sizes tell how much: seconds a FLOP = 1 / rate + constant / FLOPs of the step, by least squares.
"""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from ringi.jobs.contracts.methods import Quantisation, TrainingTask
from ringi.jobs.contracts.training import LoraSpec, TrainMetrics
from ringi.preflight.compute import flops_per_token
from ringi.preflight.devices import DEVICES, assumed_utilisation
from ringi.preflight.schemas import Gpu, Rate, RateSource, Trained, Workload
from ringi.preflight.shapes import Shape

# A loop shorter than this has measured its first steps, not its speed.
SHORTEST_S = 5.0
# Steps that differ by less than this factor say nothing of what does not grow with them.
_APART = 2.0
# Of few runs nobody knows the spread: what one run took, another may take half or twice.
_FEW, _SPREAD = 3, 2.0


class Sample(NamedTuple):
    """One finished run. `base`: digest of its revision. `rows`: digest of its training rows. Means in tokens, `rate` in FLOP/s, `step` in FLOPs."""

    device_name: str
    base: str
    rows: str
    tokens_per_row: float
    label_tokens_per_row: float
    rate: float
    step: float


def sample_of(shape: Shape, spec: LoraSpec, metrics: TrainMetrics, *, device_name: str, base: str, rows: str) -> Sample | None:
    """What a run measured; None for one that was resumed (its seconds are of several machines), of several devices, short, quantised (which is slower), a
    classifier (which reads other tokens of the same rows), or measured no speed.
    """
    if spec.quantisation is not Quantisation.NONE or metrics.processes > 1 or spec.task is not TrainingTask.CAUSAL_LM:
        return None
    if metrics.tokens_per_s is None or metrics.resumed_from_step or metrics.seconds < SHORTEST_S or not metrics.rows:
        return None
    # Every epoch reads every row once; `max_steps` may end the run within one.
    seen = min(metrics.rows * spec.epochs, metrics.steps * spec.batch_size)
    tokens_per_row = metrics.tokens_per_s * metrics.seconds / seen
    labels = metrics.label_tokens / seen
    if tokens_per_row <= 0:
        return None
    whole = spec.rank is None
    work = Workload(method=Trained.FULL) if whole else Workload(rank=spec.adapter_rank, target_modules=list(spec.target_modules))
    each = flops_per_token(shape, work, tokens_per_row=tokens_per_row, label_tokens_per_row=labels)
    step = each * tokens_per_row * seen / metrics.steps
    return Sample(device_name, base, rows, tokens_per_row, labels, metrics.tokens_per_s * each, step)


def rate_of(
    samples: Sequence[Sample],
    *,
    kind: Gpu | None,
    device_name: str | None,
    base: str | None,
    quantisation: Quantisation,
    step: float | None = None,
) -> Rate | None:
    """The speed on a device: of runs of the same base on a device of that name, else of any base there, else assumed; None where nothing is known.

    Three runs and more give their range and their median; fewer give half and twice of what they measured, unless they themselves are wider. Where
    runs of the base had steps of several sizes, it is the speed with steps of `step` FLOPs.
    """
    here = [one for one in samples if device_name is not None and one.device_name == device_name]
    same = _with_steps_of(step, [one for one in here if one.base == base])
    for found, source in ((same, RateSource.SAME_BASE), ([one.rate for one in here], RateSource.SAME_DEVICE)):
        if found:
            return _measured(found, source)
    peak = DEVICES[kind].peak if kind is not None else None
    if peak is None:
        return None
    share = assumed_utilisation(quantisation)
    return Rate(low=peak * share.low, typical=peak * share.typical, high=peak * share.high, source=RateSource.ASSUMED, runs=0)


def _with_steps_of(step: float | None, samples: Sequence[Sample]) -> list[float]:
    """The samples' rates, each as it would have been with such steps; as they are where the constant is not known."""
    sizes = [one.step for one in samples]
    if step is None or not sizes or max(sizes) < _APART * min(sizes):
        return [one.rate for one in samples]
    # Per FLOP, so that a large step's noise does not outweigh what a small step says of the constant.
    fitted = statistics.linear_regression([1 / one.step for one in samples], [1 / one.rate for one in samples])
    # No step was shorter than the constant.
    constant = max(0.0, min(fitted.slope, *(one.step / one.rate for one in samples)))
    return [1 / (1 / one.rate + constant * (1 / step - 1 / one.step)) for one in samples]


def _measured(rates: Sequence[float], source: RateSource) -> Rate:
    typical, low, high = statistics.median(rates), min(rates), max(rates)
    if len(rates) < _FEW:
        low, high = min(low, typical / _SPREAD), max(high, typical * _SPREAD)
    return Rate(low=low, typical=typical, high=high, source=source, runs=len(rates))
