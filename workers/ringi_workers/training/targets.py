"""Which modules of a loaded base are adapted: those that are named, all linear ones, or what peft recommends for the base's family."""

from collections.abc import Iterable
from typing import Any

import torch
from peft.utils.constants import (
    TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
    TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
    TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
)
from transformers.pytorch_utils import Conv1D

from ringi.jobs.contracts.methods import ALL_LINEAR, SUGGESTED, Method
from ringi.kit.errors import RingiError
from ringi_workers.adapters.heads import in_head


class UnknownTargetModules(RingiError):
    """The base has no linear module of that name."""

    code, status = "training_unknown_target_modules", 400

    def __init__(self, missing: Iterable[str], available: Iterable[str]) -> None:
        names, choices = sorted(missing), sorted(available)
        super().__init__(
            f"The base has no linear module named {', '.join(repr(name) for name in names)}.",
            next_step=f"Choose target modules from: {', '.join(choices)}.",
            details={"missing": names, "available": choices},
        )


class NoSuggestedTargets(RingiError):
    """peft recommends no modules for this family of bases."""

    code, status = "training_no_suggested_targets", 400

    def __init__(self, family: str, method: Method, available: Iterable[str]) -> None:
        choices = sorted(available)
        super().__init__(
            f"No target modules are recommended for {method} on a base of the family '{family}'.",
            next_step=f"Use all-linear, or choose from: {', '.join(choices)}.",
            details={"family": family, "available": choices},
        )


def linear_modules(model: Any) -> list[str]:
    """Full names of the linear modules (Conv1D of GPT-2 too) that are not the output head, nor a classifier's."""
    head = model.get_output_embeddings()
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D) and module is not head]
    return [name for name in linear if not in_head(name)]


def target_modules(model: Any, wanted: Iterable[str], method: Method) -> list[str]:
    """Names as peft takes them, sorted; each is, or ends, the name of a linear module. Raises UnknownTargetModules, NoSuggestedTargets."""
    names, linear = set(wanted), linear_modules(model)
    available = {name.rsplit(".", 1)[-1] for name in linear}
    if ALL_LINEAR in names:
        return sorted(available)
    if SUGGESTED in names:
        names = _suggested(model, method, available)
    missing = {name for name in names if not any(one == name or one.endswith(f".{name}") for one in linear)}
    if missing:
        raise UnknownTargetModules(missing, available)
    return sorted(names)


def feedforward_modules(model: Any, targets: Iterable[str]) -> list[str]:
    """Those of the targets whose input IA3 scales, as in Liu et al. 2022 (arXiv:2205.05638): the way out of the feedforward part."""
    known = TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.get(model.config.model_type, [])
    return sorted(set(known) & set(targets))


def _suggested(model: Any, method: Method, available: set[str]) -> set[str]:
    table = (
        TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING if method is Method.IA3 else TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    )
    family = model.config.model_type
    named = table.get(family)
    # For some families peft gives a pattern to be run, and no names.
    if not isinstance(named, list):
        raise NoSuggestedTargets(str(family), method, available)
    return set(named)
