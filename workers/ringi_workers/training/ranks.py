"""The processes of one run, one for each device of its worker, that share every optimiser step: whose rows are whose, and what all add up.

Each holds the whole model and takes its share of a step's rows. The gradient of a step is that of one process: summed over the rows of all and
divided by the label tokens of all. It is added up once a step, of an adapter in one piece
(docs/decisions/0027-several-devices.md). Who starts these processes is launch.py.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist

One = TypeVar("One")
# Elements that are added up together: of all at once there would be a copy as large as the model where every weight learns (full.py).
_AT_ONCE = 2**26


class Ranks:
    """Process `rank` of `size`, which have joined a process group. A run in one process asks nobody: every answer is its own."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this is the process that writes, tells and is told for all."""
        return self.rank == 0

    def share(self, whole: Sequence[One]) -> Sequence[One]:
        """Of a whole the part of this process: every `size`-th, so that rows in the order of their length are as long everywhere. May be empty."""
        return whole if self.size == 1 else whole[self.rank :: self.size]

    def totals(self, *counts: int) -> tuple[int, ...]:
        """The sums over all processes."""
        return counts if self.size == 1 else tuple(self._reduced(counts, torch.int64, dist.ReduceOp.SUM))

    def most(self, *counts: int) -> tuple[int, ...]:
        """The largest of all processes."""
        return counts if self.size == 1 else tuple(self._reduced(counts, torch.int64, dist.ReduceOp.MAX))

    def total(self, figure: float) -> float:
        """The sum over all processes, NaN where any has NaN."""
        return figure if self.size == 1 else float(self._reduced((figure,), torch.float64, dist.ReduceOp.SUM)[0])

    def _reduced(self, figures: Sequence[float], dtype: torch.dtype, operation: Any) -> list[Any]:
        together = torch.tensor(figures, dtype=dtype)
        dist.all_reduce(together, op=operation)
        found: list[Any] = together.tolist()
        return found

    def add_up(self, parameters: Sequence[torch.nn.Parameter], loss: torch.Tensor) -> torch.Tensor:
        """Put the sum of all processes' gradients in place, the same bits everywhere, and return the sum of their losses (float32, shape ()).

        A parameter without a gradient in any process keeps none: its optimiser would otherwise let it decay.
        """
        if self.size == 1:
            return loss
        has = torch.tensor([one.grad is not None for one in parameters], dtype=torch.float32, device=loss.device)
        known = torch.cat([loss.reshape(1).float(), has])
        dist.all_reduce(known)
        for piece in pieces([one for one, some in zip(parameters, known[1:].tolist(), strict=True) if some]):
            gradients = [torch.zeros(one.numel(), device=loss.device) if one.grad is None else one.grad.flatten().float() for one in piece]
            together = torch.cat(gradients)
            dist.all_reduce(together)
            for one, gradient in zip(piece, torch.split(together, [one.numel() for one in piece]), strict=True):
                # Of its own: a view would keep the whole piece for as long as one of its gradients lives.
                one.grad = gradient.view_as(one).to(one.dtype, copy=True)
        return known[0]

    def alike(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every process the first one's tensors, in place."""
        if self.size > 1:
            for one in tensors:
                dist.broadcast(one.detach(), src=0)

    def gathered(self, own: One) -> list[One]:
        """In the first process what each has, by rank; in the others nothing."""
        if self.size == 1:
            return [own]
        found: list[Any] | None = [None] * self.size if self.first else None
        dist.gather_object(own, found)
        return found or []


def pieces(parameters: Sequence[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """Parameters whose gradients are added up together, in order."""
    piece: list[torch.nn.Parameter] = []
    for one in parameters:
        if piece and sum(other.numel() for other in piece) + one.numel() > _AT_ONCE:
            yield piece
            piece = []
        piece.append(one)
    if piece:
        yield piece


# A run in one process.
ALONE = Ranks()
