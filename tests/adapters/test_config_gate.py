"""The gate in front of adapter_config.json, checked against the real library's own files and fields."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from ringi.adapters.config_gate import (
    AdapterBaseMismatch,
    AdapterBaseRevisionMissing,
    AdapterConfigInvalid,
    AdapterConfigKeyRefused,
    AdapterConfigUnknownKey,
    AdapterTypeUnsupported,
    ConfigFacts,
    check_config,
)
from ringi.adapters.config_keys import KEYS, PEFT_VERSION

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GOOD: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "demo/base",
    "revision": COMMIT,
    "r": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.05,
    "target_modules": ["v_proj", "q_proj"],
}


def gate(changes: dict[str, Any], *, base: str | None = "demo/base", commit: str | None = COMMIT) -> ConfigFacts:
    return check_config(json.dumps({**GOOD, **changes}).encode(), expected_base=base, expected_commit=commit)


def test_facts_are_read_and_targets_come_sorted() -> None:
    facts = gate({"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"model.layers.0.self_attn.q_proj": 2.5}, "use_rslora": True})
    assert (facts.rank, facts.alpha, facts.dropout, facts.use_rslora) == (8, 16.0, 0.05, True)
    assert facts.target_modules == ("q_proj", "v_proj")
    assert (facts.base_model, facts.base_revision) == ("demo/base", COMMIT)
    assert facts.rank_pattern == (("q_proj", 4),)
    assert not facts.all_linear


def test_the_table_holds_exactly_the_fields_of_the_pinned_peft_and_its_own_file_passes(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    if peft.__version__ != PEFT_VERSION:
        pytest.skip(f"the table is of peft {PEFT_VERSION}")
    for method, kind in (("LORA", peft.LoraConfig), ("IA3", peft.IA3Config), ("VERA", peft.VeraConfig)):
        assert {field.name for field in dataclasses.fields(kind)} == set(KEYS[method].known)
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], base_model_name_or_path="demo/base", revision=COMMIT, task_type="CAUSAL_LM")
    config.save_pretrained(tmp_path)
    facts = check_config((tmp_path / "adapter_config.json").read_bytes(), expected_base="demo/base", expected_commit=COMMIT)
    assert (facts.rank, facts.target_modules, facts.peft_version) == (4, ("q_proj",), PEFT_VERSION)


def test_all_linear_and_one_literal_name_are_the_only_texts_for_targets() -> None:
    assert gate({"target_modules": "all-linear"}).all_linear
    assert gate({"target_modules": "q_proj"}).target_modules == ("q_proj",)


@pytest.mark.parametrize(
    "value", ["(a+)+$", ".*", "q_proj|v_proj", "", None, [], ["q_proj", 1], ["q.*proj"], ["a", "a"], {"q": 1}, 7, [""]]
)
def test_patterns_and_other_odd_targets_are_refused(value: object) -> None:
    with pytest.raises(AdapterConfigInvalid) as refusal:
        gate({"target_modules": value})
    assert refusal.value.details["reason"] == "target_modules"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auto_mapping", {"base_model_class": "X", "parent_library": "os"}), ("megatron_config", {}), ("megatron_core", "os"),
        ("corda_config", {"covariance_file": "x.pt"}), ("eva_config", {}), ("loftq_config", {"loftq_bits": 4}), ("lora_ga_config", {}),
        ("init_lora_weights", "pissa"), ("init_lora_weights", "olora"), ("init_lora_weights", 1), ("bias", "all"),
        ("layer_replication", [[0, 4]]),
        ("target_parameters", ["x"]), ("trainable_token_indices", [1]), ("use_qalora", True), ("alora_invocation_tokens", [1]),
        ("runtime_config", {"ephemeral_gpu_offload": True}), ("use_bdlora", {}), ("arrow_config", {}),
    ],
)  # fmt: skip
def test_keys_that_reach_code_files_or_the_base_must_stay_inert(key: str, value: object) -> None:
    with pytest.raises(AdapterConfigKeyRefused) as refusal:
        gate({key: value})
    assert refusal.value.details == {"key": key}


@pytest.mark.parametrize("key", ["tokenizer_kwargs", "trust_remote_code", "__class__", "R", "eva_config "])
def test_an_unknown_key_is_refused(key: str) -> None:
    with pytest.raises(AdapterConfigUnknownKey) as refusal:
        gate({key: None})
    assert refusal.value.code == "adapter_config_unknown_key"


@pytest.mark.parametrize("peft_type", ["LOHA", "PROMPT_TUNING", "lora", None, ["LORA"], "ADALORA"])
def test_other_methods_are_refused(peft_type: object) -> None:
    with pytest.raises(AdapterTypeUnsupported):
        gate({"peft_type": peft_type})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("r", 0), ("r", 513), ("r", -1), ("r", 8.0), ("r", True), ("r", "8"), ("r", None), ("lora_alpha", 0), ("lora_alpha", -4),
        ("lora_alpha", 70_000), ("lora_alpha", float("inf")), ("lora_alpha", float("nan")), ("lora_dropout", 1), ("lora_dropout", -0.1),
        ("rank_pattern", {"q": 0}), ("rank_pattern", {"(a+)+$": 4}), ("rank_pattern", []), ("alpha_pattern", {"q": float("nan")}),
        ("modules_to_save", "lm_head"), ("modules_to_save", ["../x"]), ("exclude_modules", ".*"), ("layers_pattern", "(x+)+"),
        ("layers_to_transform", [-1]), ("layers_to_transform", "1"), ("use_dora", 1), ("use_rslora", "true"), ("task_type", "EVIL"),
        ("task_type", ["CAUSAL_LM"]), ("peft_version", "1\n2"), ("revision", 7), ("revision", "a\nb"),
    ],
)  # fmt: skip
def test_a_value_out_of_bounds_is_refused(key: str, value: object) -> None:
    with pytest.raises(AdapterConfigInvalid):
        gate({key: value}, commit=None)


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"null", b"{", b"\xff\xfe{}", b'{"peft_type":"LORA","peft_type":"LORA"}', b'{"a":' * 100_000, b" " * 300_000],
)  # fmt: skip
def test_bytes_that_are_no_json_object_are_refused(raw: bytes) -> None:
    with pytest.raises(AdapterConfigInvalid):
        check_config(raw, expected_base=None, expected_commit=None)


@pytest.mark.parametrize("field", ["base_model_name_or_path", "revision"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_base_or_revision_is_refused_even_when_any_would_do(field: str, value: object) -> None:
    with pytest.raises(AdapterBaseRevisionMissing) as refusal:
        gate({field: value}, base=None, commit=None)
    assert refusal.value.details == {"field": field}


def test_another_base_or_revision_is_refused() -> None:
    with pytest.raises(AdapterBaseMismatch):
        gate({"base_model_name_or_path": "demo/other"})
    with pytest.raises(AdapterBaseMismatch) as refusal:
        gate({"revision": "main"})
    assert refusal.value.details == {"field": "revision", "found": "main", "expected": COMMIT}


def other(changes: dict[str, Any]) -> ConfigFacts:
    known = {key: value for key, value in GOOD.items() if not key.startswith("lora") and key != "r"}
    return check_config(json.dumps(known | changes).encode(), expected_base=None, expected_commit=None)


def test_ia3_has_no_rank_and_its_inner_modules_are_targets() -> None:
    facts = other({"peft_type": "IA3", "feedforward_modules": ["q_proj"]})
    assert (facts.peft_type, facts.rank, facts.alpha, facts.dropout) == ("IA3", None, None, None)
    with pytest.raises(AdapterConfigInvalid, match="feedforward_modules"):
        other({"peft_type": "IA3", "feedforward_modules": ["down_proj"]})
    with pytest.raises(AdapterConfigInvalid, match="patterns are not run"):
        other({"peft_type": "IA3", "feedforward_modules": ".*"})


@pytest.mark.parametrize(
    "changes", [{"r": 0}, {"projection_prng_key": -1}, {"projection_prng_key": 1.5}, {"d_initial": "x"}, {"vera_dropout": 1}]
)
def test_vera_has_a_rank_and_no_alpha_and_bounded_numbers(changes: dict[str, Any]) -> None:
    facts = other({"peft_type": "VERA", "r": 64, "projection_prng_key": 3})
    assert (facts.peft_type, facts.rank, facts.alpha) == ("VERA", 64, None)
    with pytest.raises(AdapterConfigInvalid):
        other({"peft_type": "VERA"} | changes)


def test_a_vera_whose_projections_would_be_drawn_anew_is_refused() -> None:
    with pytest.raises(AdapterConfigKeyRefused):
        other({"peft_type": "VERA", "save_projection": False})


def test_a_key_of_another_method_is_unknown() -> None:
    with pytest.raises(AdapterConfigUnknownKey, match="IA3"):
        other({"peft_type": "IA3", "r": 8})
