"""Memory, time and cost follow from shape and workload by the formulas in the docstrings; what is not known is None and never zero."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ringi.jobs.contracts.methods import Quantisation
from ringi.jobs.contracts.training import LoraSpec, TrainMetrics
from ringi.preflight.calibration import Sample, rate_of, sample_of
from ringi.preflight.compute import flops_of, flops_per_token
from ringi.preflight.devices import DEVICES, kind_of
from ringi.preflight.estimating import EstimateTargetsUnmatched, Known, Machine, estimate, machines, require_targets
from ringi.preflight.memory import memory_of, weight_bytes
from ringi.preflight.prices import PriceTableInvalid, read_prices
from ringi.preflight.schemas import Gpu, Precision, Prices, RateSource, Trained, Workload
from ringi.preflight.shapes import Shape, shape_of

SEVEN: dict[str, Any] = {"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
                         "num_attention_heads": 32, "max_position_embeddings": 4096}  # fmt: skip
SEVENTY = SEVEN | {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
}
PRICES = Prices(currency="JPY", as_of=date(2026, 11, 1), source="見積書 2026-11", per_hour={Gpu.A100: 300.0, Gpu.CPU: 10.0})
GIB = 2**30


@pytest.fixture
def seven() -> Shape:
    return shape_of(SEVEN)


def work(**changes: Any) -> Workload:
    return Workload.model_validate({"rank": 8, "batch_size": 4, "max_length": 512, "rows": 10_000, "tokens_per_row": 100.0} | changes)


def term(shape: Shape, asked: Workload, name: str, device: Gpu | None = None) -> int:
    return next(one.bytes for one in memory_of(shape, asked, device=device).terms if one.name == name)


def test_weights_take_what_their_precision_says(seven: Shape) -> None:
    count = seven.parameters
    assert weight_bytes(seven, work(precision=Precision.FP32)) == 4 * count
    assert weight_bytes(seven, work()) == 2 * count
    matrices = seven.matrix_parameters
    eight = weight_bytes(seven, work(quantisation=Quantisation.INT8))
    rows = 32 * sum(one.outputs for one in seven.linears)
    assert eight == 2 * (count - matrices) + matrices + 4 * rows


def test_nf4_takes_half_a_byte_and_its_constants(seven: Shape) -> None:
    matrices = seven.matrix_parameters
    stored = weight_bytes(seven, work(quantisation=Quantisation.NF4)) - 2 * (seven.parameters - matrices)
    # QLoRA, arXiv:2305.14314, section 3: 8/64 + 32/(64 * 256) = 0.127 bits a parameter for the constants.
    assert stored * 8 / matrices == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), rel=1e-6)


def test_a_70b_base_fits_a_card_of_80_gb_in_four_bits_alone() -> None:
    shape = shape_of(SEVENTY)
    assert shape.parameters == 68_976_648_192
    plain = memory_of(shape, work(batch_size=1, checkpointing=True)).total
    small = memory_of(shape, work(batch_size=1, checkpointing=True, quantisation=Quantisation.NF4)).total
    assert plain > 128 * GIB > 80 * GIB > small


def test_the_terms_are_the_total_and_the_certain_ones_the_least(seven: Shape) -> None:
    for asked in (work(), work(method=Trained.FULL), work(quantisation=Quantisation.NF4, dropout=0.1), work(checkpointing=True)):
        found = memory_of(seven, asked)
        assert found.total == sum(one.bytes for one in found.terms)
        assert found.least == sum(one.bytes for one in found.terms if one.certain) < found.total


def test_full_fine_tuning_takes_sixteen_bytes_a_parameter_and_a_cast_copy(seven: Shape) -> None:
    found = {one.name: one.bytes for one in memory_of(seven, work(method=Trained.FULL, precision=Precision.FP32)).terms}
    assert found["base weights"] + found["gradients"] + found["AdamW states"] == 16 * seven.parameters
    assert "adapter" not in found
    assert weight_bytes(seven, work(method=Trained.FULL)) == 4 * seven.parameters + 2 * seven.matrix_parameters


def test_activations_grow_with_rows_and_checkpointing_keeps_layer_inputs(seven: Shape) -> None:
    one, two = (term(seven, work(batch_size=size), "activations") for size in (1, 2))
    assert two == 2 * one
    kept = term(seven, work(checkpointing=True), "activations")
    assert kept < term(seven, work(), "activations") / 10
    assert kept > 32 * 4 * 512 * 4096 * 2
    few = term(seven, work(target_modules=["q_proj"]), "activations")
    assert few < term(seven, work(), "activations")


def test_logits_only_at_labels_take_less(seven: Shape) -> None:
    everywhere = term(seven, work(batch_size=32), "logits and buffers")
    labels = term(seven, work(batch_size=32, logit_positions=100, label_tokens_per_row=3), "logits and buffers")
    assert labels < everywhere


def test_dropout_inside_attention_keeps_probabilities_on_a_cpu_alone() -> None:
    gpt = shape_of({"model_type": "gpt2"})
    assert term(gpt, work(), "activations", Gpu.CPU) > term(gpt, work(), "activations", Gpu.A100)


def test_flops_are_four_a_frozen_weight_and_six_a_trained_one(seven: Shape) -> None:
    matrices = 32 * sum(one.inputs * one.outputs for one in seven.linears)
    lora = seven.lora_parameters(rank=8, targets=["all-linear"])
    each = flops_per_token(seven, work(), tokens_per_row=100, label_tokens_per_row=10)
    head, attention = 4096 * 32000 * 0.1, 32 * 4096 * 100
    assert each == pytest.approx(4 * matrices + 4 * head + 12 * attention + 6 * lora)
    full = flops_per_token(seven, work(method=Trained.FULL), tokens_per_row=100, label_tokens_per_row=None)
    assert full == pytest.approx(6 * (matrices + 4096 * 32000) + 12 * attention)
    again = flops_per_token(seven, work(checkpointing=True), tokens_per_row=100, label_tokens_per_row=10)
    assert again - each == pytest.approx(2 * matrices + 4 * attention)


def test_a_run_reads_its_rows_every_epoch_or_stops_at_its_steps(seven: Shape) -> None:
    assert work().tokens == 10_000 * 3 * 100
    assert work(max_steps=7).tokens == 7 * 4 * 100
    assert flops_of(seven, work(rows=None)) is None
    assert flops_of(seven, work(tokens_per_row=None)) is None


def test_what_is_not_known_is_not_measured(seven: Shape) -> None:
    cpu, named = machines([Gpu.CPU])[0], Machine(None, "NVIDIA Imaginary", 80 * GIB)
    found = estimate(seven, work(), Known(PRICES), base="x", devices=[cpu, named, *machines([Gpu.H100])])
    cpu_out, unknown, h100 = found.devices
    assert (cpu_out.fits, cpu_out.duration, cpu_out.cost, cpu_out.rate) == (None, None, None, None)
    assert unknown.fits is True
    assert unknown.duration is None
    assert "no finished run" in unknown.note
    assert h100.duration is not None
    assert h100.cost is None
    assert "price table" in h100.note
    without = estimate(seven, work(rows=None), Known(PRICES), base="x", devices=machines([Gpu.A100])).devices[0]
    assert (without.duration, without.cost) == (None, None)


def test_an_assumed_rate_is_an_interval_of_the_peak_and_costs_follow(seven: Shape) -> None:
    (one,) = estimate(seven, work(), Known(PRICES), base="x", devices=machines([Gpu.A100])).devices
    assert one.rate is not None
    assert one.duration is not None
    assert one.cost is not None
    assert one.rate.source is RateSource.ASSUMED
    assert one.rate.low < one.rate.typical < one.rate.high < (DEVICES[Gpu.A100].peak or 0)
    assert one.duration.low < one.duration.typical < one.duration.high
    assert one.cost.typical == pytest.approx(300 * one.duration.typical / 3600)
    assert (one.cost.currency, one.cost.example) == ("JPY", False)


def test_what_does_not_fit_takes_no_time(seven: Shape) -> None:
    (one,) = estimate(seven, work(method=Trained.FULL), Known(PRICES), base="x", devices=machines([Gpu.A100])).devices
    assert one.fits is False
    assert (one.duration, one.cost) == (None, None)


SPEC = LoraSpec(rank=8, alpha=16, dropout=0, target_modules=("q_proj",), use_rslora=False, learning_rate=1e-3, epochs=2, max_steps=None, batch_size=5,
                warmup_fraction=0, weight_decay=0, max_grad_norm=1, max_length=128, seed=0, checkpoint_every=50)  # fmt: skip
METRICS = TrainMetrics(steps=40, rows=100, skipped_rows=0, first_loss=2.0, final_loss=1.0, label_tokens=1000, tokens_per_s=400.0, seconds=20.0,
                       resumed_from_step=0)  # fmt: skip


def test_a_finished_run_tells_its_tokens_a_row_and_its_rate(seven: Shape) -> None:
    one = sample_of(seven, SPEC, METRICS, device_name="x86_64", base="b", rows="r")
    assert one is not None
    assert (one.tokens_per_row, one.label_tokens_per_row) == (40.0, 5.0)
    same = Workload(rank=8, target_modules=["q_proj"])
    each = flops_per_token(seven, same, tokens_per_row=40, label_tokens_per_row=5)
    assert one.rate == pytest.approx(400 * each)
    assert one.step == pytest.approx(5 * 40 * each)


@pytest.mark.parametrize("change", [{"tokens_per_s": None}, {"resumed_from_step": 3}, {"seconds": 1.0}, {"rows": 0}])
def test_a_run_that_measured_no_speed_is_no_sample(seven: Shape, change: dict[str, Any]) -> None:
    assert sample_of(seven, SPEC, METRICS.model_copy(update=change), device_name="x", base="b", rows="r") is None


def test_runs_of_the_base_come_before_runs_of_the_device_before_assumptions() -> None:
    def ask(samples: list[Sample], **changes: Any) -> Any:
        given: dict[str, Any] = {"kind": Gpu.A100, "device_name": "A100", "base": "b", "quantisation": Quantisation.NONE} | changes
        return rate_of(samples, **given)

    own = [Sample("A100", "b", "r", 1, 1, rate, 1.0) for rate in (10.0, 30.0, 20.0)]
    others = [Sample("A100", "c", "r", 1, 1, 100.0, 1.0), Sample("H100", "b", "r", 1, 1, 1000.0, 1.0)]
    measured = ask([*own, *others])
    assert (measured.low, measured.typical, measured.high, measured.source, measured.runs) == (10, 20, 30, RateSource.SAME_BASE, 3)
    one = ask(others)
    assert (one.low, one.typical, one.high, one.source, one.runs) == (50, 100, 200, RateSource.SAME_DEVICE, 1)
    assert ask([]).source is RateSource.ASSUMED
    assert ask([], kind=Gpu.CPU) is None
    assert ask([], quantisation=Quantisation.NF4).typical < ask([]).typical


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"method": "full", "quantisation": "nf4"}, "full has no quantisation"),
        ({"tokens_per_row": 10.0, "label_tokens_per_row": 50.0}, "no more than that"),
        ({"tokens_per_row": 1000.0, "max_length": 512}, "cut at max_length"),
    ],
)
def test_what_no_run_is_has_no_forecast(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        work(**wrong)


def test_targets_that_the_base_has_not_have_no_forecast(seven: Shape) -> None:
    require_targets(seven, work(target_modules=["q_proj", "mlp.down_proj"]))
    require_targets(seven, work(method=Trained.FULL))
    with pytest.raises(EstimateTargetsUnmatched, match="'c_attn'") as refusal:
        require_targets(seven, work(target_modules=["q_proj", "c_attn"]))
    assert "q_proj" in refusal.value.next_step


def step_of(flops: float, seconds: float) -> Sample:
    return Sample("x86_64", "b", "r", 1, 1, flops / seconds, flops)


def rate_at(samples: list[Sample], flops: float) -> float:
    found = rate_of(samples, kind=Gpu.CPU, device_name="x86_64", base="b", quantisation=Quantisation.NONE, step=flops)
    assert found is not None
    return found.typical


def test_runs_with_small_and_large_steps_tell_what_a_step_takes_whatever_it_reads() -> None:
    """Two seconds a step, and ten FLOPs a second."""
    runs = [step_of(100, 12), step_of(10, 3)]
    for flops, seconds in ((10, 3), (100, 12), (40, 6), (1000, 102), (1, 2.1)):
        assert flops / rate_at(runs, flops) == pytest.approx(seconds)


def test_one_size_of_steps_tells_no_constant_and_a_constant_is_neither_below_zero_nor_above_a_step() -> None:
    assert rate_at([step_of(100, 10), step_of(150, 15)], 1) == pytest.approx(10)
    # Small steps that were faster say nothing of a constant.
    assert rate_at([step_of(100, 20), step_of(10, 1)], 1) == pytest.approx(7.5)
    # Where ten times as much took hardly longer, all of the short step may be the constant.
    assert 0 < 10 / rate_at([step_of(100, 1.1), step_of(10, 1.2)], 10) < 2


@pytest.mark.parametrize(
    ("device", "name", "kind"),
    [
        ("cuda", "NVIDIA A100-SXM4-80GB", Gpu.A100),
        ("cuda", "NVIDIA A100-SXM4-40GB", None),
        ("cuda", "NVIDIA H100 80GB HBM3", Gpu.H100),
        ("cuda", "NVIDIA L4", Gpu.L4),
        ("cuda", "NVIDIA L40S", None),
        ("cuda", "NVIDIA GeForce RTX 4090", Gpu.RTX_4090),
        ("cuda", "NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("cpu", "x86_64", Gpu.CPU),
    ],
)
def test_a_worker_is_of_a_kind_by_its_name(device: str, name: str, kind: Gpu | None) -> None:
    assert kind_of(device, name) is kind


def test_the_shipped_prices_are_an_example_and_say_so() -> None:
    found = read_prices(None)
    assert found.example
    assert set(found.per_hour) == set(Gpu)
    assert set(found.per_hour.values()) == {1.0}


def test_an_operators_table_is_read_as_yaml_or_json(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"currency": "JPY", "as_of": "2026-11-01", "source": "契約", "per_hour": {"l4": 120}}), encoding="utf-8")
    found = read_prices(path)
    assert (found.currency, found.as_of, found.example, found.per_hour) == ("JPY", date(2026, 11, 1), False, {Gpu.L4: 120.0})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read"),
        ("a: [", "no YAML"),
        ("- 1", "it:"),
        ("currency: yen\nas_of: 2026-11-01\nsource: x\nper_hour: {}", "currency"),
        ("currency: JPY\nas_of: soon\nsource: x\nper_hour: {}", "as_of"),
        ("currency: JPY\nas_of: 2026-11-01\nsource: x\nper_hour: {l4: -1}", "per_hour.l4"),
        ("currency: JPY\nas_of: 2026-11-01\nsource: x\nper_hour: {t1000: 1}", "per_hour.t1000"),
        ("currency: JPY\nas_of: 2026-11-01\nper_hour: {l4: 1}", "source"),
        ("x" * 70_000, "larger"),
    ],
)
def test_a_table_that_is_none_is_refused_with_its_reasons(tmp_path: Path, text: str | None, reason: str) -> None:
    path = tmp_path / "prices.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(PriceTableInvalid, match=reason.replace(".", r"\.")):
        read_prices(path)
