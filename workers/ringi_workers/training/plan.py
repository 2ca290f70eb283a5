"""What a run will do, as a function of its spec and its rows alone: the batches of every epoch and the learning rate of every step.

A resumed run needs no state for either.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ringi.jobs.contracts.training import LoraSpec, Schedule
from ringi_workers.training.data import Example, epoch_batches


@dataclass(frozen=True)
class Plan:
    """The batches of the whole run, epoch after epoch, as a function of spec and rows only."""

    spec: LoraSpec
    examples: tuple[Example, ...]

    @property
    def steps(self) -> int:
        """Optimiser steps of the run: all epochs, or `max_steps` where that is less."""
        whole = self.spec.epochs * math.ceil(len(self.examples) / self.spec.batch_size)
        return whole if self.spec.max_steps is None else min(whole, self.spec.max_steps)

    def batches(self, *, after: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """(step counted from 1, indices into `examples`) of the steps that follow step `after`."""
        per_epoch = math.ceil(len(self.examples) / self.spec.batch_size)
        for epoch in range(after // per_epoch, self.spec.epochs):
            batches = epoch_batches(self.examples, batch_size=self.spec.batch_size, seed=self.spec.seed, epoch=epoch)
            for step, batch in enumerate(batches, start=epoch * per_epoch + 1):
                if step > self.steps:
                    return
                if step > after:
                    yield step, batch

    def learning_rate(self, step: int) -> float:
        """Rate of step 1..`steps`: up in a line over the warm-up; then as the schedule says, to zero just after the last step or constant.

        The cosine is that of Loshchilov & Hutter 2017 (arXiv:1608.03983) without restarts.
        """
        warmup = math.ceil(self.spec.warmup_fraction * self.steps)
        if step <= warmup:
            return self.spec.learning_rate * step / warmup
        match self.spec.schedule:
            case Schedule.LINEAR:
                return self.spec.learning_rate * (self.steps - step + 1) / (self.steps - warmup)
            case Schedule.COSINE:
                return self.spec.learning_rate * (1 + math.cos(math.pi * (step - warmup - 1) / (self.steps - warmup))) / 2
            case Schedule.CONSTANT:
                return self.spec.learning_rate
