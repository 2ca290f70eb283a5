"""Later revisions of a base model: slightly other weights, or the same weights in other files."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"


def _copy_without_weights(directory: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(directory.iterdir()):
        if file.suffix != ".safetensors" and file.name != _INDEX:
            shutil.copyfile(file, out / file.name)


def _weights(directory: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(directory.glob("model*.safetensors")):
        tensors.update(load_file(file))
    return tensors


def perturb(directory: Path, out: Path, scale: float, *, seed: int = 0) -> Path:
    """Add Gaussian noise to every matrix: a relative change of about `scale` in Frobenius norm; shapes and dtypes stay."""
    _copy_without_weights(directory, out)
    draw = torch.Generator().manual_seed(seed)
    changed = {}
    for name, tensor in sorted(_weights(directory).items()):
        wide = tensor.float()
        if wide.ndim > 1:
            noise = torch.randn(wide.shape, generator=draw)
            wide = wide + scale * wide.norm() / noise.norm() * noise
        changed[name] = wide.to(tensor.dtype)
    save_file(changed, out / _WEIGHTS, metadata={"format": "pt"})
    return out


def reshard(directory: Path, out: Path, shards: int) -> Path:
    """Write equal values into `shards` files and an index; no weight file keeps its bytes."""
    _copy_without_weights(directory, out)
    tensors = _weights(directory)
    names = sorted(tensors)
    shards = min(shards, len(names))
    weight_map: dict[str, str] = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = names[number::shards]
        save_file({name: tensors[name] for name in part}, out / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (out / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return out
