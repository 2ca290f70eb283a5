"""Early stopping: the validation loss every so many steps, the weights of the best one, and the end when nothing better came for a while.

Prechelt 1998, "Early Stopping: But When?", https://doi.org/10.1007/3-540-49430-8_3: his criterion UP, with patience.
"""

from collections.abc import Sequence

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy

from ringi_workers.training.checkpoint import RunState, copy_weights
from ringi_workers.training.data import Example
from ringi_workers.training.packing import Layout, class_logits, token_losses
from ringi_workers.training.ranks import ALONE, Ranks

# Rows of the validation part that are asked: more would make the loss little surer and the run much longer.
SAMPLE = 512


class Validation:
    """The rows that are never learnt from."""

    def __init__(self, examples: Sequence[Example], *, patience: int, every: int) -> None:
        # Evenly over the file, whose order may mean something; sorted by length, so that passes are even.
        spread = examples[:: -(-len(examples) // SAMPLE)]
        self._examples = sorted(spread, key=lambda example: len(example.input_ids))
        self._patience, self._every = patience, every

    def due(self, step: int, steps: int) -> bool:
        """Whether to measure after `step` of `steps`: at every so many, and at the last."""
        return step % self._every == 0 or step == steps

    def over(self, state: RunState) -> bool:
        """Whether the run has waited long enough for a better loss."""
        return state.stale >= self._patience

    def measure(self, model: PeftModel, layout: Layout, state: RunState, *, batch_size: int, ranks: Ranks = ALONE) -> float:
        """The mean negative log-likelihood per label token in nats, without dropout; keeps the weights where it is the best so far.

        Of a classifier per row, and `state.accuracy` is then the share of the rows that it gets right. Several processes measure a part each, and all find
        the same.
        """
        model.eval()
        total, labels = 0.0, 0
        right: int | None = None
        with torch.inference_mode():
            for start in ranks.share(range(0, len(self._examples), batch_size)):
                for one in layout.passes(self._examples[start : start + batch_size]):
                    labels += len(one.targets)
                    if one.keep is not None:
                        total += float(token_losses(model, one).sum(dtype=torch.float64))
                        continue
                    logits, targets = class_logits(model, one), one.targets.to(model.device)
                    total += float(cross_entropy(logits, targets, reduction="none").sum(dtype=torch.float64))
                    right = (right or 0) + int((logits.argmax(dim=1) == targets).sum())
        model.train()
        everywhere, hits, asked = ranks.totals(labels, right or 0, right is not None)
        loss, state.accuracy = ranks.total(total) / everywhere, hits / everywhere if asked else None
        # A loss that is not finite is no better than any, and the first one is the best so far only if it is a number.
        if loss < (float("inf") if state.best_loss is None else state.best_loss):
            state.best_loss, state.best_step, state.stale, state.best_accuracy = loss, state.step, 0, state.accuracy
            # The first process keeps and exports them for all.
            state.best_weights = copy_weights(model) if ranks.first else None
        else:
            state.stale += 1
        return loss
