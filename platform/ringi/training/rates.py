"""The peak learning rate of a run whose plan gives none: what is usual for the method, and over this base. Pure."""

from collections.abc import Mapping

from ringi.jobs.contracts.base_models import BaseFacts
from ringi.jobs.contracts.methods import Init, Method
from ringi.jobs.contracts.training import LoraSpec

# Where the base says nothing: vectors want more than matrices (T-Few, arXiv:2205.05638, has 3e-3 for IA3; VeRA, arXiv:2310.11454, 4e-3 for a language
# model), and all weights together less.
USUAL_RATES: Mapping[Method, float] = {
    Method.LORA: 2e-4, Method.DORA: 2e-4, Method.ADALORA: 2e-4, Method.IA3: 3e-3, Method.VERA: 4e-3, Method.FULL: 2e-5,
}  # fmt: skip

# LoRA's best rate falls with the width of the base: 5e-4 for 2,000, with an exponent for each family that sweeps of supervised fine-tuning were fitted by
# (Schulman and Thinking Machines Lab, "LoRA Without Regret", 2025, and the constants of their tinker-cookbook). All weights together want a tenth of it.
_RATE, _WIDTH = 5e-4, 2000
_EXPONENTS: Mapping[str, float] = {"llama": 0.781, "qwen2": 0.0775, "qwen3": 0.0775}
_OF_LORA: Mapping[Method, float] = {Method.LORA: 1.0, Method.DORA: 1.0, Method.ADALORA: 1.0, Method.FULL: 0.1}
# The fit is of bases from 1B on; one narrower than this is a test's, and far from it.
_NARROWEST = 512


def with_usual_rate(spec: LoraSpec, base: BaseFacts | None) -> LoraSpec:
    """The same at what suits the width of the base, where a fit for its family is known, else at what is usual for the method.

    `base`: None where nothing is known of it yet.
    """
    return spec.model_copy(update={"learning_rate": _fitted(spec, base) or USUAL_RATES[spec.method]})


def _fitted(spec: LoraSpec, base: BaseFacts | None) -> float | None:
    if base is None or base.hidden_size is None or base.model_type not in _EXPONENTS or spec.method not in _OF_LORA:
        return None
    # The fit is of alpha/r and a B of zeros, with one rate for A and B.
    if spec.init is not Init.ZERO or spec.use_rslora or spec.lora_plus_ratio is not None:
        return None
    of_lora = _RATE * (_WIDTH / max(base.hidden_size, _NARROWEST)) ** _EXPONENTS[base.model_type]
    return float(f"{_OF_LORA[spec.method] * of_lora:.2g}")
