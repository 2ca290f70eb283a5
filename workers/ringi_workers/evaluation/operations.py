"""How a pass behaved: counted batch by batch, told as `ringi.jobs.contracts.suites.Operations`."""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ringi.jobs.contracts.suites import Answer, Operations
from ringi_workers import peak_memory


class Meter:
    """Times the batches of one pass."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.first_tokens: list[float] = []
        self.begun = time.perf_counter()
        self.scoring: set[str] = set()
        self.read_tokens = 0
        self.last_batch_s = 0.0
        peak_memory.forget(device)

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Around one batch; `last_batch_s` is its time afterwards. Its results must be on the CPU before it ends."""
        begun = time.perf_counter()
        yield
        self.last_batch_s = time.perf_counter() - begun

    def operations(self, answers: Sequence[Answer], *, generated: bool, pace: str, batch_size: int) -> Operations:
        """The figures of the whole pass."""
        seconds = time.perf_counter() - self.begun
        shares = sorted(answer.seconds for answer in answers if answer.seconds is not None)
        written = sum(answer.output_tokens for answer in answers) if generated else 0
        return Operations(
            items=len(answers),
            seconds=seconds,
            prompt_tokens=sum(answer.prompt_tokens for answer in answers),
            output_tokens=sum(answer.output_tokens for answer in answers),
            read_tokens_per_s=self.read_tokens / seconds if self.read_tokens else None,
            tokens_per_s=written / seconds if written else None,
            first_token_s=statistics.median(self.first_tokens) if self.first_tokens else None,
            item_p50_s=_quantile(shares, 0.5),
            item_p95_s=_quantile(shares, 0.95),
            peak_memory_bytes=peak_memory.bytes_of(self.device),
            scoring=tuple(sorted(self.scoring)),
            generation=str(pace) if generated else None,
            batch_size=batch_size,
        )


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of the values does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
