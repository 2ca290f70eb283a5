"""Parameters are counted to the last one: against transformers' own models, built without memory on torch's meta device, and peft's adapters."""

from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from ringi.jobs.contracts.methods import ALL_LINEAR
from ringi.preflight.shapes import Shape, ShapeInvalid, UnknownShape, shape_of

# Sizes that nothing else is equal to, so that a matrix counted for another one shows; and some published shapes.
_ODD: dict[str, Any] = {
    "vocab_size": 517, "hidden_size": 96, "intermediate_size": 200, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2,
    "max_position_embeddings": 130,
}  # fmt: skip
_ENCODER = {key: value for key, value in _ODD.items() if key != "num_key_value_heads"}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _ODD),
    "llama with biases": ("LlamaConfig", _ODD | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama with its own head size": ("LlamaConfig", _ODD | {"head_dim": 24}),
    "llama 2 7B": ("LlamaConfig", {}),
    "mistral": ("MistralConfig", _ODD),
    "mistral 7B": ("MistralConfig", {}),
    "qwen2": ("Qwen2Config", _ODD),
    "qwen2 tied": ("Qwen2Config", _ODD | {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", _ODD | {"head_dim": 32}),
    "qwen3 by default": ("Qwen3Config", {}),
    "gemma": ("GemmaConfig", _ODD | {"head_dim": 20}),
    "gemma 7B": ("GemmaConfig", {}),
    "gemma2": ("Gemma2Config", _ODD | {"head_dim": 20}),
    "gemma2 2B": ("Gemma2Config", {}),
    "gemma3": ("Gemma3TextConfig", _ODD | {"head_dim": 20}),
    "gpt2": ("GPT2Config", {"vocab_size": 517, "n_embd": 96, "n_layer": 3, "n_head": 6, "n_positions": 130}),
    "gpt2 small": ("GPT2Config", {}),
    "gpt2 with its own inner size": ("GPT2Config", {"vocab_size": 517, "n_embd": 96, "n_layer": 3, "n_head": 6, "n_inner": 130}),
    "bert": ("BertConfig", _ENCODER | {"num_labels": 5}),
    "bert base": ("BertConfig", {}),
    "roberta": ("RobertaConfig", _ENCODER | {"num_labels": 3, "type_vocab_size": 1}),
    "xlm-roberta": ("XLMRobertaConfig", _ENCODER),
}


def built(name: str) -> tuple[Shape, Any]:
    kind, settings = CASES[name]
    config = getattr(transformers, kind)(**settings)
    family: Any = AutoModelForSequenceClassification if kind[:4] in {"Bert", "Robe", "XLMR"} else AutoModelForCausalLM
    with torch.device("meta"):
        model = family.from_config(config)
    return shape_of(config.to_dict()), model


@pytest.mark.parametrize("name", CASES)
def test_parameters_are_those_of_the_model_itself(name: str) -> None:
    shape, model = built(name)
    assert shape.parameters == sum(one.numel() for one in model.parameters())


@pytest.mark.parametrize("name", [name for name in CASES if name not in {"llama 2 7B", "mistral 7B", "gemma 7B"}])
def test_the_config_as_it_is_saved_gives_the_same_count(name: str) -> None:
    kind, settings = CASES[name]
    config = getattr(transformers, kind)(**settings)
    shape, _ = built(name)
    assert shape_of(config.to_diff_dict() | {"model_type": config.model_type}).parameters == shape.parameters


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("llama", ["q_proj", "v_proj"]),
        ("llama", ["mlp.down_proj"]),
        ("llama with its own head size", "all-linear"),
        ("mistral", ["gate_proj", "up_proj", "down_proj"]),
        ("qwen2", "all-linear"),
        ("qwen3", "all-linear"),
        ("gemma2", ["q_proj", "k_proj", "o_proj"]),
        ("gemma3", "all-linear"),
        ("gpt2", ["c_attn"]),
        ("gpt2", ["c_proj"]),
        ("bert", ["query", "value"]),
        ("roberta", ["attention.output.dense", "query"]),
    ],
)
def test_adapter_parameters_are_those_that_peft_makes(name: str, targets: list[str] | str) -> None:
    shape, model = built(name)
    with torch.device("meta"):
        adapted = get_peft_model(model, LoraConfig(r=5, target_modules=targets, fan_in_fan_out=name.startswith("gpt2")))
    trained = sum(one.numel() for one in adapted.parameters() if one.requires_grad)
    assert shape.lora_parameters(rank=5, targets=[targets] if isinstance(targets, str) else targets) == trained


def test_targets_that_mean_nothing_are_named() -> None:
    shape, _ = built("gpt2")
    assert shape.unmatched(["c_attn", "q_proj", ALL_LINEAR]) == ("q_proj",)
    assert shape.unmatched(["transformer.h.2.attn.c_proj"]) == ()
    assert shape.unmatched(["proj"]) == ("proj",)


@pytest.mark.parametrize("config", [{}, {"model_type": "mamba"}, {"model_type": 7}, {"model_type": "gemma3", "text_config": {}}])
def test_an_unknown_shape_is_refused_and_never_guessed(config: dict[str, Any]) -> None:
    with pytest.raises(UnknownShape) as refused:
        shape_of(config)
    assert refused.value.code == "preflight_unknown_shape"


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden_size": 0},
        {"hidden_size": "4096"},
        {"num_hidden_layers": 2**40},
        {"num_hidden_layers": True},
        {"num_attention_heads": 5},
        {"vocab_size": None},
        {"intermediate_size": -1},
        {"quantization_config": {"load_in_4bit": True}},
    ],
)
def test_sizes_that_are_none_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ShapeInvalid):
        shape_of({"model_type": "llama"} | _ODD | wrong)


@pytest.mark.parametrize("name", [name for name in CASES if not any(size in name for size in ("7B", "2B", "default"))])
def test_a_classifier_has_a_head_for_its_classes_in_place_of_the_one_over_the_vocabulary(name: str) -> None:
    kind, settings = CASES[name]
    config = getattr(transformers, kind)(**settings | {"num_labels": 7})
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
    shape = shape_of(config.to_dict()).with_head_for(7)
    assert shape.parameters == sum(one.numel() for one in model.parameters())
    assert shape == shape.with_head_for(9).with_head_for(7)


def test_positions_of_roberta_begin_behind_the_padding() -> None:
    assert [shape_of({"model_type": kind, "max_position_embeddings": 514}).context for kind in ("bert", "roberta")] == [514, 512]
    assert shape_of({"model_type": "roberta", "max_position_embeddings": 160, "pad_token_id": 0}).context == 159
