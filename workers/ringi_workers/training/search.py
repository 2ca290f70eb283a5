"""One trial of a search, as far as the rule lets it: recipe.py itself, paused where trials are compared and resumed from its own checkpoint.

A trial that reaches its end has therefore the losses, to the last bit on one CPU, of a run that nobody paused. Knows paths and models only.
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.training import LoraSpec
from ringi.kit.errors import RingiError
from ringi_workers.adapters.attach import load_tokenizer
from ringi_workers.training import recipe
from ringi_workers.training.checkpoint import CheckpointStore
from ringi_workers.training.classes import labels_of, training_examples
from ringi_workers.training.launch import in_processes
from ringi_workers.training.loop import ProgressSink
from ringi_workers.training.plan import Plan
from ringi_workers.training.refusals import TrainingCancelled

# More measurements than any run has: the search decides who stops, and not the run.
_NEVER = 2**31


class ValidationNotFinite(RingiError):
    """The validation loss of a trial is NaN or infinite, so it is compared with nothing."""

    code, status = "search_validation_not_finite", 400

    def __init__(self, step: int) -> None:
        super().__init__(
            f"The validation loss was not finite after step {step}.",
            next_step="Nothing: the other trials go on. Search lower learning rates.",
            details={"step": step},
        )


class TrialSink:
    """Passes a trial's progress on to its job, keeps what is compared, and pauses the run after step `until`."""

    def __init__(self, sink: ProgressSink, *, label: str, until: int) -> None:
        self._sink, self._label, self._until = sink, label, until
        self._step = 0
        self.losses: dict[int, float] = {}
        self.label_tokens = 0

    def report(self, progress: Progress) -> None:
        """The time left of one trial would be taken for that of the search, so there is none."""
        self.label_tokens = progress.label_tokens or self.label_tokens
        self._sink.report(progress.model_copy(update={"phase": self._label, "total": self._until, "eta_s": None}))

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Raises ValidationNotFinite."""
        self._step = step
        if "validation_loss" in metrics:
            if not math.isfinite(metrics["validation_loss"]):
                raise ValidationNotFinite(step)
            self.losses[step] = metrics["validation_loss"]

    def should_stop(self) -> bool:
        """Whether the trial has come as far as it may, or the job is to end."""
        return self._step >= self._until or self._sink.should_stop()

    def should_pause(self) -> bool:
        """Never: a search has no rest of its own; it stops its trials by `until`."""
        return False

    @property
    def paused(self) -> bool:
        """Whether it has come as far as it may."""
        return self._step >= self._until


def planned_steps(spec: LoraSpec, *, base: Path, rows: Path) -> int:
    """Steps of a whole run on these rows."""
    tokenizer = load_tokenizer(base)
    return Plan(spec, training_examples(spec, rows, tokenizer, labels_of(spec, rows, tokenizer, None, base=base)).examples).steps


def train_until(
    spec: LoraSpec,
    *,
    compared_after: Sequence[int],
    base: Path,
    rows: Path,
    validation: Path,
    out: Path,
    sink: TrialSink,
    checkpoints: CheckpointStore,
    base_name: str,
    base_commit: str,
    processes: int = 1,
) -> None:
    """Go on from `checkpoints.latest()` until the sink pauses the trial, or to its end. Raises what `in_processes` raises, ValidationNotFinite."""
    first = compared_after[0]
    # A checkpoint stands wherever trials are compared: all but the last comparison are multiples of the first (searches/halving.py).
    whole = spec.model_copy(
        update={"early_stopping_patience": _NEVER, "evaluate_every": first, "checkpoint_every": min(spec.checkpoint_every, first)}
    )
    work = partial(recipe.train, whole, base=base, rows=rows, out=out, base_name=base_name, base_commit=base_commit, validation=validation)
    try:
        in_processes(work, processes, sink=sink, checkpoints=checkpoints)
    except TrainingCancelled:
        if not sink.paused:
            raise
