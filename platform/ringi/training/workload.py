"""What a plan asks of its worker, in the words of the forecast (preflight/). Pure; the only place that knows both."""

from ringi.adapters.labels import FEWEST_LABELS
from ringi.jobs.contracts.methods import MOST_RANK, Method, TrainingTask, sealed_rank
from ringi.jobs.contracts.training import LoraSpec
from ringi.preflight.schemas import Trained, Workload


def workload_of(spec: LoraSpec) -> Workload:
    """The workload of one run. Its precision is the worker's choice, so service.py of preflight sets it for each worker."""
    if spec.method is Method.FULL:
        return Workload(
            method=Trained.FULL, batch_size=spec.batch_size, max_length=spec.max_length, epochs=spec.epochs, max_steps=spec.max_steps,
            checkpointing=spec.gradient_checkpointing, snapshot_every=spec.checkpoint_every, keeps_best=spec.early_stopping_patience is not None,
        )  # fmt: skip
    return Workload(
        rank=rank_of(spec), target_modules=list(spec.target_modules), dropout=spec.dropout, batch_size=spec.batch_size, max_length=spec.max_length,
        epochs=spec.epochs, max_steps=spec.max_steps, quantisation=spec.quantisation,
        # How many there are only the rows say: preflight counts them.
        classes=FEWEST_LABELS if spec.task is TrainingTask.SEQUENCE_CLASSIFICATION else None,
    )  # fmt: skip


def rank_of(spec: LoraSpec) -> int:
    """The rank of a LoRA that is trained in about the memory of this run; more where it is not known exactly.

    The vectors of IA3 and VeRA are fewer numbers than a LoRA of rank 1 has.
    """
    if spec.method in {Method.IA3, Method.VERA}:
        return 1
    return min(MOST_RANK, sealed_rank(spec.method, spec.init, max([spec.adapter_rank, *spec.rank_pattern.values()])))
