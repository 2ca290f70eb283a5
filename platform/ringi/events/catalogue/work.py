"""Events of training runs, evaluations and jobs of any kind."""

from uuid import UUID

from pydantic import Field

from ringi.events.catalogue.data import AdapterName, Code, EventData, Explanation, JobId, RevisionName, VersionName
from ringi.kit.digests import Digest


class _OfRun(EventData):
    run_id: UUID
    adapter: AdapterName
    job_id: JobId


class TrainingRunStarted(_OfRun):
    """A training run was asked for; a worker takes it as soon as one is free."""

    NAME, TITLE = "training.run.started", "学習が開始されました"
    dataset_digest: Digest
    base: RevisionName


class TrainingRunSucceeded(_OfRun):
    """A training run ended with a sealed version."""

    NAME, TITLE = "training.run.succeeded", "学習が成功しました"
    version: VersionName
    version_id: UUID
    manifest_digest: Digest


class TrainingRunFailed(_OfRun):
    """A training run failed for good."""

    NAME, TITLE = "training.run.failed", "学習が失敗しました"
    code: Code
    message: Explanation


class TrainingRunCancelled(_OfRun):
    """A training run was cancelled."""

    NAME, TITLE = "training.run.cancelled", "学習が取り消されました"


class TrainingRunPaused(_OfRun):
    """A training run rests; it goes on from its snapshot when that is asked for."""

    NAME, TITLE = "training.run.paused", "学習が一時停止されました"


class TrainingRunContinued(_OfRun):
    """A paused training run is to go on; a worker takes it as soon as one is free."""

    NAME, TITLE = "training.run.continued", "学習が再開されました"


class SearchRequested(EventData):
    """A search for a rank and a learning rate was asked for."""

    NAME, TITLE = "training.search.requested", "ランクの探索が依頼されました"
    job_id: JobId
    adapter: AdapterName
    dataset_digest: Digest
    trials: int = Field(description="How many pairs of a rank and a learning rate are tried at the most.")


class SearchCompleted(EventData):
    """A search has ended. `rank` and `learning_rate` are what it recommends; null where no trial could be trained."""

    NAME, TITLE = "training.search.completed", "ランクの探索が完了しました"
    job_id: JobId
    adapter: AdapterName
    rank: int | None
    learning_rate: float | None
    reasons: list[str]


class RetrainingPlanned(EventData):
    """New rows were sealed that an adapter depends on, and the project wants it to be trained on them."""

    NAME, TITLE = "training.retraining.planned", "再学習が予定されました"
    retraining_id: UUID
    adapter: AdapterName
    dataset_digest: Digest


class RetrainingEnded(EventData):
    """A retraining has ended: approval was asked for (`requested`), a step was refused, or still newer rows have taken its place."""

    NAME, TITLE = "training.retraining.ended", "再学習が終了しました"
    retraining_id: UUID
    adapter: AdapterName
    state: str = Field(description="`requested`, `refused` or `superseded`.")
    request_id: UUID | None
    code: str | None = Field(description="The stable code of the refusal: docs/errors.md. Null where there was none.")


class _OfEvaluation(EventData):
    evaluation_id: UUID
    version: VersionName
    job_id: JobId


class EvaluationRequested(_OfEvaluation):
    """An evaluation was asked for."""

    NAME, TITLE = "evaluation.requested", "評価が依頼されました"


class EvaluationCompleted(_OfEvaluation):
    """An evaluation was judged. A verdict other than `better` is a result as well."""

    NAME, TITLE = "evaluation.completed", "評価が完了しました"
    verdict: str
    evidence_digest: Digest


class EvaluationFailed(_OfEvaluation):
    """An evaluation failed for good; there is no verdict."""

    NAME, TITLE = "evaluation.failed", "評価が失敗しました"
    code: Code
    message: Explanation


class EvaluationCancelled(_OfEvaluation):
    """An evaluation was cancelled."""

    NAME, TITLE = "evaluation.cancelled", "評価が取り消されました"


class _OfJob(EventData):
    job_id: UUID
    kind: str
    subject: str = Field(description="What it worked for, in words.")


class JobFailed(_OfJob):
    """A job of any kind failed for good. Training runs and evaluations have events of their own beside it."""

    NAME, TITLE = "job.failed", "ジョブが失敗しました"
    code: Code
    message: Explanation


class JobCancelled(_OfJob):
    """A job of any kind was cancelled."""

    NAME, TITLE = "job.cancelled", "ジョブが取り消されました"


class SweepRequested(EventData):
    """A sweep was asked for: many versions of one base, one suite."""

    NAME, TITLE = "evaluation.sweep.requested", "一括評価が依頼されました"
    job_id: JobId
    suite: str = Field(description="The suite's version, as `project/name:v1`.")
    base: RevisionName
    arms: int = Field(description="How many are to be measured, the bare base included.")


class _OfMeasurement(EventData):
    measurement_id: UUID
    job_id: JobId
    version: str = Field(description="The version, as `project/adapter:v3`; of a bare base its revision.")


class MeasurementCompleted(_OfMeasurement):
    """One version, or the bare base, was measured with a suite; or what was measured before with the same bytes was taken over."""

    NAME, TITLE = "evaluation.measurement.completed", "測定が完了しました"
    suite_digest: Digest
    evidence_digest: Digest
    reused: bool


class MeasurementFailed(_OfMeasurement):
    """One version could not be measured; the rest of the sweep goes on."""

    NAME, TITLE = "evaluation.measurement.failed", "測定が失敗しました"
    code: Code
    message: Explanation


class MeasurementStopped(_OfMeasurement):
    """One version was shown to be so much worse than a baseline that it was not asked the rest; the sweep goes on."""

    NAME, TITLE = "evaluation.measurement.stopped", "測定が早期に打ち切られました"
    baseline: str = Field(description="What it was compared with.")
    task: str
    metric: str
    items: int = Field(description="How many items were asked.")
    of: int = Field(description="How many there are.")
    message: Explanation


class MeasurementCancelled(_OfMeasurement):
    """One version was taken out of a sweep; the rest goes on."""

    NAME, TITLE = "evaluation.measurement.cancelled", "測定が取り消されました"


class GateDecided(EventData):
    """The gate decided: GO, NO-GO or INCONCLUSIVE."""

    NAME, TITLE = "evaluation.gate.decided", "品質ゲートの判定が出ました"
    gate_id: UUID
    candidate: str = Field(description="What was judged, as `project/adapter:v3`.")
    baseline: str = Field(description="What it was compared with.")
    asked: str = Field(description="The baseline in the words of whoever asked, such as `channel:production`.")
    suite: str = Field(description="The suite's version, as `project/name:v1`.")
    verdict: str
    decision_digest: Digest
