"""The kinds of devices that a forecast is made for: memory, peak, and which worker is one of them. Pure.

Peaks are dense bfloat16 products with float32 sums, without sparsity, from the makers' documents of the product. Memory is what the driver
reports of the card. A CPU has no peak here: how fast one is, only a run on it says.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

from ringi.jobs.contracts.methods import Quantisation
from ringi.preflight.schemas import Gpu

_MIB, _TERA = 2**20, 1e12


class Device(NamedTuple):
    """`peak`: FLOP/s of bfloat16, None where only runs tell. `pattern`: how torch's name of the device begins to be one of the kind."""

    memory_bytes: int | None
    peak: float | None
    pattern: re.Pattern[str]
    source: str


class Utilisation(NamedTuple):
    """Shares of the peak that a training loop is assumed to reach."""

    low: float
    typical: float
    high: float


DEVICES: Mapping[Gpu, Device] = {
    Gpu.A100: Device(81_920 * _MIB, 312 * _TERA, re.compile(r"A100.*80GB"), "NVIDIA A100 Tensor Core GPU datasheet: BF16 312 TFLOPS"),
    Gpu.H100: Device(
        81_559 * _MIB, 989.4 * _TERA, re.compile(r"H100"), "NVIDIA H100 datasheet, SXM: BF16 1,979 TFLOPS with sparsity, half of it without"
    ),
    Gpu.L4: Device(
        23_034 * _MIB, 121 * _TERA, re.compile(r"\bL4\b"), "NVIDIA L4 datasheet: BF16 242 TFLOPS with sparsity, half of it without"
    ),
    Gpu.RTX_4090: Device(
        24_564 * _MIB, 165.2 * _TERA, re.compile(r"RTX 4090\b(?! (D|Laptop))"), "NVIDIA Ada GPU architecture whitepaper: BF16 165.2 TFLOPS"
    ),
    Gpu.CPU: Device(None, None, re.compile(r"(?!)"), "not measured: only a run on the machine tells"),
}
# Assumptions, used until a run was measured. The highest is about what the largest pretraining runs report (PaLM: 46 % model FLOPs utilisation,
# arXiv:2204.02311, table 3); short rows, small batches and an eager loop reach far less. Quantised weights are unpacked at every product, for
# which no source gives one number: the range is set lower by guess.
_PLAIN, _UNPACKED = Utilisation(0.15, 0.35, 0.50), Utilisation(0.08, 0.25, 0.40)


def assumed_utilisation(quantisation: Quantisation) -> Utilisation:
    """What is assumed where nothing was measured."""
    return _PLAIN if quantisation is Quantisation.NONE else _UNPACKED


def kind_of(device: str, device_name: str) -> Gpu | None:
    """Which kind a worker's device is, by torch's word for it (`cuda`, `cpu`) and its name; None for one that is not in the table."""
    if device == "cpu":
        return Gpu.CPU
    return next((kind for kind, one in DEVICES.items() if one.pattern.search(device_name)), None)
