"""A run that begins from an earlier version of its adapter: the version's weights learn on, or stay as they are under a new LoRA."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftConfig, PeftModel
from peft.tuners.lora import LoraLayer

from ringi.jobs.contracts.training import LoraSpec
from ringi.kit.errors import RingiError
from ringi_workers.adapters.attach import adapter_facts
from ringi_workers.training.methods import adapted, ready
from ringi_workers.training.plain_lora import ORIGIN, TRAINED


class Earlier(NamedTuple):
    """A PEFT folder, and whether it stays frozen."""

    folder: Path
    stacked: bool


class EarlierDoesNotFit(RingiError):
    """The earlier version's tensors and the base's modules do not meet; peft would begin some of them anew and say nothing."""

    code, status = "training_earlier_does_not_fit", 400

    def __init__(self, strange: int, missing: int) -> None:
        super().__init__(
            f"The earlier version does not fit this base: {strange} of its tensors belong to no module, {missing} that it promises are missing.",
            next_step="Train on the base revision that the version was trained on.",
            details={"strange": strange, "missing": missing},
        )


def begun(spec: LoraSpec, model: Any, earlier: Earlier, *, base: Path) -> PeftModel:
    """The base in train mode with the earlier adapter, whose outputs it has; raises EarlierDoesNotFit, and what `adapter_facts` and `adapted` raise."""
    facts = adapter_facts(earlier.folder, base=base)
    if facts.unmatched_tensors or facts.unfilled_tensors:
        raise EarlierDoesNotFit(len(facts.unmatched_tensors), len(facts.unfilled_tensors))
    return _stacked(spec, model, earlier.folder) if earlier.stacked else _learning_on(spec, model, earlier.folder)


def _learning_on(spec: LoraSpec, model: Any, folder: Path) -> PeftModel:
    config: Any = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = False
    for field in ("lora_dropout", "vera_dropout"):
        if hasattr(config, field):
            setattr(config, field, spec.dropout)
    return ready(
        spec,
        PeftModel.from_pretrained(
            model, str(folder), adapter_name=TRAINED, is_trainable=True, config=config, use_safetensors=True, local_files_only=True
        ),
    )


def _stacked(spec: LoraSpec, model: Any, folder: Path) -> PeftModel:
    trained = adapted(spec, model, steps=1)
    trained.load_adapter(str(folder), adapter_name=ORIGIN, use_safetensors=True, local_files_only=True)
    tuner: Any = trained.base_model
    tuner.set_adapter([TRAINED, ORIGIN])
    layers: list[Any] = [module for module in trained.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        if ORIGIN in layer.lora_A:
            layer.lora_A[ORIGIN].requires_grad_(False)
            layer.lora_B[ORIGIN].requires_grad_(False)
            # What stays as it is has nothing to be robust against.
            layer.lora_dropout[ORIGIN] = torch.nn.Identity()
    return trained.train()
