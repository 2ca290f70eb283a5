"""What a run spends while its loop runs: seconds of the device, memory, energy, and money by the price that held when it was started.

Energy is the counter of the whole GPU (NVML, nvmlDeviceGetTotalEnergyConsumption, in mJ since its driver was loaded; Volta and later), so what
another process does there counts too. A CPU has no counter that an ordinary process may read: not measured.
"""

import logging
import math

import pynvml
import torch

from ringi.jobs.contracts.training import PriceTable
from ringi.preflight.devices import kind_of
from ringi_workers import peak_memory
from ringi_workers.training.checkpoint import RunState
from ringi_workers.training.ranks import ALONE, Ranks

_HOUR_S = 3600.0
log = logging.getLogger("ringi.job")


class Meter:
    """Counts for one attempt, over the devices of all its processes; what earlier attempts of the run have spent is taken from its state."""

    def __init__(self, device: torch.device, prices: PriceTable | None, ranks: Ranks = ALONE) -> None:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        self._device, self._on_gpu, self._ranks = device, device.type == "cuda", ranks
        # Processes on a CPU share one machine, and a price is one machine's.
        self._devices = ranks.size if self._on_gpu else 1
        self._energy = EnergyCounter(device) if self._on_gpu else None
        kind = kind_of(device.type, name)
        per_hour = prices.per_hour.get(kind) if prices is not None and kind is not None else None
        self._per_s = None if per_hour is None else per_hour / _HOUR_S
        self._currency = None if per_hour is None or prices is None else prices.currency
        self._before = RunState(identity="")
        self._joules_before: float | None = None

    @property
    def currency(self) -> str | None:
        """Of the cost; None where the device has no price."""
        return self._currency

    def begin(self, state: RunState) -> None:
        """The loop of this process begins; `state` has what was spent before."""
        self._before = RunState(identity="", cost=state.cost, energy_j=state.energy_j, gpu_seconds=state.gpu_seconds)
        self._joules_before = self._joules()
        # A run that has no step left to do has spent nothing of what is measured, and what is not stays unknown.
        self.note(state, 0.0)
        peak_memory.forget(self._device)

    def peak_memory_bytes(self) -> int:
        """The most that this process held since its loop began, base and optimiser included."""
        return peak_memory.bytes_of(self._device)

    def note(self, state: RunState, elapsed_s: float) -> None:
        """Put what the run has spent by now into its state; a part that was not measured leaves the sum unknown."""
        before = self._before
        state.cost = None if before.cost is None or self._per_s is None else before.cost + elapsed_s * self._devices * self._per_s
        state.gpu_seconds = before.gpu_seconds + elapsed_s * self._devices if before.gpu_seconds is not None and self._on_gpu else None
        now = self._joules()
        known = now is not None and self._joules_before is not None and before.energy_j is not None
        state.energy_j = before.energy_j + now - self._joules_before if known else None  # type: ignore[operator]

    def _joules(self) -> float | None:
        """Of all devices, asked by all processes; None where that of one is not known."""
        if self._energy is None:
            return None
        own = self._energy.joules()
        found = self._ranks.total(math.nan if own is None else own)
        return None if math.isnan(found) else found


class EnergyCounter:
    """The energy counter of one GPU; None where the driver does not give it."""

    def __init__(self, device: torch.device) -> None:
        self._handle = None
        try:
            pynvml.nvmlInit()
            # Not the index: CUDA_VISIBLE_DEVICES renumbers what torch sees.
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        except pynvml.NVMLError as error:
            log.info("energy is not measured: %s", error)

    def joules(self) -> float | None:
        """Since the driver was loaded."""
        if self._handle is None:
            return None
        try:
            return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000
        except pynvml.NVMLError:
            return None
