"""Two arms answer a validation split: against one-by-one passes of the plain model, with a tiny Llama."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from ringi.evaluation.verdict import NotFinite, judge
from ringi.jobs.contracts.evaluation import ArmRecord, ItemRecord
from ringi.jobs.contracts.parts import Progress
from ringi.kit.digests import sha256_bytes
from ringi_workers.adapters.attach import load_tokenizer
from ringi_workers.evaluation.arms import ArmFolders, ArmPair, load_arms
from ringi_workers.evaluation.generate import EvaluationStopped, evaluate
from ringi_workers.training.data import IGNORED, encode_row
from support.tiny_model import make_tiny_base, tiny_rows

BUDGET = 12


class Follower:
    """Keeps what is reported, and asks to stop after `batches` reports."""

    def __init__(self, *, batches: int | None = None) -> None:
        self.seen: list[Progress] = []
        self.batches = batches

    def report(self, progress: Progress) -> None:
        self.seen.append(progress)

    def should_stop(self) -> bool:
        return self.batches is not None and len(self.seen) >= self.batches


def _load(base: Path) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    return model.eval()


def _adapted(model: Any, adapter: Path) -> Any:
    wrapped: Any = PeftModel.from_pretrained(model, str(adapter))
    return wrapped.eval()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base") / "tiny", seed=3)


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA with random A and B: it changes everything."""
    out = tmp_path_factory.mktemp("adapter")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        config = LoraConfig(
            r=4, lora_alpha=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False, task_type="CAUSAL_LM"
        )
        get_peft_model(_load(base), config).save_pretrained(str(out))
    return out


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 items; the last two have another answer to the prompt of the first."""
    items = tiny_rows(12, seed=9)
    items += [{"prompt": items[0]["prompt"], "completion": "No."}, {"prompt": items[0]["prompt"], "completion": "たぶん、はい。"}]
    path = tmp_path_factory.mktemp("rows") / "validation.jsonl"
    lines = (json.dumps({"id": f"item{n:02d}", "language": "x", **item}, ensure_ascii=False) for n, item in enumerate(items))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _run(arms: ArmPair, rows: Path, *, batch_size: int = 5, max_length: int = 256, sink: Follower | None = None) -> list[ItemRecord]:
    return list(
        evaluate(
            arms.candidate,
            arms.baseline,
            rows,
            max_new_tokens=BUDGET,
            max_length=max_length,
            batch_size=batch_size,
            sink=sink or Follower(),
        )
    )


def _one_by_one(model: Any, tokenizer: Any, row: dict[str, str], budget: int) -> tuple[float, int, str]:
    """NLL, label tokens and greedy answer of a row, by plain passes without padding, cache or sharing."""
    example = encode_row(tokenizer, row["prompt"], row["completion"], max_length=256)
    ids = torch.tensor([example.input_ids])
    labels = torch.tensor([example.labels])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits.float()
        nll = torch.nn.functional.cross_entropy(logits[0, :-1], labels[0, 1:], ignore_index=IGNORED)
        generated: list[int] = []
        while len(generated) < budget:
            context = torch.tensor([[*example.input_ids[: example.labels_from], *generated]])
            token = int(model(input_ids=context).logits[0, -1].argmax())
            if token == tokenizer.eos_token_id:
                break
            generated.append(token)
    return float(nll), int((labels != IGNORED).sum()), tokenizer.decode(generated, skip_special_tokens=True)


def _assert_equal_to_one_by_one(arms: Sequence[ArmRecord], model: Any, tokenizer: Any, rows: Path) -> None:
    documents = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    for arm, row in zip(arms, documents, strict=True):
        nll, tokens, output = _one_by_one(model, tokenizer, row, BUDGET)
        assert arm.nll == pytest.approx(nll, abs=1e-3)
        assert arm.tokens == tokens
        assert arm.output == output


def test_both_arms_equal_plain_one_by_one_passes_over_one_shared_base(base: Path, adapter: Path, rows: Path) -> None:
    arms = load_arms(ArmFolders(base, adapter), ArmFolders(base, None))
    assert arms.candidate.model is arms.baseline.model
    records = sorted(_run(arms, rows), key=lambda record: record.item)
    plain = _load(base)
    _assert_equal_to_one_by_one([r.baseline for r in records], plain, arms.baseline.tokenizer, rows)
    adapted = _adapted(plain, adapter)
    _assert_equal_to_one_by_one([r.candidate for r in records], adapted, arms.candidate.tokenizer, rows)
    assert any(abs((r.candidate.nll or 0) - (r.baseline.nll or 0)) > 0.01 for r in records)


def test_the_batch_size_changes_no_record(base: Path, adapter: Path, rows: Path) -> None:
    arms = load_arms(ArmFolders(base, adapter), ArmFolders(base, None))
    alone, together = (sorted(_run(arms, rows, batch_size=size), key=lambda record: record.item) for size in (1, 64))
    for one, other in zip(alone, together, strict=True):
        assert one.candidate.nll == pytest.approx(other.candidate.nll, abs=1e-4)
        assert one.candidate.output == other.candidate.output


def test_every_answer_to_a_repeated_prompt_has_its_own_likelihood_and_the_same_output(base: Path, adapter: Path, rows: Path) -> None:
    records = {r.item: r for r in _run(load_arms(ArmFolders(base, adapter), ArmFolders(base, None)), rows)}
    same = [records[item] for item in ("item00", "item12", "item13")]
    assert len({record.prompt_digest for record in same}) == 1
    assert len({record.candidate.output for record in same}) == 1
    assert len({record.candidate.nll for record in same}) == 3


def test_two_bases_are_compared_for_a_regression(base: Path, adapter: Path, rows: Path, tmp_path: Path) -> None:
    newer = make_tiny_base(tmp_path / "newer", seed=4)
    arms = load_arms(ArmFolders(newer, adapter), ArmFolders(base, adapter))
    assert arms.candidate.model is not arms.baseline.model
    records = sorted(_run(arms, rows), key=lambda record: record.item)
    plain = _load(newer)
    _assert_equal_to_one_by_one([r.candidate for r in records], _adapted(plain, adapter), arms.candidate.tokenizer, rows)
    assert judge(records, minimum_items=10).scored == 14


def test_two_adapters_of_one_base_are_told_apart(base: Path, adapter: Path, rows: Path, tmp_path: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    stronger = tmp_path / "stronger"
    stronger.mkdir()
    (stronger / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    doubled = {name: tensor * 2 if "lora_B" in name else tensor for name, tensor in tensors.items()}
    save_file(doubled, stronger / "adapter_model.safetensors", metadata={"format": "pt"})
    records = sorted(_run(load_arms(ArmFolders(base, stronger), ArmFolders(base, adapter)), rows), key=lambda record: record.item)
    for folder, side in ((stronger, "candidate"), (adapter, "baseline")):
        model = _adapted(_load(base), folder)
        tokenizer = load_tokenizer(base)
        _assert_equal_to_one_by_one([getattr(r, side) for r in records], model, tokenizer, rows)


def test_an_item_without_label_tokens_is_recorded_as_unscored(base: Path, adapter: Path, rows: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    blank = json.dumps({"id": "blank", "prompt": "x", "completion": " "})
    path.write_text(rows.read_text(encoding="utf-8") + blank + "\n", encoding="utf-8")
    records = {r.item: r for r in _run(load_arms(ArmFolders(base, adapter), ArmFolders(base, None)), path)}
    assert (records["blank"].candidate.nll, records["blank"].candidate.match, records["blank"].baseline.nll) == (None, None, None)
    assert judge(list(records.values())).unscored == 1
    assert len(records) == 15


def test_a_row_with_unicode_line_ends_in_its_text_is_one_item(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"id": "one", "prompt": "a\u2028b\u2029c", "completion": "d\u0085e"}
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    (record,) = _run(load_arms(ArmFolders(base, None), ArmFolders(base, None)), path)
    assert (record.item, record.reference, record.prompt_digest) == ("one", row["completion"], sha256_bytes(row["prompt"].encode()))
    assert record.candidate.nll is not None


def test_a_long_item_is_cut_to_the_maximum_length_and_still_scored(base: Path, adapter: Path, rows: Path) -> None:
    records = _run(load_arms(ArmFolders(base, adapter), ArmFolders(base, None)), rows, max_length=8)
    assert all(record.candidate.nll is not None and record.candidate.tokens <= 7 for record in records)


def test_progress_counts_every_item_and_ends_with_nothing_left(base: Path, adapter: Path, rows: Path) -> None:
    sink = Follower()
    _run(load_arms(ArmFolders(base, adapter), ArmFolders(base, None)), rows, sink=sink)
    steps = [progress.step for progress in sink.seen]
    assert steps == sorted(steps, key=lambda step: step or 0)
    assert (sink.seen[-1].step, sink.seen[-1].total, sink.seen[-1].eta_s) == (14, 14, 0)


def test_a_stop_ends_the_evaluation_as_a_refusal_and_not_as_a_short_result(base: Path, adapter: Path, rows: Path) -> None:
    with pytest.raises(EvaluationStopped):
        _run(load_arms(ArmFolders(base, adapter), ArmFolders(base, None)), rows, sink=Follower(batches=1))


def test_an_adapter_that_overflows_is_refused(base: Path, adapter: Path, rows: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "adapter_config.json").write_bytes((adapter / "adapter_config.json").read_bytes())
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({name: tensor * 1e30 for name, tensor in tensors.items()}, broken / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NotFinite, match="candidate"):
        _run(load_arms(ArmFolders(base, broken), ArmFolders(base, None)), rows)
