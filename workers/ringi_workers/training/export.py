"""An adapter as the files that are sealed: `adapter_model.safetensors`, and `adapter_config.json` in one canonical form, written last.

peft writes sets in the order of the hash seed and its own version into the config, so equal adapters would get different digests
(governance H1). Here the config is RFC 8785 JSON of the keys that say something, its set-like lists sorted.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel
from safetensors.torch import save_file

from ringi.adapters.config_gate import check_config
from ringi.adapters.config_keys import KEYS
from ringi.adapters.labels import LABELS, ClassLabels
from ringi.kit.digests import canonical_json
from ringi_workers.training.plain_lora import sealable

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_SETS = ("target_modules", "exclude_modules", "modules_to_save", "feedforward_modules")


def canonical_config(config: Mapping[str, Any], *, base_name: str, base_commit: str) -> bytes:
    """The one form of a PEFT config on the base `base_name` at `base_commit` (40 hex): equal settings give equal bytes.

    Raises a refusal of `ringi.adapters.config_gate` when the config would not pass it: what is left out could otherwise change the meaning.
    """
    plain = {key: sorted(value) if isinstance(value, set | frozenset) else getattr(value, "value", value) for key, value in config.items()}
    plain |= {"base_model_name_or_path": base_name, "revision": base_commit}
    # peft adds the names of heads to what a config says, also where it has them.
    plain |= {key: sorted(set(plain[key])) for key in _SETS if isinstance(plain.get(key), list)}
    keys = KEYS[check_config(canonical_json(plain), expected_base=base_name, expected_commit=base_commit).peft_type]
    # Optional keys that are absent, null or empty mean the same, so they are written as absent. One is not: without it peft takes its own list.
    meant = {key for key, value in plain.items() if value not in (None, [], {}) or (key == "feedforward_modules" and value == [])}
    kept = {key: plain[key] for key in keys.written & meant}
    # `bias` stays for old readers.
    return canonical_json(kept | ({"bias": "none"} if "bias" in keys.inert else {}) | {"inference_mode": True})


def write_config(document: bytes, directory: Path) -> None:
    """Put the config in place in one step: a folder with a config is a whole adapter."""
    partial = directory / f".{CONFIG_FILE}.partial"
    with partial.open("wb") as stream:
        stream.write(document)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(directory / CONFIG_FILE)


def export_adapter(model: PeftModel, directory: Path, *, base_name: str, base_commit: str, labels: ClassLabels | None = None) -> Path:
    """Write what is sealed of `model` (plain_lora.py) as a PEFT folder with deterministic bytes, its tensors in their own dtype; and a classifier's labels."""
    directory.mkdir(parents=True, exist_ok=True)
    found = sealable(model)
    config = canonical_config(found.config, base_name=base_name, base_commit=base_commit)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in found.tensors.items()}
    # One metadata key only: the library writes several in no fixed order.
    save_file(tensors, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    if labels is not None:
        (directory / LABELS).write_bytes(labels.canonical)
    write_config(config, directory)
    return directory
