"""Tiny models of several architectures with random weights, for the tokenizer of `tiny_model`; and tiny adapters that do something."""

from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from support.tiny_model import VOCAB_SIZE, make_tiny_tokenizer

_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.15, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_GPT: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "n_layer": 2,
    "n_head": 4,
    "initializer_range": 0.15,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# Short enough that a prompt of the tests reaches beyond it.
WINDOW = 24
_SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", _COMMON),
    "qwen3": ("Qwen3Config", _COMMON | {"head_dim": 16}),
    "mistral": ("MistralConfig", _COMMON | {"sliding_window": WINDOW}),
    "gemma3": ("Gemma3TextConfig", _COMMON | {"head_dim": 16, "sliding_window": WINDOW, "query_pre_attn_scalar": 16}),
    # It caps the scores of its attention.
    "gemma2": ("Gemma2Config", _COMMON | {"head_dim": 16, "sliding_window": WINDOW, "query_pre_attn_scalar": 16}),
    "gpt2": ("GPT2Config", _GPT | {"n_embd": 64, "n_positions": 512}),
    # Places by a bias on the attention, which takes no mask of a tree.
    "bloom": ("BloomConfig", _GPT | {"hidden_size": 64}),
    # A convolution that remembers what attention does not see.
    "lfm2": ("Lfm2Config", _COMMON | {"layer_types": ["conv", "full_attention"]}),
    # No attention at all.
    "mamba": ("MambaConfig", {key: _COMMON[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers", "initializer_range")}),
}


def tiny_shape(name: str, *, attention: str | None = None, seed: int = 0) -> Any:
    """The model, float32, in eval mode; equal arguments give equal weights. `attention` is `sdpa` or `eager`."""
    kind, settings = _SHAPES[name]
    config = getattr(transformers, kind)(**settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = AutoModelForCausalLM.from_config(config, **({"attn_implementation": attention} if attention else {}))
    return model.eval()


def make_tiny_shape(name: str, directory: Path, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Path:
    """The model and the tokenizer of `tiny_model` as a Hugging Face folder."""
    tiny_shape(name, seed=seed).to(dtype).save_pretrained(directory)
    make_tiny_tokenizer().save_pretrained(directory)
    return directory


def make_tiny_adapter(
    base: Path, out: Path, *, seed: int, targets: tuple[str, ...] = ("q_proj", "v_proj", "down_proj"), rank: int = 4
) -> Path:
    """A LoRA folder with random A and B: it changes everything, and every seed otherwise."""
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(
            r=rank, lora_alpha=rank, target_modules=list(targets), init_lora_weights=False, task_type="CAUSAL_LM", revision="1" * 40
        )
        get_peft_model(model, config).save_pretrained(str(out))
    return out
