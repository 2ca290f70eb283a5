"""What does not fit the memory is asked in smaller batches, with the same answers; what fits in none is one arm's refusal, and the rest goes on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.suites import Answer, Answering, Decoding, Item, ScorerSpec, Task
from ringi_workers.evaluation.ask import Pass, ask
from ringi_workers.evaluation.branches import Way
from ringi_workers.evaluation.fitting import DeviceFull
from ringi_workers.evaluation.reach import Reach, reach_of
from ringi_workers.evaluation.rendering import prepare
from ringi_workers.evaluation.scoring import resolved
from ringi_workers.evaluation.swapping import SwappableBase
from ringi_workers.evaluation.sweep import Measured, NotMeasured, sweep
from support.tiny_model import make_tiny_base, make_tiny_tokenizer, tiny_rows
from support.tiny_shapes import make_tiny_adapter, tiny_shape

TOKENIZER = make_tiny_tokenizer()
CHOICES = ("red cat", "red lamp", "赤い猫", "赤い灯り", "a golden bridge", "x", "川")
CUDA: Callable[[], Exception] = lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")  # noqa: E731
CPU: Callable[[], Exception] = lambda: RuntimeError(  # noqa: E731
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes."
)


class Room:
    """Memory for so many rows at once: a pass over more is refused, as an allocator would."""

    def __init__(self, rows: int | None = None, *, refusal: Callable[[], Exception] = CUDA) -> None:
        self.rows, self.refusal, self.refused = rows, refusal, 0
        self.seen: list[int] = []

    def __call__(self, _module: torch.nn.Module, _args: Any, given: dict[str, Any]) -> None:
        rows = int(given["input_ids"].shape[0])
        if self.rows is not None and rows > self.rows:
            self.refused += 1
            raise self.refusal()
        self.seen.append(rows)

    def around(self, model: Any) -> Any:
        model.register_forward_pre_hook(self, with_kwargs=True)
        return model


def _task(answering: Answering, **changes: Any) -> Task:
    scorers = {Answering.CHOICE: ("accuracy",), Answering.EXACT: ("exact", "nll")}.get(answering, ())
    named: dict[str, Any] = {
        "name": answering.value, "answering": answering, "items": "sha256:" + "0" * 64, "count": 11,
        "choices": CHOICES if answering is Answering.CHOICE else (), "scorers": tuple(ScorerSpec(name=name) for name in scorers),
        "decoding": Decoding(max_new_tokens=6),
    }  # fmt: skip
    return Task.model_validate(named | changes)


def _items(answering: Answering) -> list[Item]:
    choosing = answering is Answering.CHOICE
    return [
        Item(id=f"問{n}", prompt=row["prompt"] * (1 + n % 3), answer=n % 7 if choosing else None, references=(row["completion"],))
        for n, row in enumerate(tiny_rows(11))
    ]


def _ask(model: Any, task: Task, *, batch_size: int = 8, reach: Reach | None = None) -> Pass:
    stop = frozenset({TOKENIZER.eos_token_id})
    return ask(
        model, TOKENIZER, prepare(TOKENIZER, task, _items(task.answering), context=512), reach=reach or reach_of(model), stop_tokens=stop,
        batch_size=batch_size, scorers=resolved(task.scorers),
    )  # fmt: skip


def _same(found: Sequence[Answer], wanted: Sequence[Answer]) -> None:
    """Up to the rounding of another batch."""
    for one, other in zip(found, wanted, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)
        assert one.nll == pytest.approx(other.nll, abs=1e-4)
        exact = ("item", "asked", "output", "outputs", "choice", "exact", "choice_tokens", "prompt_tokens", "output_tokens", "problem")
        assert [getattr(one, name) for name in exact] == [getattr(other, name) for name in exact]


@pytest.mark.parametrize("refusal", [CUDA, CPU], ids=["cuda", "cpu"])
@pytest.mark.parametrize(
    ("answering", "drawing"),
    [(Answering.CHOICE, False), (Answering.EXACT, False), (Answering.GENERATE, False), (Answering.GENERATE, True)],
    ids=["choice", "exact", "greedy", "drawn"],
)
def test_a_batch_that_does_not_fit_is_halved_and_the_answers_are_the_same(
    answering: Answering, drawing: bool, refusal: Callable[[], Exception]
) -> None:
    decoding = Decoding(max_new_tokens=6, temperature=0.7, repeats=2, seed=3) if drawing else Decoding(max_new_tokens=6)
    task = _task(answering, decoding=decoding)
    model = tiny_shape("llama")
    reach = reach_of(model)
    whole = _ask(model, task, reach=reach)
    assert whole.operations.batch_size == 8
    room = Room(3, refusal=refusal)
    found = _ask(room.around(model), task, reach=reach)
    _same(found.answers, whole.answers)
    assert found.operations.batch_size == {False: 2, True: 1}[drawing]
    assert 0 < room.refused <= 3
    assert max(room.seen) <= 3


def test_one_question_with_more_choices_than_fit_is_asked_for_some_of_them_at_a_time() -> None:
    model, task = tiny_shape("bloom"), _task(Answering.CHOICE)
    reach = reach_of(model)
    assert reach.way is Way.CACHED, "a row for each choice"
    whole = _ask(model, task, reach=reach)
    found = _ask(Room(2).around(model), task, reach=reach)
    _same(found.answers, whole.answers)
    assert found.operations.batch_size == 1


@pytest.mark.parametrize("answering", [Answering.CHOICE, Answering.GENERATE])
def test_what_does_not_fit_alone_is_refused_and_another_error_is_not_taken_for_it(answering: Answering) -> None:
    model = tiny_shape("llama")
    reach = reach_of(model)
    room = Room(0).around(model)
    # The first is of a batch, the other of what all prompts begin with.
    with pytest.raises((DeviceFull, torch.OutOfMemoryError)):
        _ask(room, _task(answering), reach=reach)
    model = Room(4, refusal=lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied")).around(tiny_shape("llama"))
    with pytest.raises(RuntimeError, match="shapes"):
        _ask(model, _task(answering), reach=reach)


class Follower:
    """Gives the arm named `tight` no room at all, and the others what is left."""

    def __init__(self, room: Room, rows: int) -> None:
        self.room, self.rows = room, rows

    def report(self, progress: Progress) -> None:
        self.room.rows = 0 if progress.phase.startswith("狭い") else self.rows

    def should_stop(self) -> bool:
        return False


def test_an_arm_that_fits_in_no_batch_gets_its_code_and_the_others_go_on(tmp_path: Path) -> None:
    folder = make_tiny_base(tmp_path / "base", seed=3)
    adapters = {f"{name}{seed}": make_tiny_adapter(folder, tmp_path / str(seed), seed=seed) for seed, name in ((1, "広い"), (2, "狭い"))}
    arms: dict[str, Path | None] = {**adapters, "base": None}
    tasks = [(_task(one), _items(one)) for one in (Answering.CHOICE, Answering.GENERATE)]
    base, room = SwappableBase(folder), Room()
    wanted = list(sweep(base, arms, tasks, sink=Follower(room, 1000), batch_size=8))
    with base.arm(None) as model:
        room.around(model.get_base_model())
    found = {(one.arm, one.task): one for one in sweep(base, arms, tasks, sink=Follower(room, 5), batch_size=8)}
    refused = found.pop(("狭い2", tasks[0][0].name))
    assert isinstance(refused, NotMeasured)
    assert refused.code == "evaluation_out_of_memory"
    # Nor is it asked the tasks behind the one that it cannot answer.
    assert set(found) == {(one.arm, one.task) for one in wanted if one.arm != "狭い2"}
    for one in wanted:
        if one.arm != "狭い2":
            result = found[one.arm, one.task]
            assert isinstance(result, Measured)
            assert isinstance(one, Measured)
            _same(result.answers, one.answers)
            assert result.operations.batch_size == 4


def test_the_next_arm_begins_with_the_size_that_fitted(tmp_path: Path) -> None:
    folder = make_tiny_base(tmp_path / "base", seed=3)
    arms: dict[str, Path | None] = {name: make_tiny_adapter(folder, tmp_path / name, seed=seed) for seed, name in ((1, "一"), (2, "二"))}
    base, room = SwappableBase(folder), Room()
    with base.arm(None) as model:
        room.around(model)
    given = [(_task(Answering.EXACT), _items(Answering.EXACT))]
    refused = [room.refused for _ in sweep(base, arms, given, sink=Follower(room, 5), batch_size=8)]
    assert refused[0] > 0
    assert refused[1] == refused[0]
