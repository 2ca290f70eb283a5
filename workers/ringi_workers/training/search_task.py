"""The search job: whose turn it is says the platform (searches/delivery.py), which also keeps what comes of it. A trial is search.py."""

import shutil
import time
from pathlib import Path

from ringi.db.session import transaction
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.searches import Comparison, SearchPayload, SearchResult, TrialCheckpoint
from ringi.kit.errors import RingiError
from ringi.searches import delivery
from ringi.searches.delivery import NextTurn
from ringi.searches.schemas import TrialState
from ringi.settings import get_settings
from ringi_workers.following import JobSink
from ringi_workers.runtime import job
from ringi_workers.training.launch import processes_for
from ringi_workers.training.refusals import TrainingDiverged, TrainingOutOfMemory
from ringi_workers.training.search import TrialSink, ValidationNotFinite, planned_steps, train_until
from ringi_workers.workspace import Workspace


@job(JobKind.SEARCH_RANK, finish=delivery.finished, failed=delivery.gave_up)
def search(payload: SearchPayload, workspace: Workspace, sink: JobSink) -> SearchResult:
    """Train whoever's turn it is, until nobody's is."""
    begun = time.monotonic()
    sink.report(Progress(phase="fetching"))
    base, rows, validation = workspace.base(payload.base), workspace.fetch(payload.rows), workspace.fetch(payload.validation)
    kept = _Kept(workspace)
    # Ranks and rates change neither the rows nor the number of steps.
    steps = planned_steps(payload.trials[0].spec, base=base, rows=rows)
    while (turn := kept.next_turn(steps)) is not None:
        following = TrialSink(sink, label=_label(turn, len(payload.trials)), until=turn.until)
        trial = _Trial(kept, turn, following)
        out = workspace.root / "trial"
        shutil.rmtree(out, ignore_errors=True)
        try:
            train_until(
                turn.spec, compared_after=turn.steps, base=base, rows=rows, validation=validation, out=out, sink=following, checkpoints=trial,
                base_name=payload.base.repository, base_commit=payload.base.commit,
                processes=processes_for(get_settings().training_processes, batch_size=turn.spec.batch_size),
            )  # fmt: skip
        except (TrainingDiverged, TrainingOutOfMemory, ValidationNotFinite) as error:
            kept.fail(turn, error)
            continue
        if turn.until == turn.steps[-1]:
            trial.end()
    counts = kept.counts()
    return SearchResult(
        steps=steps, trained=counts[TrialState.FINISHED], stopped=counts[TrialState.STOPPED], failed=counts[TrialState.FAILED],
        seconds=time.monotonic() - begun,
    )  # fmt: skip


def _label(turn: NextTurn, trials: int) -> str:
    return f"trial {turn.place + 1} of {trials}: rank {turn.spec.rank}, learning rate {turn.spec.learning_rate:g}"


class _Trial:
    """The checkpoints of one trial; where trials are compared, its loss is kept with them."""

    def __init__(self, kept: "_Kept", turn: NextTurn, following: TrialSink) -> None:
        self._kept, self._turn, self._following = kept, turn, following
        self._before = turn.checkpoint.seconds if turn.checkpoint is not None else 0.0
        self._begun = time.monotonic()

    def latest(self) -> Path | None:
        """Where it goes on."""
        return self._kept.checkpoint(self._turn)

    def save(self, directory: Path, step: int) -> None:
        """Keep a checkpoint, and the comparison if there is one at this step, in one transaction."""
        comparison = self._comparison(step) if step in self._turn.steps else None
        self._kept.keep(self._turn, comparison, directory, step=step, seconds=self._seconds())

    def end(self) -> None:
        """The trial was trained to its end."""
        self._kept.end(self._turn, self._comparison(self._turn.until))

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._begun

    def _comparison(self, step: int) -> Comparison:
        loss = self._following.losses[step]
        return Comparison(step=step, validation_loss=loss, seconds=self._seconds(), label_tokens=self._following.label_tokens)


class _Kept:
    """The platform's side of the job, each call in a short transaction of its own. All raise LeaseLost."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace, self._job = workspace, workspace.job

    def next_turn(self, steps: int) -> NextTurn | None:
        """Whose turn it is."""
        with transaction() as session:
            return delivery.next_turn(session, self._job.id, owner=self._workspace.owner, attempt=self._job.attempt, steps=steps)

    def checkpoint(self, turn: NextTurn) -> Path | None:
        """A folder with the trial's checkpoint."""
        if turn.checkpoint is None:
            return None
        return self._workspace.fetch_tree(turn.checkpoint.files, name=f"checkpoint-{turn.place}-{turn.checkpoint.step}")

    def keep(self, turn: NextTurn, comparison: Comparison | None, directory: Path, *, step: int, seconds: float) -> None:
        """A trial came so far."""
        self._keep(turn, comparison, TrialCheckpoint(step=step, seconds=seconds, files=self._workspace.upload_tree(directory)))

    def end(self, turn: NextTurn, comparison: Comparison) -> None:
        """A trial is at its end."""
        self._keep(turn, comparison, None)

    def _keep(self, turn: NextTurn, comparison: Comparison | None, checkpoint: TrialCheckpoint | None) -> None:
        with transaction() as session:
            delivery.keep(
                session, self._job.id, owner=self._workspace.owner, attempt=self._job.attempt, trial_id=turn.trial_id, comparison=comparison,
                checkpoint=checkpoint,
            )  # fmt: skip

    def fail(self, turn: NextTurn, error: RingiError) -> None:
        """A trial cannot be trained."""
        with transaction() as session:
            delivery.fail(
                session, self._job.id, owner=self._workspace.owner, attempt=self._job.attempt, trial_id=turn.trial_id, error=error
            )

    def counts(self) -> dict[TrialState, int]:
        """How many trials ended in which way."""
        with transaction() as session:
            return delivery.counts(session, self._job.id)
