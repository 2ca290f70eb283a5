"""A run, top to bottom: seed, model, data, loop, export. After training/data.py, before training/export.py.

Knows paths and models only: no database, no broker, no settings, so one call runs it from a test or a notebook.
What is trained is training/methods.py, with AdamW (Loshchilov & Hutter 2019); the steps are training/loop.py, their batches and rates
training/plan.py, how rows become passes training/packing.py.
"""

import logging
from pathlib import Path
from typing import NamedTuple

import torch
from peft import PeftModel

from ringi.adapters.labels import ClassLabels
from ringi.jobs.contracts.methods import Method, TrainingTask
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.training import BRANCHABLE, CurvePoint, LoraSpec, Packing, PriceTable, TrainMetrics
from ringi.kit.digests import Digest, sha256_file, sha256_json
from ringi_workers.adapters.attach import base_dtype, load_tokenizer, runtime_facts
from ringi_workers.adapters.heads import Classifier
from ringi_workers.training.checkpoint import CheckpointStore, RunState, put_weights, restore, weights_of
from ringi_workers.training.classes import labels_of, padding_of, training_examples, validation_examples
from ringi_workers.training.data import Example, Examples
from ringi_workers.training.earlier import Earlier, begun
from ringi_workers.training.export import WEIGHTS_FILE, export_adapter
from ringi_workers.training.full import all_weights, precisions, seal
from ringi_workers.training.loop import Loop, ProgressSink
from ringi_workers.training.methods import adapted, optimizer_of, ready
from ringi_workers.training.packing import Layout, Separation, attention_of, head_for, prefer_flash, separation, set_attention
from ringi_workers.training.plan import Plan
from ringi_workers.training.quantised import load_quantised, load_quantised_classifier, stored
from ringi_workers.training.ranks import ALONE, Ranks
from ringi_workers.training.refusals import PackingUnsupported
from ringi_workers.training.row_attention import NAME as BY_ROWS
from ringi_workers.training.spending import Meter
from ringi_workers.training.stopping import Validation

log = logging.getLogger("ringi.job")


class TrainedAdapter(NamedTuple):
    """The exported PEFT folder (of full fine-tuning: the model), what was measured, and the versions and device it was measured with."""

    directory: Path
    metrics: TrainMetrics
    runtime: dict[str, str]


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
    validation: Path | None = None,
    branched_at: int | None = None,
    prices: PriceTable | None = None,
    earlier: Earlier | None = None,
    ranks: Ranks = ALONE,
) -> TrainedAdapter:
    """Train what the spec says on `rows` over the Hugging Face folder `base` and export it to `out`; resumes from `checkpoints.latest()`.

    On one machine's CPU a resumed run ends with the same weights as an uninterrupted one. Early stopping needs `validation`, rows of the
    same form. `branched_at`: the step of the snapshot of another run from which this one begins. `prices`: for its cost. `earlier`: what the run
    begins with. `ranks`: the processes that do the run together; the first one exports. Raises UnknownTargetModules,
    NoSuggestedTargets, EarlierDoesNotFit, QuantisationUnavailable, NoLabelTokens, UnreadableRow, CheckpointForeign, what refusals, classes, full and heads name.
    """
    sink.report(Progress(phase="loading"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = base_dtype(base, device)
    tokenizer = load_tokenizer(base)
    labels = labels_of(spec, rows, tokenizer, earlier, base=base)
    data = training_examples(spec, rows, tokenizer, labels)
    unseen = validation_examples(spec, validation, tokenizer, labels)
    torch.manual_seed(spec.seed)
    plan = Plan(spec, data.examples)
    model = _model(spec, base, plan, labels, earlier, dtype=dtype, device=device)
    optimizer = optimizer_of(spec, model)
    _agree(ranks, model, spec)
    state = RunState(
        identity=identity_of(spec, base_commit=base_commit, rows=rows, validation=validation, earlier=earlier),
        lineage=lineage_of(spec, base_commit=base_commit, rows=rows, earlier=earlier),
    ).begun()
    if checkpoints is not None and (latest := checkpoints.latest()) is not None:
        state = restore(latest, model, optimizer, run=state, ranks=ranks)
        if state.step == branched_at:
            # Until here the time was the other run's.
            state = state.begun()
    layout = _layout(spec, model, data.examples, padding_of(tokenizer, labels), state)
    meter = Meter(device, prices, ranks)
    loop = Loop(plan, model, optimizer, layout, sink, _validation(spec, unseen), meter, ranks)
    loop.run(state, checkpoints, workspace=out)
    sink.report(Progress(phase="exporting", step=state.step, total=plan.steps))
    if state.best_weights is not None:
        put_weights(model, state.best_weights)
    runtime = runtime_facts(device, dtype) | stored(spec.quantisation) | {"attention": attention_of(model)}
    metrics = _metrics(state, plan, data, layout, loop.tokens_per_s, meter).model_copy(update={"processes": ranks.size})
    if not ranks.first:
        return TrainedAdapter(out, metrics, runtime)
    if spec.method is not Method.FULL:
        export_adapter(model, out, base_name=base_name, base_commit=base_commit, labels=labels)
        return TrainedAdapter(out, metrics, runtime)
    losses = seal(model, out, data.examples, layout, base=base, base_name=base_name, base_commit=base_commit)
    return TrainedAdapter(out, metrics.model_copy(update=losses._asdict()), runtime | precisions(base))


def _agree(ranks: Ranks, model: PeftModel, spec: LoraSpec) -> None:
    """All processes begin with the same weights, and draw each for itself from here."""
    ranks.alike(weights_of(model).values())
    if not ranks.first:
        # Other rows, so other dropout.
        torch.manual_seed(spec.seed + ranks.rank)


def _model(
    spec: LoraSpec, base: Path, plan: Plan, labels: ClassLabels | None, earlier: Earlier | None, *, dtype: torch.dtype, device: torch.device
) -> PeftModel:
    """The base with what is trained; the head of a classifier is drawn from torch's random state."""
    if spec.method is Method.FULL:
        whole = load_quantised(base, spec.quantisation, dtype=torch.float32, device=device)
        prefer_flash(whole)
        return ready(spec, all_weights(whole, computing=dtype))
    if labels is None:
        found = Classifier(load_quantised(base, spec.quantisation, dtype=dtype, device=device), made=())
    else:
        found = load_quantised_classifier(base, labels, spec.quantisation, dtype=dtype, device=device)
    prefer_flash(found.model)
    return (
        adapted(spec, found.model, steps=plan.steps, made=found.made) if earlier is None else begun(spec, found.model, earlier, base=base)
    )


def identity_of(spec: LoraSpec, *, base_commit: str, rows: Path, validation: Path | None, earlier: Earlier | None = None) -> Digest:
    """What a checkpoint must have been made from. A field that came later says nothing at its default, so older checkpoints stay good."""
    document = _made_from(spec.model_dump(mode="json", exclude_defaults=True), base_commit, rows, earlier)
    return sha256_json(document if validation is None else document | {"validation": sha256_file(validation)})


def lineage_of(spec: LoraSpec, *, base_commit: str, rows: Path, earlier: Earlier | None = None) -> Digest:
    """What a snapshot must have been made from for a run to branch off from it."""
    return sha256_json(_made_from(spec.model_dump(mode="json", exclude_defaults=True, exclude=set(BRANCHABLE)), base_commit, rows, earlier))


def _made_from(spec: dict[str, object], base_commit: str, rows: Path, earlier: Earlier | None) -> dict[str, object]:
    document: dict[str, object] = {"spec": spec, "base_commit": base_commit, "rows": sha256_file(rows)}
    if earlier is not None:
        document |= {"earlier": sha256_file(earlier.folder / WEIGHTS_FILE), "stacked": earlier.stacked}
    return document


def _layout(spec: LoraSpec, model: PeftModel, examples: tuple[Example, ...], pad_id: int, state: RunState) -> Layout:
    """How the run's rows become passes; decided once, so that a resumed run goes on in the same way. Raises PackingUnsupported."""
    if state.packed is None:
        found = Separation(False, False, "")
        if spec.packing is not Packing.OFF:
            found = _separation(spec, model, examples)
        if found.reason and spec.packing is Packing.ON:
            raise PackingUnsupported(found.reason)
        if found.reason:
            log.warning("rows are padded instead of packed: %s", found.reason)
        state.packed, state.by_rows = found.packed, found.by_rows
    elif state.by_rows:
        set_attention(model, BY_ROWS)
    most_rows = state.micro_batch_size or spec.micro_batch_size or spec.batch_size
    layout = Layout(
        packed=state.packed, pack_length=spec.pack_length, pad_id=pad_id, most_rows=min(most_rows, spec.batch_size), by_rows=state.by_rows
    )
    if spec.task is TrainingTask.CAUSAL_LM:
        layout.head = head_for(model, examples, layout)
    return layout


def _separation(spec: LoraSpec, model: PeftModel, examples: tuple[Example, ...]) -> Separation:
    if spec.task is TrainingTask.SEQUENCE_CLASSIFICATION:
        return Separation(False, False, "a classifier reads one place of each row")
    return separation(model, examples, most_tokens=spec.pack_length)


def _validation(spec: LoraSpec, examples: tuple[Example, ...]) -> Validation | None:
    if spec.early_stopping_patience is None or not examples:
        return None
    return Validation(examples, patience=spec.early_stopping_patience, every=spec.evaluate_every)


def _metrics(state: RunState, plan: Plan, data: Examples, layout: Layout, tokens_per_s: float | None, meter: Meter) -> TrainMetrics:
    return TrainMetrics(
        steps=state.step,
        rows=len(data.examples),
        skipped_rows=data.skipped,
        first_loss=state.first_loss,
        final_loss=sum(state.last_losses) / len(state.last_losses) if state.last_losses else None,
        label_tokens=state.label_tokens,
        tokens_per_s=tokens_per_s,
        seconds=state.seconds,
        resumed_from_step=state.resumed_from,
        micro_batch_size=layout.most_rows,
        memory_halvings=state.memory_halvings,
        validation_loss=state.best_loss,
        best_step=state.best_step,
        packed=layout.packed,
        stopped_early=state.step < plan.steps,
        curve=tuple(CurvePoint(step=step, loss=loss, validation_loss=unseen) for step, loss, unseen in state.curve),
        tokens=state.tokens,
        gpu_seconds=state.gpu_seconds,
        energy_j=state.energy_j,
        cost=state.cost,
        currency=None if state.cost is None else meter.currency,
        peak_memory_bytes=meter.peak_memory_bytes(),
        validation_accuracy=state.best_accuracy,
    )
