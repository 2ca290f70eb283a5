"""The fields of the lists of training runs. `metrics.*` are what a finished run measured; what it did not measure matches no comparison."""

from sqlalchemy import select

from ringi.adapters.lists import adapter_of
from ringi.adapters.models import AdapterVersion
from ringi.base_models.lists import base_of
from ringi.datasets.lists import dataset_of
from ringi.identity.lists import owner
from ringi.jobs.contracts.training import TrainMetrics
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.tags.lists import fill, tags_of
from ringi.training.models import TrainingRun
from ringi.web.listing import Listing, column, flag, measured, through, word

# unscoped: the list's own rows are scoped.
_JOBS, _VERSIONS = select(Job.id), select(AdapterVersion.id)
_SPEC = ("rank", "alpha", "dropout", "learning_rate", "epochs", "batch_size", "max_length", "seed")
_FIGURES = sorted(TrainMetrics.model_fields.keys() - {"packed", "stopped_early", "curve", "currency"})

RUNS = Listing(
    "runs", key=TrainingRun.id, families=tags_of(TrainingRun.id), finish=fill,
    fields={
        "adapter": adapter_of(TrainingRun.adapter_id),
        **dataset_of(TrainingRun.dataset_version_id),
        **base_of(TrainingRun.base_revision_id),
        "state": through(TrainingRun.job_id, _JOBS, Job.state, "The state of its job.", choices=JobState),
        "version": through(TrainingRun.version_id, _VERSIONS, AdapterVersion.number, "The number of the version that it sealed."),
        **{f"spec.{name}": measured(TrainingRun.spec, name, about=f"The hyperparameter {name}.") for name in _SPEC},
        "spec.method": word(TrainingRun.spec, "method", about="What was trained: lora, dora, adalora, ia3, vera or full."),
        "spec.init": word(TrainingRun.spec, "init", about="How LoRA's matrices began: zero, pissa or olora."),
        "spec.quantisation": word(TrainingRun.spec, "quantisation", about="How the frozen base was stored while training: none, int8 or nf4."),
        "spec.task": word(TrainingRun.spec, "task", about="What was learnt: causal-lm or sequence-classification."),
        "spec.use_rslora": flag(TrainingRun.spec, "use_rslora", about="Whether the scale follows the square root of the rank."),
        **{f"metrics.{name}": measured(TrainingRun.metrics, name, about=f"The run's {name}.") for name in _FIGURES},
        "metrics.packed": flag(TrainingRun.metrics, "packed", about="Whether its rows were packed without padding."),
        "metrics.stopped_early": flag(TrainingRun.metrics, "stopped_early", about="Whether the validation loss ended it."),
        "owner": owner(TrainingRun.started_by, "Who started it."),
        "created_at": column(TrainingRun.created_at, "When it was started."),
        "finished_at": through(TrainingRun.job_id, _JOBS, Job.finished_at, "When it ended."),
    },
)  # fmt: skip
