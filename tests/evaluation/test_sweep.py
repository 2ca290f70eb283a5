"""A sweep over one base: every adapter as if it were alone, whatever stood there before; refusals, stops, resumption, estimates."""

import contextlib
import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ringi.jobs.contracts.suites import Answer, Answering, Decoding, Item, ScorerSpec, Task
from ringi_workers.evaluation.engine import ENGINE
from ringi_workers.evaluation.scoring import UnknownScorer
from ringi_workers.evaluation.swapping import SwappableBase
from ringi_workers.evaluation.sweep import Measured, NotMeasured, SweepStopped, sweep
from support.following import Follower
from support.tiny_model import make_tiny_base, tiny_rows
from support.tiny_shapes import make_tiny_adapter

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("sweep") / "tiny", seed=3)


@pytest.fixture(scope="module")
def adapters(folder: Path) -> dict[str, Path | None]:
    """The bare base and four adapters on different modules, of different ranks."""
    made: dict[str, Path | None] = {"base": None}
    for seed, targets, rank in (
        (1, ("q_proj", "v_proj"), 4),
        (2, ("q_proj", "v_proj"), 4),
        (3, ("down_proj",), 2),
        (4, ("k_proj", "up_proj"), 8),
    ):
        made[f"適合器{seed}"] = make_tiny_adapter(folder, folder.parent / f"adapter{seed}", seed=seed, targets=targets, rank=rank)
    return made


def _tasks() -> list[tuple[Task, list[Item]]]:
    rows = tiny_rows(6)
    items = [Item(id=f"item{n}", prompt=row["prompt"], answer=n % 3, references=(row["completion"],)) for n, row in enumerate(rows)]
    common: dict[str, Any] = {"items": "sha256:" + "0" * 64, "count": 6, "choices": ("red cat", "red lamp", "赤い猫")}
    choosing = Task(name="choose", answering=Answering.CHOICE, scorers=(ScorerSpec(name="accuracy"),), **common)
    saying = Task(name="say", answering=Answering.GENERATE, scorers=(), decoding=Decoding(max_new_tokens=8), **common)
    judging = Task(name="judge", answering=Answering.EXACT, scorers=(ScorerSpec(name="nll"),), **common)
    return [(choosing, items), (saying, items), (judging, items)]


def _results(
    base: SwappableBase, arms: Mapping[str, Path | None], sink: Follower | None = None, **more: Any
) -> dict[tuple[str, str | None], Measured | NotMeasured]:
    found = list(sweep(base, arms, _tasks(), sink=sink or Follower(), batch_size=4, **more))
    assert len({(one.arm, one.task) for one in found}) == len(found)
    return {(one.arm, one.task): one for one in found}


def _said(result: Measured | NotMeasured) -> list[Answer]:
    """What was answered, times apart."""
    assert isinstance(result, Measured)
    return [answer.model_copy(update={"seconds": None}) for answer in result.answers]


@pytest.fixture(scope="module")
def alone(folder: Path, adapters: dict[str, Path | None]) -> dict[tuple[str, str | None], list[Answer]]:
    """Every arm on a base of its own."""
    found: dict[tuple[str, str | None], list[Answer]] = {}
    for name, adapter in adapters.items():
        found |= {key: _said(one) for key, one in _results(SwappableBase(folder), {name: adapter}).items()}
    return found


@pytest.mark.parametrize("resident", [1, 2, 5])
def test_in_any_order_every_adapter_is_measured_as_if_alone_bit_for_bit(
    folder: Path, adapters: dict[str, Path | None], alone: dict[tuple[str, str | None], list[Answer]], resident: int
) -> None:
    base = SwappableBase(folder, resident=resident)
    for seed in range(3):
        names = list(adapters)
        random.Random(seed).shuffle(names)
        found = _results(base, {name: adapters[name] for name in names})
        assert {key: _said(one) for key, one in found.items()} == alone
        assert len(base.loaded) <= resident
    said = [tuple(answer.logprobs for answer in answers) for (_, task), answers in alone.items() if task == "choose"]
    assert len(set(said)) == len(adapters), "every arm has an effect of its own"


def test_other_weights_in_the_same_folder_are_another_adapter(folder: Path, adapters: dict[str, Path | None], tmp_path: Path) -> None:
    place = tmp_path / "adapter"
    shutil.copytree(Path(str(adapters["適合器1"])), place)
    base = SwappableBase(folder)
    before = _results(base, {"a": place})
    shutil.copyfile(Path(str(adapters["適合器2"])) / WEIGHTS, place / WEIGHTS)
    after = _results(base, {"a": place, "b": adapters["適合器2"]})
    assert _said(after["a", "choose"]) != _said(before["a", "choose"])
    assert _said(after["a", "choose"]) == _said(after["b", "choose"])


def _heavy(folder: Path, source: Path, out: Path) -> Path:
    """An adapter that holds a tensor of the base."""
    shutil.copytree(source, out)
    tensors = load_file(source / WEIGHTS)
    tensors["base_model.model.lm_head.weight"] = load_file(folder / "model.safetensors")["lm_head.weight"] * 0.5
    save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    return out


def test_an_adapter_that_brings_weights_of_the_base_changes_it_for_nobody_else(
    folder: Path, adapters: dict[str, Path | None], alone: dict[tuple[str, str | None], list[Answer]], tmp_path: Path
) -> None:
    source = Path(str(adapters["適合器1"]))
    heavy = _heavy(folder, source, tmp_path / "heavy")
    found = _results(SwappableBase(folder), {"適合器2": adapters["適合器2"], "heavy": heavy, "base": None, "適合器1": source})
    assert _said(found["heavy", "choose"]) != alone["適合器1", "choose"], "the test needs weights that are taken over"
    for name in ("適合器2", "base", "適合器1"):
        assert _said(found[name, "choose"]) == alone[name, "choose"]


def test_a_base_that_could_not_be_read_again_is_read_for_the_next_arm(
    folder: Path, adapters: dict[str, Path | None], alone: dict[tuple[str, str | None], list[Answer]], tmp_path: Path
) -> None:
    own, away, source = make_tiny_base(tmp_path / "own", seed=3), tmp_path / "away", Path(str(adapters["適合器1"]))
    heavy = _heavy(folder, source, tmp_path / "heavy")
    base = SwappableBase(own)
    with pytest.raises(OSError, match="safetensors"), base.arm(heavy):
        (own / "model.safetensors").rename(away)
    away.rename(own / "model.safetensors")
    found = _results(base, {"適合器1": source, "base": None})
    for name in ("適合器1", "base"):
        assert _said(found[name, "choose"]) == alone[name, "choose"]
    assert base.loads == 2


def test_an_arm_that_was_left_open_changes_no_later_one(
    folder: Path, adapters: dict[str, Path | None], alone: dict[tuple[str, str | None], list[Answer]]
) -> None:
    base, follower = SwappableBase(folder), Follower()
    first = {"適合器1": adapters["適合器1"]}
    _results(base, first)
    # Whoever takes the results fails, and lets the arm go as it stands: without any adapter, then with one.
    bare, other = (sweep(base, arms, _tasks(), sink=follower) for arms in ({"base": None}, {"適合器2": adapters["適合器2"]}))
    next(bare)
    assert {key: _said(one) for key, one in _results(base, first).items()} == {key: said for key, said in alone.items() if key[0] in first}
    next(other)
    assert {key: _said(one) for key, one in _results(base, adapters).items()} == alone
    for one in (bare, other):
        one.close()


def _broken(source: Path, out: Path, kind: str) -> Path:
    shutil.copytree(source, out)
    tensors = load_file(out / WEIGHTS)
    config = json.loads((out / CONFIG).read_text())
    first = next(iter(tensors))
    if kind == "shape":
        tensors = {name: tensor[..., :-1].contiguous() for name, tensor in tensors.items()}
    elif kind == "missing":
        del tensors[first]
    elif kind == "strange":
        tensors["base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight"] = tensors[first].clone()
    elif kind == "modules":
        config["target_modules"] = ["no_such_module"]
    elif kind == "code":
        config["auto_mapping"] = {"parent_library": "os"}
    elif kind == "loha":
        config["peft_type"] = "LOHA"
    save_file(tensors, out / WEIGHTS, metadata={"format": "pt"})
    (out / CONFIG).write_text(json.dumps(config))
    if kind == "bytes":
        (out / WEIGHTS).write_bytes(b"nothing")
    if kind == "empty":
        (out / WEIGHTS).unlink()
    return out


def test_adapters_that_do_not_fit_say_why_and_the_rest_goes_on(
    folder: Path, adapters: dict[str, Path | None], alone: dict[tuple[str, str | None], list[Answer]], tmp_path: Path
) -> None:
    source = Path(str(adapters["適合器1"]))
    kinds = ("shape", "missing", "strange", "modules", "code", "loha", "bytes", "empty")
    arms: dict[str, Path | None] = {kind: _broken(source, tmp_path / kind, kind) for kind in kinds}
    arms["nowhere"] = tmp_path / "nowhere"
    arms |= {"適合器1": source, "base": None}
    sink = Follower()
    found = _results(SwappableBase(folder), arms, sink)
    codes = {one.arm: one.code for one in found.values() if isinstance(one, NotMeasured)}
    fit = "adapter_does_not_fit"
    assert codes == dict.fromkeys(("shape", "missing", "strange", "modules", "bytes", "empty"), fit) | {
        "code": "adapter_config_key_refused", "loha": "adapter_type_unsupported", "nowhere": "adapter_undecodable",
    }  # fmt: skip
    for arm in ("適合器1", "base"):
        for task in ("choose", "say", "judge"):
            assert _said(found[arm, task]) == alone[arm, task]
    last = sink.seen[-1]
    assert (last.step, last.total) == (36, 36)


def test_modules_that_served_one_adapter_hold_nothing_of_it_for_the_next(
    folder: Path, adapters: dict[str, Path | None], alone: dict[tuple[str, str | None], list[Answer]], tmp_path: Path
) -> None:
    first, second = Path(str(adapters["適合器1"])), Path(str(adapters["適合器2"]))
    # Of the config of the one before, each: its modules are there to be filled.
    broken = {kind: _broken(first, tmp_path / kind, kind) for kind in ("missing", "strange", "shape")}
    base = SwappableBase(folder, resident=1)
    found = _results(base, {"a": first, "b": second, "missing": broken["missing"], "c": second, "d": first})
    found |= _results(base, {"strange": broken["strange"], "e": second, "shape": broken["shape"], "f": first})
    assert {one.arm for one in found.values() if isinstance(one, NotMeasured)} == set(broken)
    for arm, like in {"a": "適合器1", "b": "適合器2", "c": "適合器2", "d": "適合器1", "e": "適合器2", "f": "適合器1"}.items():
        assert _said(found[arm, "choose"]) == alone[like, "choose"]
    # Once at first, and once after each that did not fit.
    assert base.loads == 1 + len(broken)


def test_adapters_of_two_shapes_take_turns_and_each_fills_the_modules_of_its_own(
    folder: Path, adapters: dict[str, Path | None], alone: dict[tuple[str, str | None], list[Answer]], tmp_path: Path
) -> None:
    fifth = make_tiny_adapter(folder, tmp_path / "fifth", seed=5, targets=("down_proj",), rank=2)
    expected = {key: _said(one) for key, one in _results(SwappableBase(folder), {"適合器5": fifth}).items()}
    arms: dict[str, Path | None] = {
        "適合器1": adapters["適合器1"],
        "適合器3": adapters["適合器3"],
        "適合器2": adapters["適合器2"],
        "適合器5": fifth,
    }
    expected |= {key: said for key, said in alone.items() if key[0] in arms}
    base, slots = SwappableBase(folder, resident=2), set()
    for _ in range(3):
        assert {key: _said(one) for key, one in _results(base, arms).items()} == expected
        with base.arm(None) as model:
            slots.add(frozenset(model.peft_config))
    assert ([len(each) for each in slots], base.loads) == ([2], 1)
    # Now the one that has to leave is of the other shape each time.
    for name in ("適合器3", "適合器1", "適合器2"):
        assert {key: _said(one) for key, one in _results(base, {name: arms[name]}).items()}.items() <= expected.items()
    assert base.loads == 1


@pytest.mark.parametrize("shape", ["適合器2", "適合器3"])
def test_a_file_that_names_the_modules_of_another_adapter_is_refused_and_changes_nothing_of_it(
    folder: Path, adapters: dict[str, Path | None], alone: dict[tuple[str, str | None], list[Answer]], tmp_path: Path, shape: str
) -> None:
    first, forged, base = Path(str(adapters["適合器1"])), tmp_path / "forged", SwappableBase(folder)
    with base.arm(first) as model:
        (slot,) = model.active_adapters
    shutil.copytree(Path(str(adapters[shape])), forged)
    # In a file no name of modules stands; this one knows it.
    named = {name.replace(".weight", f".{slot}.weight"): tensor * 100 for name, tensor in load_file(first / WEIGHTS).items()}
    save_file(load_file(forged / WEIGHTS) | named, forged / WEIGHTS, metadata={"format": "pt"})
    found = _results(base, {"forged": forged, "適合器1": first})
    refusal = found["forged", None]
    assert isinstance(refusal, NotMeasured)
    assert refusal.code == "adapter_does_not_fit"
    assert _said(found["適合器1", "choose"]) == alone["適合器1", "choose"]


def test_a_stopped_sweep_goes_on_where_it_was_and_measures_nothing_twice(folder: Path, adapters: dict[str, Path | None]) -> None:
    base = SwappableBase(folder)
    whole = {key: _said(one) for key, one in _results(base, adapters).items()}
    kept: dict[tuple[str, str], list[Answer]] = {}
    rounds = 0
    while len(kept) < len(whole):
        rounds += 1
        with contextlib.suppress(SweepStopped):
            for result in sweep(base, adapters, _tasks(), sink=Follower(reports=7), batch_size=4, done=frozenset(kept)):
                assert isinstance(result, Measured)
                assert (result.arm, result.task) not in kept
                kept[result.arm, result.task] = _said(result)
        assert rounds < 20
    assert rounds > 1
    assert kept == whole


def test_progress_counts_every_answer_and_its_estimate_ends_with_nothing(folder: Path, adapters: dict[str, Path | None]) -> None:
    sink = Follower()
    found = _results(SwappableBase(folder), adapters, sink)
    steps = [progress.step or 0 for progress in sink.seen]
    assert steps == sorted(steps)
    assert (sink.seen[-1].step, sink.seen[-1].total, sink.seen[-1].eta_s) == (90, 90, 0)
    assert sink.seen[0].phase == "base: choose"
    one = found["base", "choose"]
    assert isinstance(one, Measured)
    assert {"python", "torch", "peft", "device", "dtype"} <= one.runtime.keys()
    assert one.runtime["engine"] == ENGINE
    assert one.runtime["answering"] == "tree"


def test_an_unknown_scorer_is_refused_before_anything_is_measured(folder: Path) -> None:
    (task, items), *_ = _tasks()
    task = task.model_copy(update={"scorers": (ScorerSpec(name="telepathy"),)})
    sink = Follower()
    with pytest.raises(UnknownScorer):
        next(sweep(SwappableBase(folder), {"base": None}, [(task, items)], sink=sink))
    assert sink.seen == []


def test_the_base_keeps_its_dtype_and_its_ends(folder: Path) -> None:
    base = SwappableBase(folder, dtype=torch.float32)
    assert base.stop_tokens == frozenset({base.tokenizer.eos_token_id})
    assert base.context == 512
    with base.arm(None) as model:
        assert model.dtype == torch.float32


def test_the_base_is_read_once_however_many_adapters_there_are(folder: Path, adapters: dict[str, Path | None]) -> None:
    base = SwappableBase(folder)
    _results(base, adapters)
    assert base.loads == 1
