"""Adapters that load without a word of complaint and change nothing: what the effect proof and the checks must refuse."""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

_WEIGHTS = "adapter_model.safetensors"
# The prefix under which peft saves every tensor of an adapted model.
_PREFIX = "base_model.model."
_WRONG_PREFIX = "base_model.model.language_model."


def zero_b_adapter(adapter: Path, out: Path) -> Path:
    """A copy of the PEFT folder whose B matrices are zero, so that B A, the change of every weight, is zero (Hu et al. 2021, LoRA)."""
    tensors = load_file(adapter / _WEIGHTS)
    return _rewritten(adapter, out, {name: torch.zeros_like(t) if ".lora_B." in name else t for name, t in tensors.items()})


def wrong_prefix_adapter(adapter: Path, out: Path) -> Path:
    """A copy of the PEFT folder whose tensors are named as if the model sat inside a larger one: no name meets a module of the base."""
    tensors = load_file(adapter / _WEIGHTS)
    return _rewritten(adapter, out, {_WRONG_PREFIX + name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()})


def _rewritten(adapter: Path, out: Path, tensors: dict[str, torch.Tensor]) -> Path:
    out.mkdir(parents=True)
    for path in sorted(adapter.iterdir()):
        if path.is_file() and path.name != _WEIGHTS:
            shutil.copyfile(path, out / path.name)
    save_file(tensors, out / _WEIGHTS, metadata={"format": "pt"})
    return out
