"""A step is the same step however many passes it takes; memory that runs out makes more of them; what diverges names its rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from ringi.jobs.contracts.training import LoraSpec, Packing
from ringi_workers.training.checkpoint import RunState, copy_weights
from ringi_workers.training.data import encode_row
from ringi_workers.training.full import all_weights
from ringi_workers.training.loop import Loop
from ringi_workers.training.packing import Layout
from ringi_workers.training.plan import Plan
from ringi_workers.training.refusals import PackingUnsupported, TrainingDiverged, TrainingOutOfMemory
from ringi_workers.training.spending import Meter
from support.recipes import SPEC, Follower, mean_nll, run
from support.tiny_model import make_tiny_base, make_tiny_rows, make_tiny_tokenizer, tiny_rows
from support.tiny_shapes import tiny_shape

METER = Meter(torch.device("cpu"), None)


def test_a_run_with_no_step_left_has_not_measured_what_it_could_not() -> None:
    state = RunState(identity="x").begun()
    Meter(torch.device("cpu"), None).begin(state)
    assert (state.cost, state.gpu_seconds, state.energy_j) == (None, None, None)


TOKENIZER = make_tiny_tokenizer()
ROWS = tuple(encode_row(TOKENIZER, row["prompt"], row["completion"], max_length=96) for row in tiny_rows(32))
CUDA: Callable[[], Exception] = lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")  # noqa: E731
CPU: Callable[[], Exception] = lambda: RuntimeError(  # noqa: E731
    "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes."
)


class Room:
    """Memory for so many rows at once: a pass over more is refused, as an allocator would, going forward or backward."""

    def __init__(self, rows: int, refusal: Callable[[], Exception], *, backward: bool) -> None:
        self.rows, self.refusal, self.backward = rows, refusal, backward
        self.seen: list[int] = []

    def _forward(self, _module: torch.nn.Module, _args: Any, given: dict[str, Any]) -> None:
        positions = given.get("position_ids")
        self.seen.append(int((positions == 0).sum()) if positions is not None else given["input_ids"].shape[0])
        if not self.backward:
            self._refuse()

    def _refuse(self, *_: Any) -> None:
        if self.seen[-1] > self.rows:
            raise self.refusal()

    def around(self, model: Any) -> Any:
        model.register_forward_pre_hook(self._forward, with_kwargs=True)
        if self.backward:
            model.get_input_embeddings().register_forward_hook(lambda _module, _given, output: output.requires_grad_())
            model.base_model.model.model.layers[0].register_full_backward_hook(self._refuse)
        return model


def adapted() -> Any:
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return get_peft_model(tiny_shape("llama"), config).train()


def steps(
    model: Any, *, count: int = 6, most_rows: int = 8, packing: bool = True, dropout: bool = False
) -> tuple[RunState, dict[str, torch.Tensor], Follower]:
    """Some steps of a loop: its state, the weights, the figures."""
    if not dropout:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
    torch.manual_seed(0)
    plan = Plan(SPEC.model_copy(update={"max_steps": count, "weight_decay": 0.0}), ROWS)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    state, sink = RunState(identity="x"), Follower()
    layout = Layout(packed=packing, pack_length=1024, pad_id=0, most_rows=most_rows)
    Loop(plan, model, optimizer, layout, sink, None, METER).run(state, None, workspace=Path("nowhere"))
    return state, copy_weights(model), sink


def same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    """AdamW's first steps go by the sign of a gradient, so rounding is seen: the tolerance is a hundredth of what one step moves."""
    for name, tensor in wanted.items():
        assert torch.allclose(found[name], tensor, atol=1e-4, rtol=1e-3), (name, (found[name] - tensor).abs().max())


@pytest.mark.parametrize("packing", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("most_rows", [1, 3])
def test_a_step_in_several_passes_is_the_same_step(packing: bool, most_rows: int) -> None:
    whole, weights, sink = steps(adapted(), packing=False)
    parts, found, other = steps(adapted(), packing=packing, most_rows=most_rows)
    assert parts.label_tokens == whole.label_tokens
    for step, (loss, _) in sink.losses().items():
        assert other.losses()[step][0] == pytest.approx(loss, rel=1e-4)
    same(found, weights)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("refusal", [CUDA, CPU], ids=["cuda", "cpu"])
@pytest.mark.parametrize("packing", [True, False], ids=["packed", "padded"])
def test_out_of_memory_halves_the_passes_and_goes_on_from_the_same_step(
    packing: bool, refusal: Callable[[], Exception], backward: bool, caplog: pytest.LogCaptureFixture
) -> None:
    _, wanted, _ = steps(adapted(), packing=packing, most_rows=2, dropout=True)
    room = Room(3, refusal, backward=backward)
    state, weights, sink = steps(room.around(adapted()), packing=packing, dropout=True)
    # Eight rows a pass did not fit, nor did four.
    assert room.seen[:6] == [8, 4, 2, 2, 2, 2]
    assert (state.micro_batch_size, state.memory_halvings, state.step) == (2, 2, 6)
    assert sorted(sink.figures) == [1, 2, 3, 4, 5, 6]
    assert "out of memory at step 1 with 8 rows a pass" in caplog.text
    for name, tensor in wanted.items():
        assert torch.equal(weights[name], tensor), "as if it had begun with passes that fit, dropout and all"


def test_a_single_row_that_does_not_fit_is_refused_with_its_length() -> None:
    with pytest.raises(TrainingOutOfMemory, match="tokens does not fit") as refusal:
        steps(Room(0, CUDA, backward=False).around(adapted()))
    assert refusal.value.details["step"] == 1


def test_another_error_is_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        steps(Room(0, lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied"), backward=False).around(adapted()))


def test_a_row_whose_loss_is_not_finite_is_named_although_it_spoils_its_whole_pass() -> None:
    model, culprit = adapted(), 13
    # A token that only this row has.
    others = {token for index, row in enumerate(ROWS) if index != culprit for token in row.input_ids}
    spare = next(token for token in range(3, 500) if token not in others)
    rows = tuple(row._replace(input_ids=(spare, *row.input_ids[1:])) if index == culprit else row for index, row in enumerate(ROWS))
    model.get_input_embeddings().weight.data[spare] = float("nan")
    plan = Plan(SPEC.model_copy(update={"max_steps": 4, "epochs": 1}), rows)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-3)
    loop = Loop(plan, model, optimizer, Layout(True, 1024, 0, 8), Follower(), None, METER)
    with pytest.raises(TrainingDiverged, match=f"in rows {culprit + 1} ") as refusal:
        loop.run(RunState(identity="x"), None, workspace=Path("nowhere"))
    step = next(step for step, indices in plan.batches(after=0) if culprit in indices)
    assert refusal.value.details == {"step": step, "what": "loss", "rows": [culprit + 1]}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 80)


def trained(base: Path, rows: Path, out: Path, validation: Path | None = None, **changes: Any) -> tuple[Any, Follower]:
    sink = Follower()
    spec = LoraSpec.model_validate(SPEC.model_dump() | {"packing": Packing.AUTO, "dropout": 0.0, "max_steps": 12} | changes)
    return run(base, rows, out, spec=spec, sink=sink, validation=validation).metrics, sink


def test_packing_changes_how_a_run_is_computed_and_not_what_it_learns(base: Path, rows: Path, tmp_path: Path) -> None:
    packed, sink = trained(base, rows, tmp_path / "packed")
    padded, other = trained(base, rows, tmp_path / "padded", packing=Packing.OFF)
    assert (packed.packed, padded.packed) == (True, False)
    assert packed.label_tokens == padded.label_tokens
    for step, (loss, _) in sink.losses().items():
        assert other.losses()[step][0] == pytest.approx(loss, rel=1e-3)


def test_gradient_checkpointing_changes_no_loss(base: Path, rows: Path, tmp_path: Path) -> None:
    _, sink = trained(base, rows, tmp_path / "kept", dropout=0.1)
    _, other = trained(base, rows, tmp_path / "computed", dropout=0.1, gradient_checkpointing=True)
    assert other.losses() == sink.losses()


def test_rows_that_cannot_be_packed_are_padded_or_refused_but_never_mixed(base: Path, rows: Path, tmp_path: Path) -> None:
    """Four rows of this run do not fit 8 tokens, so nothing can be shown, and nothing is believed."""
    metrics, _ = trained(base, rows, tmp_path / "auto", pack_length=8, max_steps=1)
    assert not metrics.packed
    with pytest.raises(PackingUnsupported, match="do not fit"):
        trained(base, rows, tmp_path / "on", pack_length=8, packing=Packing.ON)


def test_a_run_ends_when_the_validation_loss_no_longer_falls_and_exports_the_best_weights(base: Path, rows: Path, tmp_path: Path) -> None:
    """Rows of random words: what is learnt by heart makes others less likely."""
    unseen = make_tiny_rows(tmp_path / "unseen.jsonl", 24, seed=99)
    metrics, sink = trained(
        base, rows, tmp_path / "out", unseen, max_steps=200, epochs=20, learning_rate=5e-2, early_stopping_patience=2, evaluate_every=5
    )
    measured = {step: unseen_loss for step, (_, unseen_loss) in sink.losses().items() if unseen_loss is not None}
    assert metrics.stopped_early
    assert metrics.steps < 200
    assert metrics.best_step == min(measured, key=lambda step: measured[step])
    assert metrics.validation_loss == min(measured.values())
    assert [step for step in measured if step > metrics.best_step] == [metrics.best_step + 5, metrics.best_step + 10]
    assert metrics.steps == metrics.best_step + 10
    # What was exported are the weights of that step, not of the last.
    assert mean_nll(base, unseen, tmp_path / "out") == pytest.approx(metrics.validation_loss, rel=1e-4)


def test_the_curve_has_a_bounded_number_of_points_and_ends_at_the_last_step(base: Path, rows: Path, tmp_path: Path) -> None:
    metrics, sink = trained(base, rows, tmp_path / "out", max_steps=30)
    assert [point.step for point in metrics.curve] == list(range(1, 31))
    assert [point.loss for point in metrics.curve] == [loss for loss, _ in sink.losses().values()]
    long, _ = trained(base, rows, tmp_path / "long", max_steps=60, epochs=10)
    assert [point.step for point in long.curve] == list(range(2, 61, 2))


def test_out_of_memory_is_met_alike_where_every_weight_learns() -> None:
    def whole() -> Any:
        return all_weights(tiny_shape("llama"), computing=torch.float32).train()

    _, wanted, _ = steps(whole(), most_rows=2)
    state, weights, _ = steps(Room(3, CUDA, backward=False).around(whole()))
    assert (state.micro_batch_size, state.memory_halvings, state.step) == (2, 2, 6)
    assert all(torch.equal(weights[name], tensor) for name, tensor in wanted.items())
