"""The weights of a whole model as a folder that transformers loads by itself, and what tells it from an adapter. Written by training/full.py.

The file `full_weights.json` says what the folder is. No adapter has it: of one that comes from elsewhere two files alone are sealed (inspect.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from ringi.adapters.weights import BASE_LIMITS, read_header
from ringi.jobs.contracts.adapters import FULL_WEIGHTS, AdapterFacts
from ringi.kit.errors import RingiError
from ringi_workers.adapters.attach import non_finite
from ringi_workers.failures import ran_out_of_memory

MARK = "full_weights.json"


class FullWeightsUnreadable(RingiError):
    """The files are not the weights of the model that their config.json describes; transformers would begin the rest anew."""

    code, status = "full_weights_unreadable", 400

    def __init__(self, reason: str) -> None:
        super().__init__(f"The weights cannot be read as a model: {reason}.", next_step="Train the version again.")


class Loaded(NamedTuple):
    """A model in eval mode; tensors of its files that it has no place for, and places that no tensor of them fills."""

    model: Any
    unmatched: tuple[str, ...]
    unfilled: tuple[str, ...]


def is_full_weights(folder: Path) -> bool:
    """Whether a sealed folder is a model that stands alone."""
    return (folder / MARK).is_file()


def read_full_weights(folder: Path, *, dtype: torch.dtype, device: torch.device) -> Loaded:
    """The model of the folder, from safetensors only, and how its tensors met it. Raises FullWeightsUnreadable."""
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        if ran_out_of_memory(error):
            raise
        raise FullWeightsUnreadable(str(error).partition("\n")[0].rstrip(".")) from error
    return Loaded(model.to(device).eval(), tuple(sorted(found["unexpected_keys"])), tuple(sorted(found["missing_keys"])))


def load_full_weights(folder: Path, *, dtype: torch.dtype, device: torch.device) -> Any:
    """The same model, whole. Raises FullWeightsUnreadable, also where tensors and places do not meet one to one."""
    loaded = read_full_weights(folder, dtype=dtype, device=device)
    if loaded.unmatched or loaded.unfilled:
        raise FullWeightsUnreadable(
            f"{len(loaded.unmatched)} of its tensors have no place, and {len(loaded.unfilled)} places have no tensor"
        )
    return loaded.model


def full_weights_facts(folder: Path, *, unmatched: Sequence[str], unfilled: Sequence[str]) -> AdapterFacts:
    """What the files hold, beside how they met the model (`read_full_weights`). Raises the refusals of `weights.read_header`."""
    files = sorted(folder.glob("*.safetensors"))
    by_file = {file: [one.fact for one in read_header(file, file_size=file.stat().st_size, limits=BASE_LIMITS).tensors] for file in files}
    tensors = tuple(sorted((one for some in by_file.values() for one in some), key=lambda one: one.name))
    return AdapterFacts(
        peft_type=FULL_WEIGHTS,
        task_type="CAUSAL_LM",
        rank=None,
        alpha=None,
        use_rslora=False,
        use_dora=False,
        target_modules=(),
        adapted_modules=(),
        unmatched_tensors=tuple(unmatched),
        unfilled_tensors=tuple(unfilled),
        replaced_tensors=tuple(one.name for one in tensors),
        non_finite_tensors=tuple(sorted(name for file, some in by_file.items() for name in non_finite(file, some))),
        tensors=tensors,
        parameters=sum(torch.Size(one.shape).numel() for one in tensors),
    )
