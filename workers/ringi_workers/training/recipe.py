"""The LoRA run, top to bottom: seed, model, data, loop, checkpoint, export. After training/data.py, before training/export.py.

Knows paths and models only: no database, no broker, no settings, so one call runs it from a test or a notebook.
Method: LoRA (Hu et al. 2021, arXiv:2106.09685) with AdamW (Loshchilov & Hutter 2019), linear warm-up and linear decay to zero.
"""

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy

from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.training import LoraSpec, TrainMetrics
from ringi.kit.digests import sha256_file, sha256_json
from ringi.kit.errors import RingiError
from ringi_workers.adapters.attach import base_dtype, load_base, load_tokenizer, require_target_modules, runtime_facts
from ringi_workers.training.checkpoint import CheckpointStore, RunState, restore, save
from ringi_workers.training.data import IGNORED, Batch, Example, collate, epoch_batches, load_examples, pad_id_of
from ringi_workers.training.export import export_adapter

# `final_loss` is the mean over this many last steps, because the loss of one small batch says little.
FINAL_STEPS = 10


class TrainingCancelled(RingiError):
    """Somebody asked the run to stop."""

    code, status = "training_cancelled", 409

    def __init__(self, step: int) -> None:
        super().__init__(
            f"The run was cancelled after step {step}.", next_step="Start a new run when you want one.", details={"step": step}
        )


class TrainingDiverged(RingiError):
    """Loss or gradient became NaN or infinite; another try from the same spec would end the same way."""

    code, status = "training_diverged", 400

    def __init__(self, step: int, what: str) -> None:
        super().__init__(
            f"The {what} was not finite at step {step}.",
            next_step="Start a run with a lower learning rate or more warm-up.",
            details={"step": step, "what": what},
        )


class ProgressSink(Protocol):
    """Who follows the run. Called at every step: throttling is the sink's business."""

    def report(self, progress: Progress) -> None:
        """Take the live state."""

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Take the figures of one step: loss, learning_rate, grad_norm, tokens_per_s."""

    def should_stop(self) -> bool:
        """Whether somebody asked the run to stop."""


class TrainedAdapter(NamedTuple):
    """The exported PEFT folder, what was measured, and the versions and device it was measured with."""

    directory: Path
    metrics: TrainMetrics
    runtime: dict[str, str]


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
                if after < step <= self.steps:
                    yield step, batch

    def learning_rate(self, step: int) -> float:
        """Rate of step 1..`steps`: up in a line over the warm-up, then down in a line to zero just after the last step."""
        warmup = math.ceil(self.spec.warmup_fraction * self.steps)
        if step <= warmup:
            return self.spec.learning_rate * step / warmup
        return self.spec.learning_rate * (self.steps - step + 1) / (self.steps - warmup)


def train(
    spec: LoraSpec,
    *,
    base: Path,
    rows: Path,
    out: Path,
    sink: ProgressSink,
    checkpoints: CheckpointStore | None,
    base_name: str,
    base_commit: str,
) -> TrainedAdapter:
    """Train a LoRA on `rows` over the Hugging Face folder `base` and export it to `out`; resumes from `checkpoints.latest()`.

    On one machine's CPU a resumed run ends with the same weights as an uninterrupted one. Raises UnknownTargetModules, NoLabelTokens,
    UnreadableRow, TrainingDiverged, TrainingCancelled, CheckpointForeign.
    """
    sink.report(Progress(phase="loading"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = base_dtype(base, device)
    tokenizer = load_tokenizer(base)
    data = load_examples(rows, tokenizer, spec.max_length)
    torch.manual_seed(spec.seed)
    model = _adapted(spec, load_base(base, dtype=dtype, device=device))
    plan = Plan(spec, data.examples)
    identity = sha256_json({"spec": spec.model_dump(mode="json"), "base_commit": base_commit, "rows": sha256_file(rows)})
    optimizer = torch.optim.AdamW(_trainable(model), lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True)
    state = RunState(identity=identity)
    if checkpoints is not None and (latest := checkpoints.latest()) is not None:
        state = restore(latest, model, optimizer, identity=identity)
    loop = _Loop(plan, model, optimizer, pad_id_of(tokenizer), sink)
    loop.run(state, checkpoints, workspace=out)
    sink.report(Progress(phase="exporting", step=plan.steps, total=plan.steps))
    export_adapter(model, out, base_name=base_name, base_commit=base_commit)
    metrics = TrainMetrics(
        steps=plan.steps,
        rows=len(data.examples),
        skipped_rows=data.skipped,
        first_loss=state.first_loss,
        final_loss=sum(state.last_losses) / len(state.last_losses) if state.last_losses else None,
        label_tokens=state.label_tokens,
        tokens_per_s=loop.tokens_per_s,
        seconds=state.seconds,
        resumed_from_step=state.resumed_from,
    )
    return TrainedAdapter(out, metrics, runtime_facts(device, dtype))


def _adapted(spec: LoraSpec, model: Any) -> PeftModel:
    require_target_modules(model, spec.target_modules)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=spec.rank,
        # The annotation says int, the arithmetic takes any number.
        lora_alpha=spec.alpha,  # type: ignore[arg-type]
        lora_dropout=spec.dropout,
        target_modules=list(spec.target_modules),
        use_rslora=spec.use_rslora,
    )
    # The adapter stays in float32 over a bf16 base: small updates would be rounded away.
    adapted: PeftModel = get_peft_model(model, config, autocast_adapter_dtype=True)
    return adapted.train()


def _trainable(model: PeftModel) -> list[torch.nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


class StepFigures(NamedTuple):
    """Of one step: mean negative log-likelihood per label token in nats, gradient norm before clipping, tokens read, tokens learnt."""

    loss: float
    grad_norm: float
    tokens: int
    labels: int


class _Loop:
    """The steps of one run in this process."""

    def __init__(self, plan: Plan, model: PeftModel, optimizer: torch.optim.Optimizer, pad_id: int, sink: ProgressSink) -> None:
        self._plan, self._model, self._optimizer, self._pad_id, self._sink = plan, model, optimizer, pad_id, sink
        self._device = next(model.parameters()).device
        self._parameters = _trainable(model)
        self._tokens = 0
        self.tokens_per_s: float | None = None

    def run(self, state: RunState, checkpoints: CheckpointStore | None, *, workspace: Path) -> None:
        """Do the steps that follow `state.step`, keeping `state` up to date."""
        begun, before = time.monotonic(), state.seconds
        steps = self._plan.steps
        for done, (step, indices) in enumerate(self._plan.batches(after=state.step), start=1):
            if self._sink.should_stop():
                raise TrainingCancelled(state.step)
            rate = self._plan.learning_rate(step)
            figures = self._step(step, collate([self._plan.examples[index] for index in indices], self._pad_id), rate)
            elapsed = time.monotonic() - begun
            self._tokens += figures.tokens
            self.tokens_per_s = self._tokens / elapsed
            state.step, state.seconds = step, before + elapsed
            state.label_tokens += figures.labels
            state.first_loss = figures.loss if state.first_loss is None else state.first_loss
            state.last_losses = [*state.last_losses, figures.loss][-FINAL_STEPS:]
            self._sink.log(
                {"loss": figures.loss, "learning_rate": rate, "grad_norm": figures.grad_norm, "tokens_per_s": self.tokens_per_s}, step
            )
            eta = elapsed / done * (steps - step)
            self._sink.report(
                Progress(phase="training", step=step, total=steps, loss=figures.loss, tokens_per_s=self.tokens_per_s, eta_s=eta)
            )
            if checkpoints is not None and step % self._plan.spec.checkpoint_every == 0 and step < steps:
                save(workspace, self._model, self._optimizer, state, checkpoints)

    def _step(self, step: int, batch: Batch, rate: float) -> StepFigures:
        loss = self._loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._plan.spec.max_grad_norm))
        value = float(loss.detach())
        for what, figure in (("loss", value), ("gradient", norm)):
            if not math.isfinite(figure):
                raise TrainingDiverged(step, what)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return StepFigures(value, norm, int(batch.mask.sum()), int((batch.labels != IGNORED).sum()))

    def _loss(self, batch: Batch) -> torch.Tensor:
        """Mean negative log-likelihood per label token, in nats; logits are computed only at columns where some row has a label."""
        ids, mask = batch.ids.to(self._device), batch.mask.to(self._device)
        # The logits of column i predict the token of column i + 1.
        columns = (batch.labels[:, 1:] != IGNORED).any(dim=0).nonzero().flatten()
        targets = batch.labels[:, 1:][:, columns].to(self._device)
        with self._precision():
            output = self._model(input_ids=ids, attention_mask=mask, logits_to_keep=columns.to(self._device), use_cache=False)
        chosen = targets != IGNORED
        return cross_entropy(output.logits[chosen].float(), targets[chosen])

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._model.dtype == torch.bfloat16)
