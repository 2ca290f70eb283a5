"""Batches that fit the memory of the device: one that does not is halved, and those after it are no larger. Answers are the same for any size."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, TypeVar

import torch

from ringi.kit.errors import RingiError
from ringi_workers.failures import ran_out_of_memory

Batch = TypeVar("Batch", bound=Sequence[object])
Found = TypeVar("Found")


class DeviceFull(RingiError):
    """The model and a single prompt with its answer do not fit the device's memory, or an adapter does not fit beside the base."""

    code: ClassVar[str] = "evaluation_out_of_memory"
    status: ClassVar[int] = 409

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what} does not fit the memory of the device.", next_step="Ask for shorter items or answers, or measure on a larger device."
        )


class Fit:
    """How many prompts are tried at once: `size`, which shrinks and never grows again."""

    def __init__(self, size: int) -> None:
        self.size = size

    def each(
        self, batches: Iterable[Batch], work: Callable[[Batch], Found], halves: Callable[[Batch], tuple[Batch, Batch] | None]
    ) -> Iterator[tuple[Batch, Found]]:
        """Every batch, whole or in parts, with what `work` made of it; `halves` gives None for what cannot be divided. Raises DeviceFull."""
        for batch in batches:
            waiting = [batch]
            while waiting:
                some = waiting.pop()
                found = self._tried(some, work) if len(some) <= self.size else None
                if found is not None:
                    yield some, found
                    continue
                parts = halves(some)
                if parts is None:
                    raise DeviceFull("A single prompt with its answers")
                waiting += reversed(parts)

    def _tried(self, some: Batch, work: Callable[[Batch], Found]) -> Found | None:
        try:
            return work(some)
        except (RuntimeError, MemoryError) as error:
            if not ran_out_of_memory(error):
                raise
        # Only here, where the traceback is gone: it held the tensors of the pass that failed.
        self.size = min(self.size, max(1, len(some) // 2))
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()
        return None
