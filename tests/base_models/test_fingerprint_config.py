"""F1: one digest for one configuration, however it is written."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringi.base_models.config_defaults import DEFAULTS, DEFAULTS_VERSION
from ringi.base_models.fingerprint_config import BaseConfigInvalid, changes, fingerprint_config, parse_config

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "rope_theta": 100000,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}


def f1(changed: dict[str, Any] | None = None, **more: Any) -> str:
    return fingerprint_config({**LLAMA, **(changed or {}), **more}).f1


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in LLAMA.items() if name != key}


@pytest.mark.parametrize(
    "same",
    [
        {"_name_or_path": "x", "transformers_version": "4.1", "torch_dtype": "bfloat16", "dtype": "float32", "use_cache": False},
        {"output_attentions": True, "return_dict": False, "_attn_implementation_autoset": True, "initializer_range": 0.5},
        {"attention_dropout": 0.1, "gradient_checkpointing": True},
        {"head_dim": 64, "attention_bias": False, "mlp_bias": False, "hidden_act": "silu", "pretraining_tp": 1},
        {"rms_norm_eps": 9.999999747378752e-06},
        {"rope_theta": 100000.0},
        {"rope_scaling": None},
        {"rope_scaling": {"type": "default"}},
        {"rope_scaling": {"rope_type": "default"}, "partial_rotary_factor": None},
        {"pad_token_id": None, "unheard_of": None},
    ],
)  # fmt: skip
def test_what_does_not_move_a_forward_pass_does_not_move_f1(same: dict[str, Any]) -> None:
    assert f1(same) == f1()


@pytest.mark.parametrize(
    "other",
    [
        {"rope_theta": 500000.0}, {"rms_norm_eps": 1e-6}, {"num_key_value_heads": 9}, {"head_dim": 32}, {"tie_word_embeddings": False},
        {"rope_scaling": {"type": "linear", "factor": 2.0}}, {"max_position_embeddings": 8192}, {"attention_bias": True},
        {"architectures": ["LlamaModel"]}, {"num_hidden_layers": 29}, {"unheard_of": 1}, {"rms_norm_eps": 1.000001e-5},
    ],
)  # fmt: skip
def test_what_moves_a_forward_pass_moves_f1(other: dict[str, Any]) -> None:
    assert f1(other) != f1()


def test_the_old_and_the_new_spelling_of_rotary_settings_are_one() -> None:
    new = {**without("rope_theta"), "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0}}
    assert fingerprint_config(new).f1 == f1()
    old = {
        "rope_scaling": {"type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0},
        "max_position_embeddings": 131072,
    }
    spelled = {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4, "rope_theta": 1e5}
    spelled["original_max_position_embeddings"] = 131072
    assert f1(old) == fingerprint_config({**without("rope_theta"), "max_position_embeddings": 131072, "rope_parameters": spelled}).f1


def test_an_absent_key_equals_its_explicit_default_for_every_pinned_model_type() -> None:
    for model_type, defaults in DEFAULTS.items():
        bare = fingerprint_config({"model_type": model_type})
        assert fingerprint_config({"model_type": model_type, **defaults}).f1 == bare.f1, model_type
        assert bare.document["defaults"] == f"{DEFAULTS_VERSION}/{model_type}"


def test_the_pinned_table_agrees_with_the_library_it_was_taken_from() -> None:
    transformers = pytest.importorskip("transformers")
    if f"transformers-{transformers.__version__}" != DEFAULTS_VERSION:
        pytest.skip(f"the table is of {DEFAULTS_VERSION}")
    for model_type in DEFAULTS:
        saved = transformers.AutoConfig.for_model(model_type).to_dict()
        written = json.loads(json.dumps(saved, default=str))
        ours, theirs = fingerprint_config({"model_type": model_type}), fingerprint_config(written)
        assert changes(ours.document, theirs.document) == ()
        assert ours.f1 == theirs.f1, model_type
        assert ours.document["train_only"] == theirs.document["train_only"]


def test_gpt2_is_read_through_its_aliases() -> None:
    assert fingerprint_config({"model_type": "gpt2", "n_embd": 64, "n_layer": 2}).f1 == (
        fingerprint_config({"model_type": "gpt2", "hidden_size": 64, "num_hidden_layers": 2, "n_inner": 256}).f1
    )


def test_an_unknown_model_type_gets_no_defaults_and_says_so() -> None:
    bare, explicit = ({"model_type": "newcomer", **more} for more in ({}, {"tie_word_embeddings": False}))
    assert fingerprint_config(bare).document == {
        "scheme": "f1/1",
        "defaults": "none",
        "config": {"model_type": "newcomer"},
        "train_only": {},
    }
    assert fingerprint_config(bare).f1 != fingerprint_config(explicit).f1


def test_a_nested_text_config_is_treated_like_a_whole_one() -> None:
    plain = {"model_type": "seer", "text_config": LLAMA}
    dressed = {"model_type": "seer", "text_config": {**LLAMA, "head_dim": 64, "torch_dtype": "float16", "attention_dropout": 0.3}}
    assert fingerprint_config(plain).f1 == fingerprint_config(dressed).f1
    assert fingerprint_config(dressed).document["train_only"] == {"text_config": {"attention_dropout": 0.3}}
    moved = {"model_type": "seer", "text_config": {**LLAMA, "rope_theta": 5}}
    found = changes(fingerprint_config(plain).document, fingerprint_config(moved).document)
    assert found == ("text_config.rope_parameters.rope_theta: 100000 -> 5",)


def test_dropout_is_kept_beside_the_identity() -> None:
    with_dropout = fingerprint_config({**LLAMA, "attention_dropout": 0.1})
    assert with_dropout.f1 == f1()
    assert with_dropout.document["train_only"] == {"attention_dropout": 0.1}
    assert with_dropout.canonical != fingerprint_config(LLAMA).canonical


def test_changes_name_the_key_and_both_values() -> None:
    old, new = fingerprint_config(LLAMA), fingerprint_config({**LLAMA, "rms_norm_eps": 1e-6, "extra": True})
    assert changes(old.document, new.document) == ("extra: absent -> true", "rms_norm_eps: 0.00001 -> 0.000001")


def test_the_digest_has_its_form_and_the_order_of_keys_is_free() -> None:
    assert re.fullmatch(r"blake3:[0-9a-f]{64}", f1())
    assert fingerprint_config(dict(reversed(LLAMA.items()))).f1 == f1()


@given(st.floats(min_value=1e-30, max_value=1e30, allow_subnormal=False))
def test_float32_noise_never_moves_f1(value: float) -> None:
    import numpy as np

    assert f1(some_scale=float(f"{np.float32(value):.7g}")) == f1(some_scale=float(np.float32(value)))


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"\xff{}", b'{"a":1,"a":2}', b'{"a":' * 100_000, b" " * (4 * 1024 * 1024 + 1)],
)  # fmt: skip
def test_bytes_that_are_no_configuration_are_refused(raw: bytes) -> None:
    with pytest.raises(BaseConfigInvalid):
        parse_config(raw)


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "llama", "num_attention_heads": 0}, {"model_type": "llama", "hidden_size": "x"}, {"model_type": "x", "n": 2**60},
        {"model_type": "llama", "rope_scaling": "linear"}, {"model_type": "qwen2", "num_hidden_layers": 10**12}, {"x": "\ud800"},
    ],
)  # fmt: skip
def test_values_of_the_wrong_kind_are_refused_with_a_code(config: dict[str, Any]) -> None:
    with pytest.raises(BaseConfigInvalid):
        fingerprint_config(config)


def test_numbers_that_json_does_not_have_become_their_names() -> None:
    assert fingerprint_config({"limit": float("inf"), "low": float("-inf"), "odd": float("nan")}).document["config"] == {
        "limit": "Infinity",
        "low": "-Infinity",
        "odd": "NaN",
    }
