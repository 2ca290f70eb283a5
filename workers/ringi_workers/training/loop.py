"""The steps of one run in this process: passes, accumulated gradients, the optimiser's move, and what is noted of it.

A step learns from `batch_size` rows however many passes and processes they take: each pass's losses are divided by the label tokens of the
whole step, so the gradient is the one of an undivided step. Out of memory, the passes become smaller and the step begins again.
"""

import gc
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from peft import PeftModel

from ringi.jobs.contracts.parts import Progress
from ringi_workers.failures import WorkPaused, ran_out_of_memory
from ringi_workers.training.checkpoint import CheckpointStore, RunState, save
from ringi_workers.training.data import Example
from ringi_workers.training.packing import Layout, Pass, row_losses, summed_loss
from ringi_workers.training.plan import Plan
from ringi_workers.training.ranks import ALONE, Ranks
from ringi_workers.training.refusals import TrainingCancelled, TrainingDiverged, TrainingOutOfMemory
from ringi_workers.training.spending import Meter
from ringi_workers.training.stopping import Validation

# `final_loss` is the mean over this many last steps, because the loss of one small batch says little.
FINAL_STEPS = 10
# The stored curve has at most so many points, however long the run.
CURVE_POINTS = 50
# What is logged here can be read with `ringi logs JOB`.
log = logging.getLogger("ringi.job")


class ProgressSink(Protocol):
    """Who follows the run. Called at every step: throttling is the sink's business."""

    def report(self, progress: Progress) -> None:
        """Take the live state."""

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Take the figures of one step: loss, learning_rate, grad_norm, tokens_per_s; validation_loss (and _accuracy) where it was measured."""

    def should_stop(self) -> bool:
        """Whether somebody asked the run to stop."""

    def should_pause(self) -> bool:
        """Whether somebody asked the run to rest."""


class StepFigures(NamedTuple):
    """Of one step: mean negative log-likelihood per label token in nats, gradient norm before clipping, tokens read, tokens learnt."""

    loss: float
    grad_norm: float
    tokens: int
    labels: int


class Loop:
    """The steps of one run in this process; `tokens_per_s` counts those of this process, padding not."""

    def __init__(
        self,
        plan: Plan,
        model: PeftModel,
        optimizer: torch.optim.Optimizer,
        layout: Layout,
        sink: ProgressSink,
        validation: Validation | None,
        meter: Meter,
        ranks: Ranks = ALONE,
    ) -> None:
        self._meter, self._ranks = meter, ranks
        self._plan, self._model, self._optimizer = plan, model, optimizer
        self._layout, self._sink, self._validation = layout, sink, validation
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._tokens = 0
        self.tokens_per_s: float | None = None

    def run(self, state: RunState, checkpoints: CheckpointStore | None, *, workspace: Path) -> None:
        """Do the steps that follow `state.step`, keeping `state` up to date; raises what training/refusals.py names."""
        begun, before, steps = time.monotonic(), state.seconds, self._plan.steps
        self._meter.begin(state)
        for done, (step, indices) in enumerate(self._plan.batches(after=state.step), start=1):
            if self._validation is not None and self._validation.over(state):
                log.info("stopped early after step %d: the validation loss was best at step %s", state.step, state.best_step)
                break
            stop, pause = self._ranks.most(int(self._sink.should_stop()), int(self._sink.should_pause()))
            if stop:
                raise TrainingCancelled(state.step)
            if checkpoints is not None and pause:
                save(workspace, self._model, self._optimizer, state, checkpoints, self._ranks)
                raise WorkPaused(state.step)
            rate = self._plan.learning_rate(step)
            figures = self._step(step, indices, rate, state)
            state.step, state.label_tokens = step, state.label_tokens + figures.labels
            noted = {"loss": figures.loss, "learning_rate": rate, "grad_norm": figures.grad_norm} | self._validated(state)
            elapsed = time.monotonic() - begun
            state.seconds, self._tokens = before + elapsed, self._tokens + figures.tokens
            state.tokens = None if state.tokens is None else state.tokens + figures.tokens
            self._meter.note(state, elapsed)
            self.tokens_per_s = self._tokens / elapsed
            note(state, figures.loss, noted.get("validation_loss"), steps)
            self._sink.log(noted | {"tokens_per_s": self.tokens_per_s}, step)
            eta = elapsed / done * (steps - step)
            self._sink.report(
                Progress(
                    phase="training", step=step, total=steps, loss=figures.loss, tokens_per_s=self.tokens_per_s, eta_s=eta,
                    label_tokens=state.label_tokens, cost=state.cost, currency=None if state.cost is None else self._meter.currency,
                )
            )  # fmt: skip
            if checkpoints is not None and step % self._plan.spec.checkpoint_every == 0 and step < steps:
                save(workspace, self._model, self._optimizer, state, checkpoints, self._ranks)
        draw(state)

    def _validated(self, state: RunState) -> dict[str, float]:
        if self._validation is None or not self._validation.due(state.step, self._plan.steps):
            return {}
        batch_size = self._plan.spec.batch_size
        found = {"validation_loss": self._validation.measure(self._model, self._layout, state, batch_size=batch_size, ranks=self._ranks)}
        return found if state.accuracy is None else found | {"validation_accuracy": state.accuracy}

    def _step(self, step: int, indices: Sequence[int], rate: float, state: RunState) -> StepFigures:
        rows = [self._plan.examples[index] for index in self._ranks.share(indices)]
        tokens, labels, own_loss = self._gradients(step, rows, state)
        loss = float(self._ranks.add_up(self._parameters, own_loss))
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._plan.spec.max_grad_norm))
        for what, figure in (("loss", loss), ("gradient", norm)):
            if not math.isfinite(figure):
                raise TrainingDiverged(step, what, self._culprits(indices))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return StepFigures(loss, norm, tokens, labels)

    def _gradients(self, step: int, rows: Sequence[Example], state: RunState) -> tuple[int, int, torch.Tensor]:
        """Put the gradients of this process's rows in place; where memory runs out, again from the step's beginning with passes of half as many rows.

        Returns the tokens and labels of the whole step, and this process's part of its loss.
        """
        while True:
            passes, draws = self._layout.passes(rows), _random_state()
            tokens, labels = self._ranks.totals(sum(one.tokens for one in passes), sum(len(one.targets) for one in passes))
            loss = None
            try:
                loss = self._accumulate(passes, labels)
            except (RuntimeError, MemoryError) as error:
                if not ran_out_of_memory(error):
                    raise
            sizes = max((one.rows for one in passes), default=0), max((one.tokens for one in passes), default=0)
            out_of_memory, largest, longest = self._ranks.most(int(loss is None), *sizes)
            if loss is not None and not out_of_memory:
                return tokens, labels, loss
            # Only here, where the traceback is gone: it held the tensors of the pass that failed.
            self._optimizer.zero_grad(set_to_none=True)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            # The same dropout again, so that a step which succeeds does not tell how many tries it took.
            _set_random_state(draws)
            if largest == 1:
                raise TrainingOutOfMemory(step, longest)
            self._layout.most_rows = state.micro_batch_size = largest // 2
            state.memory_halvings += 1
            log.warning(
                "out of memory at step %d with %d rows a pass; the step begins again with %d rows a pass and twice as many passes",
                step, largest, largest // 2,
            )  # fmt: skip

    def _accumulate(self, passes: Sequence[Pass], labels: int) -> torch.Tensor:
        total = torch.zeros((), device=self._parameters[0].device)
        for one in passes:
            loss = summed_loss(self._model, one) / labels
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _culprits(self, indices: Sequence[int]) -> list[int]:
        """The rows, counted from 1, whose loss by itself is not finite: in a pass with others they spoil these too. Else all."""
        self._model.eval()
        found = []
        with torch.inference_mode():
            for index in indices:
                (one,) = self._layout.passes([self._plan.examples[index]])
                if not bool(torch.isfinite(row_losses(self._model, one)).all()):
                    found.append(index + 1)
        return sorted(found or [index + 1 for index in indices])


def note(state: RunState, loss: float, validation_loss: float | None, steps: int) -> None:
    """Count a step's loss in: the first, the last ones, and the curve, which has a point for each of `CURVE_POINTS` parts of the run."""
    state.first_loss = loss if state.first_loss is None else state.first_loss
    state.last_losses = [*state.last_losses, loss][-FINAL_STEPS:]
    state.since.append(loss)
    if validation_loss is not None:
        state.validation_since = validation_loss
    if state.step % -(-steps // CURVE_POINTS) == 0 or state.step == steps:
        draw(state)


def draw(state: RunState) -> None:
    """The steps since the last point of the curve become a point."""
    if state.since:
        state.curve.append((state.step, sum(state.since) / len(state.since), state.validation_since))
        state.since, state.validation_since = [], None


def _random_state() -> tuple[torch.Tensor, list[torch.Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _set_random_state(state: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
