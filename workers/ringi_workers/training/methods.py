"""From a spec to a base with trainable matrices or vectors, and its optimiser. The methods are peft's; after targets.py, before loop.py.

LoRA (Hu et al. 2021, arXiv:2106.09685), rsLoRA (Kalajdzievski 2023, arXiv:2312.03732), DoRA (Liu et al. 2024, arXiv:2402.09353), PiSSA (Meng et al. 2024,
arXiv:2404.02948), OLoRA (Büyükakyüz 2024, arXiv:2406.01775), LoRA+ (Hayou et al. 2024, arXiv:2402.12354), AdaLoRA (Zhang et al. 2023, arXiv:2303.10512), IA3 (Liu et al.
2022, arXiv:2205.05638), VeRA (Kopiczko et al. 2023, arXiv:2310.11454).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from peft import AdaLoraConfig, IA3Config, LoraConfig, PeftConfig, PeftModel, VeraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from peft.tuners.lora import LoraLayer

from ringi.adapters.labels import CLASSIFIES
from ringi.jobs.contracts.methods import Init, Method, TrainingTask, first_rank
from ringi.jobs.contracts.training import LoraSpec
from ringi_workers.adapters.heads import modules_to_save, wrapped_heads
from ringi_workers.training.adalora import Allocation
from ringi_workers.training.full import weight_groups
from ringi_workers.training.plain_lora import ORIGIN, TRAINED
from ringi_workers.training.targets import UnknownTargetModules, feedforward_modules, linear_modules, target_modules

# From here on the whole singular value decomposition of a matrix takes minutes; PiSSA's own fast one comes near it (its section 4, 16 iterations).
_LARGE = 1024


def adapted(spec: LoraSpec, model: Any, *, steps: int, made: Sequence[str] = ()) -> PeftModel:
    """The base with what the spec trains, in train mode, for a run of so many optimiser steps; its outputs are still the base's.

    `made`: of a classifier, names of the weights that the base has not; they are trained. Raises UnknownTargetModules and NoSuggestedTargets.
    """
    targets = target_modules(model, spec.target_modules, spec.method)
    _require_patterns(model, spec, targets)
    config: Any = _config(spec, model, targets, steps)
    if spec.task is TrainingTask.SEQUENCE_CLASSIFICATION:
        config.task_type, config.modules_to_save = CLASSIFIES, modules_to_save(made)
    # The adapter stays in float32 over a bf16 base: small updates would be rounded away.
    trained: PeftModel = get_peft_model(model, config, autocast_adapter_dtype=True)
    if spec.init is not Init.ZERO:
        _begin_from_base(trained, spec.init)
    return ready(spec, trained)


def ready(spec: LoraSpec, trained: PeftModel) -> PeftModel:
    """In train mode, with activations computed twice where the spec wants it, and a head in float32 as the rest of what is trained."""
    for head in wrapped_heads(trained):
        head.modules_to_save.float()
    if spec.gradient_checkpointing:
        # Not reentrant: that kind needs inputs with gradients, which a frozen base's embeddings have not.
        trained.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return trained.train()


def optimizer_of(spec: LoraSpec, model: PeftModel) -> torch.optim.Optimizer:
    """AdamW over what is trained, with what the method does at every step; its `state_dict` holds what a resumed run needs of that."""
    optimizer: torch.optim.Optimizer
    if spec.lora_plus_ratio is None:
        trainable: Any = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if spec.method is Method.FULL:
            trainable = weight_groups(model, spec.weight_decay)
        optimizer = torch.optim.AdamW(trainable, lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True)
    else:
        optimizer = create_loraplus_optimizer(
            model, torch.optim.AdamW, lr=spec.learning_rate, loraplus_lr_ratio=spec.lora_plus_ratio, loraplus_weight_decay=spec.weight_decay,
            fused=True,
        )  # fmt: skip
        for group in optimizer.param_groups:
            group["of_the_rate"] = group["lr"] / spec.learning_rate
        # The loop gives every group the rate of the step.
        optimizer.register_step_pre_hook(_share_rate)
    if spec.method is Method.ADALORA:
        Allocation(model.base_model, optimizer)
    return optimizer


def _share_rate(optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
    for group in optimizer.param_groups:
        group["lr"] *= group["of_the_rate"]


def _config(spec: LoraSpec, model: Any, targets: list[str], steps: int) -> PeftConfig:
    match spec.method:
        case Method.IA3:
            return IA3Config(task_type="CAUSAL_LM", target_modules=targets, feedforward_modules=feedforward_modules(model, targets))
        case Method.VERA:
            # One key for all: adapters with another could not stand on one base together.
            return VeraConfig(
                task_type="CAUSAL_LM", r=spec.adapter_rank, vera_dropout=spec.dropout, target_modules=targets, projection_prng_key=0
            )
        case Method.ADALORA:
            # Shares of the run as in the paper's appendix: a tenth to warm up, and the last three tenths with ranks that stay.
            return AdaLoraConfig(
                task_type="CAUSAL_LM", target_modules=targets, lora_dropout=spec.dropout, lora_alpha=spec.alpha,  # type: ignore[arg-type]
                init_r=first_rank(spec.adapter_rank), target_r=spec.adapter_rank, tinit=steps // 10, tfinal=3 * steps // 10, deltaT=max(1, steps // 50),
                total_step=steps,
            )  # fmt: skip
        case Method.LORA | Method.DORA:
            return LoraConfig(
                task_type="CAUSAL_LM", r=spec.adapter_rank, lora_dropout=spec.dropout, target_modules=targets, use_rslora=spec.use_rslora,
                # The annotation says int, the arithmetic takes any number.
                lora_alpha=spec.alpha,  # type: ignore[arg-type]
                use_dora=spec.method is Method.DORA, rank_pattern=dict(spec.rank_pattern), alpha_pattern=dict(spec.alpha_pattern),
            )  # fmt: skip
        case Method.FULL:
            raise ValueError("full fine-tuning has no adapter to configure")


def _require_patterns(model: Any, spec: LoraSpec, targets: Sequence[str]) -> None:
    """Every module with a rank or alpha of its own is adapted: peft says nothing of one that is not."""
    adapted_modules = [name for name in linear_modules(model) if any(name == one or name.endswith(f".{one}") for one in targets)]
    missing = {one for one in spec.patterns if not any(name == one or name.endswith(f".{one}") for name in adapted_modules)}
    if missing:
        raise UnknownTargetModules(missing, {name.rsplit(".", 1)[-1] for name in adapted_modules})


def _begin_from_base(model: PeftModel, init: Init) -> None:
    """A and B from the base's weights, and a frozen second adapter that takes the same away again: the base itself is not touched.

    peft subtracts B A from the base's weights instead, and whoever loads such an adapter on the base as it is gets other outputs, in silence.
    """
    config: Any = model.peft_config[TRAINED]
    model.add_adapter(ORIGIN, replace(config, lora_dropout=0.0))
    tuner: Any = model.base_model
    tuner.set_adapter([TRAINED, ORIGIN])
    layers: list[Any] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    for layer in layers:
        _factorise(layer, init)
        layer.lora_A[ORIGIN].weight.data = layer.lora_A[TRAINED].weight.data.clone()
        layer.lora_B[ORIGIN].weight.data = -layer.lora_B[TRAINED].weight.data
        layer.lora_A[ORIGIN].requires_grad_(False)
        layer.lora_B[ORIGIN].requires_grad_(False)


def _factorise(module: Any, init: Init) -> None:
    """Let peft set A and B from the layer's weight, and put the weight back that it changes on the way."""
    base = module.get_base_layer()
    weight = base.weight.data
    # peft's QR takes the weight as it is stored, which in GPT-2's Conv1D is transposed.
    base.weight.data = weight.T.contiguous() if init is Init.OLORA and module.fan_in_fan_out else weight.clone()
    if init is Init.OLORA:
        module.olora_init(TRAINED)
    else:
        module.pissa_init(TRAINED, "pissa_niter_16" if min(weight.shape) > _LARGE else "pissa")
    base.weight.data = weight
