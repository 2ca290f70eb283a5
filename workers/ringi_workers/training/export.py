"""An adapter as the files that are sealed: `adapter_model.safetensors`, and `adapter_config.json` in one canonical form, written last.

peft writes sets in the order of the hash seed and its own version into the config, so equal adapters would get different digests
(governance H1). Here the config is RFC 8785 JSON of the keys that say something, its set-like lists sorted.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file

from ringi.adapters.config_gate import INERT, KNOWN_KEYS, check_config
from ringi.kit.digests import canonical_json

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
# Keys that must keep their default say nothing, nor does the version of the library that wrote the file; `bias` stays for old readers.
CONFIG_KEYS = KNOWN_KEYS - INERT.keys() - {"peft_version", "qalora_group_size"} | {"bias"}
_SETS = ("target_modules", "exclude_modules", "modules_to_save")


def canonical_config(config: Mapping[str, Any], *, base_name: str, base_commit: str) -> bytes:
    """The one form of a PEFT LoRA config on the base `base_name` at `base_commit` (40 hex): equal settings give equal bytes.

    Raises a refusal of `ringi.adapters.config_gate` when the config would not pass it: what is left out could otherwise change the meaning.
    """
    plain = {key: sorted(value) if isinstance(value, set | frozenset) else getattr(value, "value", value) for key, value in config.items()}
    plain |= {"base_model_name_or_path": base_name, "revision": base_commit}
    check_config(canonical_json(plain), expected_base=base_name, expected_commit=base_commit)
    # Optional keys that are absent, null or empty mean the same, so they are written as absent.
    kept = {key: plain[key] for key in CONFIG_KEYS & plain.keys() if plain[key] not in (None, [], {})}
    for key in _SETS:
        if isinstance(kept.get(key), list):
            kept[key] = sorted(set(kept[key]))
    return canonical_json(kept | {"bias": "none", "inference_mode": True})


def write_config(document: bytes, directory: Path) -> None:
    """Put the config in place in one step: a folder with a config is a whole adapter."""
    partial = directory / f".{CONFIG_FILE}.partial"
    with partial.open("wb") as stream:
        stream.write(document)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(directory / CONFIG_FILE)


def export_adapter(model: PeftModel, directory: Path, *, base_name: str, base_commit: str) -> Path:
    """Write the default adapter of `model` (its tensors in their own dtype) as a PEFT folder with deterministic bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    config = canonical_config(model.peft_config["default"].to_dict(), base_name=base_name, base_commit=base_commit)
    # "auto" would ask the hub for the base's vocabulary; the embeddings are never trained here.
    state: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    # One metadata key only: the library writes several in no fixed order.
    save_file(tensors, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    write_config(config, directory)
    return directory
