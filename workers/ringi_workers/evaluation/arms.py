"""Load the two arms of an evaluation; arms over the same base share its weights, and the adapter is switched on and off."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftConfig, PeftModel

from ringi_workers.adapters.attach import base_dtype, load_base, load_tokenizer


class ArmFolders(NamedTuple):
    """A base model folder and a PEFT folder over it, or None for the bare base."""

    base: Path
    adapter: Path | None


class ArmPair(NamedTuple):
    """Both loaded arms, in eval mode."""

    candidate: "LoadedArm"
    baseline: "LoadedArm"


@dataclass(frozen=True)
class LoadedArm:
    """A model that may be shared with the other arm, and the name of this arm's adapter in it (None: the bare base)."""

    model: Any
    tokenizer: Any
    adapter: str | None

    @contextlib.contextmanager
    def active(self) -> Iterator[Any]:
        """The model with exactly this arm's adapter in effect."""
        if not isinstance(self.model, PeftModel):
            yield self.model
        elif self.adapter is None:
            with self.model.disable_adapter():
                yield self.model
        else:
            self.model.set_adapter(self.adapter)
            yield self.model

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def stop_tokens(self) -> frozenset[int]:
        """Token ids that end an answer: those of the generation config and the tokenizer's end of sequence."""
        named = self.model.generation_config.eos_token_id
        ids = named if isinstance(named, list) else [named]
        return frozenset(token for token in (*ids, self.tokenizer.eos_token_id) if token is not None)


def load_arms(candidate: ArmFolders, baseline: ArmFolders, *, dtype: torch.dtype | None = None) -> ArmPair:
    """Load both arms in one dtype onto the GPU if there is one; a base that both arms name is loaded once, unless their adapters are of different methods.

    The dtype is the one that training would use (`attach.base_dtype`), and float32 where two bases disagree.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtypes = {base_dtype(arm.base, device) for arm in (candidate, baseline)}
    chosen = dtype or (dtypes.pop() if len(dtypes) == 1 else torch.float32)
    names = ("candidate" if candidate.adapter else None, "baseline" if baseline.adapter else None)
    if candidate.base.resolve() == baseline.base.resolve() and _one_method(candidate.adapter, baseline.adapter):
        model = load_base(candidate.base, dtype=chosen, device=device)
        shared = _with_adapters(model, {"candidate": candidate.adapter, "baseline": baseline.adapter})
        tokenizer = load_tokenizer(candidate.base)
        return ArmPair(LoadedArm(shared, tokenizer, names[0]), LoadedArm(shared, tokenizer, names[1]))
    first, second = (
        _with_adapters(load_base(arm.base, dtype=chosen, device=device), {side: arm.adapter})
        for side, arm in (("candidate", candidate), ("baseline", baseline))
    )
    return ArmPair(LoadedArm(first, load_tokenizer(candidate.base), names[0]), LoadedArm(second, load_tokenizer(baseline.base), names[1]))


def _one_method(*adapters: Path | None) -> bool:
    """Whether these can stand on one base: peft has one method on a base at a time."""
    return len({str(PeftConfig.from_pretrained(str(folder)).peft_type) for folder in adapters if folder is not None}) <= 1


def _with_adapters(model: Any, adapters: dict[str, Path | None]) -> Any:
    for name, folder in adapters.items():
        if folder is None:
            continue
        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), adapter_name=name, use_safetensors=True, local_files_only=True)
        else:
            model = PeftModel.from_pretrained(model, str(folder), adapter_name=name, use_safetensors=True, local_files_only=True)
    return model.eval()
