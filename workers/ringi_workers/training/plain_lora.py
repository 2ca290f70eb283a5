"""What is sealed of a trained model: its adapter as it is, or, where it stands for more than it says, as a plain LoRA on the unchanged base.

What began from the base's own weights (PiSSA, OLoRA) is B A - B0 A0, and what stands on an earlier version is the sum of both: two products are one
product of the matrices side by side. AdaLoRA's B diag(E) A is a LoRA with a rank of its own in every module. So whatever loads LoRA loads these.
"""

from collections import Counter
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, PeftModel, PeftType, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer

# What peft calls an adapter that is given no name; and the frozen one beside it.
TRAINED, ORIGIN = "default", "origin"


class Sealable(NamedTuple):
    """A peft config as a dictionary, and tensors by the names of an adapter file."""

    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]


def sealable(model: PeftModel) -> Sealable:
    """The trained adapter, such that peft, loading it on the base as it is, computes what `model` computes (up to rounding)."""
    config: Any = model.peft_config[TRAINED]
    inner: Any = model.get_base_model()
    # "auto" would ask the hub for the base's vocabulary; the embeddings are never trained here.
    tensors: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    if config.peft_type != PeftType.ADALORA and ORIGIN not in model.peft_config:
        return Sealable(config.to_dict(), tensors)
    products = {name: _product(module) for name, module in inner.named_modules() if isinstance(module, LoraLayer)}
    ranks = {name: len(a) for name, (a, _) in products.items()}
    usual = Counter(ranks.values()).most_common(1)[0][0]
    own = {name: rank for name, rank in ranks.items() if rank != usual}
    beside: Any = model.peft_config.get(ORIGIN, config)
    plain = LoraConfig(
        task_type=config.task_type, target_modules=sorted({*config.target_modules, *beside.target_modules}), lora_dropout=config.lora_dropout, fan_in_fan_out=config.fan_in_fan_out,
        modules_to_save=config.modules_to_save,
        # The scale is within B: an alpha that equals the rank is a scale of one, in every module.
        r=usual, lora_alpha=usual, rank_pattern=own, alpha_pattern=dict(own),
    )  # fmt: skip
    kept = {name: tensor for name, tensor in tensors.items() if ".lora_" not in name}
    for name, (a, b) in products.items():
        kept[f"base_model.model.{name}.lora_A.weight"], kept[f"base_model.model.{name}.lora_B.weight"] = a, b
    return Sealable(plain.to_dict(), kept)  # type: ignore[no-untyped-call]


def _product(module: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """A of (rank, inputs) and B of (outputs, rank) whose product is all that the module's adapters add to its weight."""
    if hasattr(module, "lora_E"):
        return _without_e(module)
    # Either may have modules that the other has not.
    names = [name for name in (TRAINED, ORIGIN) if name in module.lora_A]
    a = [module.lora_A[name].weight.detach() for name in names]
    b = [module.lora_B[name].weight.detach() * module.scaling[name] for name in names]
    return torch.cat(a), torch.cat(b, dim=1)


def _without_e(module: Any) -> tuple[torch.Tensor, torch.Tensor]:
    a, e, b = (getattr(module, name)[TRAINED].detach() for name in ("lora_A", "lora_E", "lora_B"))
    # AdaLoRA takes rank away by a zero in E. A module that lost all of it keeps one row of zeros, because peft knows no rank of zero.
    kept = e.flatten() != 0
    kept[0] |= not bool(kept.any())
    # The small number is peft's own.
    scale = module.scaling[TRAINED] / (module.ranknum[TRAINED].detach() + 1e-5)
    return a[kept] * e[kept], b[:, kept] * scale
