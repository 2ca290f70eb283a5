"""Two later revisions of a base model, made when the demo runs: one with changed weights, one with equal values in other files.

The comparison of revisions sees the folders only, never how they were made.
"""

import json
import random
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

_INDEX = "model.safetensors.index.json"
# A thousandth would drown in the rounding of bf16, whose relative step is 2^-8 (8 significant bits).
_RELATIVE_NOISE = 0.02
_CHANGED_TENSORS = 3


def perturb(base: Path, out: Path, *, seed: int) -> tuple[str, ...]:
    """Copy `base` to `out` with three tensors changed, each element w by w * (1 + 0.02 z), z ~ N(0, 1), rounded to its own dtype.

    Which tensors and which noise follow from `seed`. Returns the changed tensors' names, sorted; `out` must not exist.
    """
    draw = random.Random(seed)
    noise = torch.Generator().manual_seed(draw.getrandbits(63))
    files = sorted(base.glob("*.safetensors"))
    candidates = sorted(name for path in files for name, tensor in load_file(path).items() if tensor.ndim > 1 and "embed" not in name)
    chosen = sorted(draw.sample(candidates, k=min(_CHANGED_TENSORS, len(candidates))))
    _copy_all_but(base, out, skip=())
    for path in files:
        tensors = load_file(path)
        for name in (name for name in chosen if name in tensors):
            old = tensors[name]
            z = torch.randn(old.shape, generator=noise, dtype=torch.float32)
            tensors[name] = (old.float() * (1 + _RELATIVE_NOISE * z)).to(old.dtype)
        save_file(tensors, out / path.name, metadata={"format": "pt"})
    return tuple(chosen)


def reshard(base: Path, out: Path, *, shards: int = 3) -> Path:
    """Copy `base` to `out` with the same tensors in `shards` files of about equal size and an index; returns `out`, which must not exist.

    The layout is the sharded checkpoint of transformers: `model-00001-of-00003.safetensors` and `model.safetensors.index.json`.
    """
    files = sorted(base.glob("*.safetensors"))
    tensors = {name: tensor for path in files for name, tensor in load_file(path).items()}
    total = sum(tensor.nbytes for tensor in tensors.values())
    groups: list[dict[str, torch.Tensor]] = [{} for _ in range(shards)]
    seen = 0
    for name in sorted(tensors):
        groups[min(shards - 1, seen * shards // total)][name] = tensors[name]
        seen += tensors[name].nbytes
    _copy_all_but(base, out, skip=(*(path.name for path in files), _INDEX))
    weight_map: dict[str, str] = {}
    for number, group in enumerate(groups, start=1):
        file = f"model-{number:05d}-of-{shards:05d}.safetensors"
        save_file(group, out / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(group, file)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (out / _INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return out


def _copy_all_but(base: Path, out: Path, *, skip: tuple[str, ...]) -> None:
    out.mkdir(parents=True)
    for path in sorted(base.iterdir()):
        if path.is_file() and path.name not in skip:
            shutil.copyfile(path, out / path.name)
