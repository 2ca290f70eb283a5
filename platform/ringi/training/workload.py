"""What a plan asks of its worker, in the words of the forecast (preflight/). Pure; the only place that knows both."""

from ringi.jobs.contracts.training import LoraSpec
from ringi.preflight.schemas import Workload


def workload_of(spec: LoraSpec) -> Workload:
    """The workload of one run. Its precision is the worker's choice, so service.py of preflight sets it for each worker."""
    return Workload(
        rank=spec.rank, target_modules=list(spec.target_modules), dropout=spec.dropout, batch_size=spec.batch_size, max_length=spec.max_length,
        epochs=spec.epochs, max_steps=spec.max_steps,
    )  # fmt: skip
