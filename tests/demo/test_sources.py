"""The demo's own material: the fetched base model and text, later revisions of a base, and adapters that must be refused."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ringi.datasets.validation import read_rows, validate_and_split
from ringi.jobs.contracts.datasets import SplitSpec
from ringi_workers.demo.base_variants import perturb, reshard
from ringi_workers.demo.broken_adapters import wrong_prefix_adapter, zero_b_adapter
from ringi_workers.demo.sources import default_cache, fetch_base_model
from support.real_base import chat_corpus, smollm
from support.tiny_model import make_tiny_base


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def _load(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base") / "tiny", seed=0)


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("adapter")
    model: Any = get_peft_model(_load(base), LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(out)
    return out


def _logits(base: Path, adapter: Path | None = None) -> torch.Tensor:
    model = _load(base)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, str(adapter))
    with torch.inference_mode():
        logits: torch.Tensor = model.eval()(input_ids=torch.arange(3, 20).unsqueeze(0)).logits
    return logits


def test_a_perturbed_base_differs_a_little_in_the_named_tensors_only(base: Path, tmp_path: Path) -> None:
    changed = perturb(base, tmp_path / "second", seed=11)
    old, new = _weights(base), _weights(tmp_path / "second")
    assert len(changed) == 3
    assert {name for name in old if not torch.equal(old[name], new[name])} == set(changed)
    for name in changed:
        assert 0.01 < float((new[name] - old[name]).norm() / old[name].norm()) < 0.04
    assert perturb(base, tmp_path / "again", seed=11) == changed
    assert all(torch.equal(tensor, new[name]) for name, tensor in _weights(tmp_path / "again").items())
    assert not torch.equal(_logits(base), _logits(tmp_path / "second"))


def test_a_resharded_base_has_other_files_and_equal_values(base: Path, tmp_path: Path) -> None:
    out = reshard(base, tmp_path / "third", shards=3)
    files = sorted(path.name for path in out.glob("*.safetensors"))
    assert files == [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    old, new = _weights(base), _weights(out)
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == set(files)
    assert torch.equal(_logits(base), _logits(out))


def test_an_adapter_with_zero_b_loads_and_changes_nothing(base: Path, adapter: Path, tmp_path: Path) -> None:
    assert not torch.equal(_logits(base), _logits(base, adapter))
    assert torch.equal(_logits(base), _logits(base, zero_b_adapter(adapter, tmp_path / "zero")))


def test_an_adapter_with_a_wrong_prefix_fills_no_module(base: Path, adapter: Path, tmp_path: Path) -> None:
    broken = wrong_prefix_adapter(adapter, tmp_path / "prefix")
    assert torch.equal(_logits(base), _logits(base, broken))
    assert {name.replace("language_model.", "", 1) for name in _weights(broken)} == set(_weights(adapter))


@pytest.mark.smollm
def test_the_fetched_base_is_an_ordinary_bf16_folder_that_answers_in_english() -> None:
    folder = smollm()
    assert fetch_base_model(default_cache()) == folder
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    weights = _weights(folder)
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}
    assert 134_000_000 < sum(tensor.numel() for tensor in weights.values()) < 136_000_000
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model = _load(folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    answered = model.generate(**asked, max_new_tokens=12, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(answered, skip_special_tokens=True)


@pytest.mark.smollm
def test_the_corpus_has_both_languages_and_its_duplicates_stay_out_of_validation() -> None:
    rows = chat_corpus()
    with rows.open("rb") as stream:
        source = read_rows(stream)
    languages = Counter(row.tags["language"] for row in source.rows)
    assert languages == {"en": 2026, "ja": 568}
    pairs = {language: {(r.prompt, r.completion) for r in source.rows if r.tags["language"] == language} for language in languages}
    assert {language: len(unique) for language, unique in pairs.items()} == {"en": 898, "ja": 565}
    report = validate_and_split(source, SplitSpec(validation_fraction=0.15, seed=1)).report
    assert report.categories["english:tech_support"] == {"rows": 1050, "unique": 10, "train": 10, "validation": 0}
    assert report.validation_rows >= 100
