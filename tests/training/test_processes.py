"""A run in two processes is the run in one: the same steps, decided together; and no process outlives the run, whoever is killed."""

import json
import os
import pickle
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from ringi.kit.digests import sha256_file
from ringi_workers.failures import WorkPaused
from ringi_workers.training.launch import TrainingProcessLost, in_processes, processes_for
from ringi_workers.training.ranks import ALONE, pieces
from ringi_workers.training.recipe import TrainedAdapter, train
from ringi_workers.training.refusals import TrainingDiverged
from support.recipes import COMMIT, FolderCheckpoints, Follower
from support.shared_steps import DROPPING, OF_METHODS, ROWS, Losses, Seen, learn, scenes, steps
from support.tiny_model import make_tiny_base, make_tiny_rows

pytestmark = pytest.mark.long

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", ROWS)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_rows(tmp_path_factory.mktemp("rows") / "unseen.jsonl", 20, seed=99)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def alone(base: Path, rows: Path, unseen: Path, out: Path) -> Losses:
    """The losses of the run in one process, which leaves its snapshots."""
    return learn(base, rows, out / "alone", ALONE, unseen=unseen, folder=out / "snapshots")


@pytest.fixture(scope="module")
def together(base: Path, rows: Path, unseen: Path, out: Path, alone: Losses) -> dict[str, Any]:
    """The scenes in two processes."""
    assert alone
    work: Any = partial(scenes, base, rows, unseen, out / "together", out / "snapshots")
    found: Any = in_processes(work, 2, sink=Follower(), checkpoints=None)
    return dict(found)


def agree(found: Losses, wanted: Losses) -> None:
    """Rounding alone: sums of rows are added in another order."""
    assert list(found) == list(wanted)
    for step, (loss, unseen_loss) in wanted.items():
        assert found[step][0] == pytest.approx(loss, rel=1e-4)
        assert (found[step][1] is None) == (unseen_loss is None)
        if unseen_loss is not None:
            assert found[step][1] == pytest.approx(unseen_loss, rel=1e-4)


def test_the_losses_are_those_of_one_process_also_where_a_step_has_fewer_rows_than_processes(
    together: dict[str, Any], alone: Losses, out: Path
) -> None:
    agree(together["whole"], alone)
    wanted, found = load_file(out / "alone" / WEIGHTS), load_file(out / "together" / "whole" / WEIGHTS)
    for name, tensor in wanted.items():
        assert torch.allclose(found[name], tensor, atol=1e-3, rtol=1e-2), name


def test_a_run_begun_in_one_process_goes_on_in_two(together: dict[str, Any], alone: Losses) -> None:
    agree(together["gone on"], {step: losses for step, losses in alone.items() if step > 10})


@pytest.mark.parametrize("method", list(OF_METHODS))
def test_what_a_method_does_besides_its_gradient_is_done_alike_everywhere(
    together: dict[str, Any], base: Path, rows: Path, tmp_path: Path, method: Any
) -> None:
    agree(together[method.value], learn(base, rows, tmp_path, ALONE, spec=OF_METHODS[method]))


def test_a_device_that_is_full_makes_the_passes_of_all_smaller_and_the_step_stays_the_same(together: dict[str, Any]) -> None:
    wanted, found = steps(ALONE), together["room"]
    agree(found.losses, wanted.losses)
    # Four rows each did not fit one of them.
    assert [place[:4] for place in found.places] == [(None, 6, 1, 2)] * 2
    assert found.places[0][4] == found.places[1][4]


def test_a_loss_that_is_not_finite_in_one_process_ends_all_with_the_same_rows(together: dict[str, Any]) -> None:
    wanted: Seen = steps(ALONE, spoilt=13)
    found: Seen = together["spoilt"]
    assert found.details == wanted.details
    assert found.details["rows"] == [14]
    assert [place[:2] for place in found.places] == [wanted.places[0][:2]] * 2
    assert found.places[0][0] == TrainingDiverged.code


def test_who_is_asked_to_stop_stops_all_after_the_same_step(together: dict[str, Any]) -> None:
    assert [place[:2] for place in together["stopped"].places] == [("training_cancelled", 3)] * 2


class Killing(Follower):
    """Kills the second process of the run after a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._step = step
        self.killed: list[int] = []

    def log(self, metrics: dict[str, float], step: int) -> None:
        super().log(metrics, step)
        if step == self._step:
            _, second = processes_of(psutil.Process())
            second.send_signal(signal.SIGKILL)
            self.killed.append(second.pid)


def processes_of(parent: psutil.Process) -> list[psutil.Process]:
    """Those of a run, in the order in which they were started."""
    return sorted(
        (one for one in parent.children() if one.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(one.cmdline())),
        key=lambda one: one.pid,
    )


def shared(base: Path, rows: Path, out: Path, sink: Follower, folder: Path) -> TrainedAdapter:
    work = partial(train, DROPPING, base=base, rows=rows, out=out, base_name="bases/tiny", base_commit=COMMIT)
    return in_processes(work, 2, sink=sink, checkpoints=FolderCheckpoints(folder))


@pytest.mark.proof
def test_a_killed_process_ends_the_run_which_goes_on_to_the_bits_of_an_undisturbed_one(
    together: dict[str, Any], base: Path, rows: Path, out: Path, tmp_path: Path
) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    killing = Killing(6)
    with pytest.raises(TrainingProcessLost) as lost:
        shared(base, rows, tmp_path / "cut", killing, tmp_path / "snapshots")
    assert lost.value.retryable
    assert killing.killed
    assert processes_of(psutil.Process()) == []
    assert not (tmp_path / "cut" / "adapter_config.json").exists()
    last = Follower()
    resumed = shared(base, rows, tmp_path / "resumed", last, tmp_path / "snapshots")
    # The snapshot after step 4 holds what either process would have drawn for its dropout.
    assert (resumed.metrics.resumed_from_step, resumed.metrics.processes, last.reports[-1].phase) == (4, 2, "exporting")
    assert killing.losses() | last.losses() == together["dropping"]
    assert sha256_file(tmp_path / "resumed" / WEIGHTS) == sha256_file(out / "together" / "dropping" / WEIGHTS)
    # One process alone goes on too, from the snapshot after step 8; its own dropout is what it would have been.
    fewer = train(
        DROPPING, base=base, rows=rows, out=tmp_path / "fewer", sink=Follower(), checkpoints=FolderCheckpoints(tmp_path / "snapshots"),
        base_name="bases/tiny", base_commit=COMMIT,
    )  # fmt: skip
    assert (fewer.metrics.resumed_from_step, fewer.metrics.steps, fewer.metrics.processes) == (8, 12, 1)
    # The launcher's handlers are gone with it.
    assert {one: signal.getsignal(one) for one in before} == before


_PARENT = """
from ringi_workers.training.launch import in_processes
from support.endless import meet
from support.recipes import Follower
class Telling(Follower):
    def log(self, metrics, step):
        print(step, flush=True)
if __name__ == "__main__":
    in_processes(meet, 2, sink=Telling(), checkpoints=None)
"""


@pytest.mark.proof
def test_no_process_outlives_a_worker_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
    script = tmp_path / "worker.py"
    script.write_text(_PARENT, encoding="utf-8")
    worker = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    with worker.stdout:
        assert json.loads(worker.stdout.readline()) == 1
        started = processes_of(psutil.Process(worker.pid))
        assert len(started) == 2
        worker.kill()
        worker.wait()
    _, left = psutil.wait_procs(started, timeout=20)
    assert left == []


def test_a_run_has_no_more_processes_than_rows_of_a_step() -> None:
    assert [processes_for(asked, batch_size=4) for asked in (None, 1, 3, 8)] == [1, 1, 3, 4]


def test_what_a_process_refuses_arrives_as_it_was() -> None:
    refused = TrainingDiverged(3, "loss", [4, 5])
    found = pickle.loads(pickle.dumps(refused))
    assert (type(found), str(found), found.details) == (TrainingDiverged, str(refused), refused.details)
    assert pickle.loads(pickle.dumps(WorkPaused(7))).details == {"step": 7}


def test_gradients_of_a_whole_model_are_added_up_in_pieces_and_those_of_an_adapter_at_once() -> None:
    sizes = [10, 2**26, 10, 2**25, 2**25, 1]
    parameters = [torch.nn.Parameter(torch.empty(size, device="meta")) for size in sizes]
    assert [[one.numel() for one in piece] for piece in pieces(parameters)] == [[10], [2**26], [10, 2**25], [2**25, 1]]
    assert len(list(pieces(parameters[:1] * 100))) == 1
    assert list(pieces([])) == []
