"""A trial that is paused at every comparison has, to the last bit, the losses of a run that nobody paused."""

from pathlib import Path

import pytest

from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.training import LoraSpec
from ringi_workers.training.refusals import TrainingCancelled
from ringi_workers.training.search import TrialSink, ValidationNotFinite, planned_steps, train_until
from support.recipes import COMMIT, SPEC, FolderCheckpoints, Follower, run
from support.tiny_model import make_tiny_base, make_tiny_rows

STEPS = (6, 18, 30)
TRIAL = SPEC.model_copy(update={"max_steps": STEPS[-1], "checkpoint_every": 3})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    folder = tmp_path_factory.mktemp("files")
    unseen = make_tiny_rows(folder / "unseen.jsonl", 20, seed=99)
    return make_tiny_base(folder / "base"), make_tiny_rows(folder / "rows.jsonl", 120), unseen


def trained(files: tuple[Path, Path, Path], folder: Path, sink: TrialSink, spec: LoraSpec = TRIAL, processes: int = 1) -> None:
    base, rows, unseen = files
    train_until(
        spec, compared_after=STEPS, base=base, rows=rows, validation=unseen, out=folder / "out", sink=sink,
        checkpoints=FolderCheckpoints(folder / "checkpoints"), base_name="bases/tiny", base_commit=COMMIT,
        processes=processes,
    )  # fmt: skip


def test_a_trial_paused_at_each_comparison_is_the_run_that_nobody_paused(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    base, rows, unseen = files
    assert planned_steps(TRIAL, base=base, rows=rows) == STEPS[-1]
    uncut, paused = Follower(), dict[int, float]()
    spec = TRIAL.model_copy(update={"early_stopping_patience": 1000, "evaluate_every": STEPS[0]})
    run(base, rows, tmp_path / "whole", spec=spec, sink=uncut, validation=unseen)
    learnt = 0
    for until in STEPS:
        follower = Follower()
        sink = TrialSink(follower, label=f"to {until}", until=until)
        trained(files, tmp_path, sink)
        reports = [one for one in follower.reports if one.step is not None and one.loss is not None]
        assert [one.step for one in reports] == list(range(max((0, *paused)) + 1, until + 1)), "nothing is trained twice"
        assert {(one.phase, one.total, one.eta_s) for one in reports} == {(f"to {until}", until, None)}
        assert sink.label_tokens > learnt
        learnt, paused = sink.label_tokens, paused | sink.losses
    assert paused == {step: loss for step, (_, loss) in uncut.losses().items() if loss is not None}
    assert set(STEPS) <= paused.keys()


@pytest.mark.proof
def test_a_trial_of_two_processes_is_paused_at_its_comparison_with_the_loss_of_one(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    spec, losses = TRIAL.model_copy(update={"dropout": 0.0}), list[dict[int, float]]()
    for processes in (1, 2):
        sink = TrialSink(Follower(), label="", until=STEPS[0])
        trained(files, tmp_path / str(processes), sink, spec, processes)
        assert sink.paused
        losses.append(sink.losses)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_a_job_that_is_to_end_ends_the_trial_too(files: tuple[Path, Path, Path], tmp_path: Path) -> None:
    class Ended(Follower):
        def should_stop(self) -> bool:
            return any(one.step == 4 for one in self.reports)

    with pytest.raises(TrainingCancelled):
        trained(files, tmp_path, TrialSink(Ended(), label="", until=18))


def test_a_validation_loss_that_is_no_number_is_compared_with_nothing() -> None:
    sink = TrialSink(Follower(), label="", until=18)
    sink.log({"loss": 1.0, "validation_loss": 2.0}, 6)
    with pytest.raises(ValidationNotFinite):
        sink.log({"loss": 1.0, "validation_loss": float("nan")}, 12)
    sink.report(Progress(phase="loading"))
    assert sink.losses == {6: 2.0}
