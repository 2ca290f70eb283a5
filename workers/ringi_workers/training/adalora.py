"""What AdaLoRA does at every step besides the gradient: keep its vectors apart, and move rank to the modules where it helps most.

Zhang et al. 2023, arXiv:2303.10512; the allocation is peft's. It hangs on the optimiser, whose state a checkpoint holds anyway.
"""

from typing import Any

import torch

_KEY = "adalora"


class Allocation:
    """Follows the steps of `optimizer` over `model` (peft's AdaLoraModel); goes on where a loaded optimiser state left off."""

    def __init__(self, model: Any, optimizer: torch.optim.Optimizer) -> None:
        self._model, self._step = model, 0
        self._config = model.peft_config[model.trainable_adapter_name]
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)
        optimizer.register_state_dict_post_hook(self._save)
        optimizer.register_load_state_dict_pre_hook(self._load)

    def _before(self, _optimizer: Any, _args: Any, _kwargs: Any) -> None:
        """The gradient of the penalty ||P'P - I|| + ||QQ' - I|| (equation 4 of the paper), as peft weighs it.

        peft adds it to a loss that the model computes, and here the loss is computed elsewhere. It comes after the clipping, like weight decay.
        """
        norms = []
        for name, matrix in self._model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                square = matrix @ matrix.T if ".lora_A." in name else matrix.T @ matrix
                norms.append(torch.linalg.matrix_norm(square - torch.eye(len(square), device=square.device, dtype=square.dtype)))
        penalty = self._config.orth_reg_weight * torch.stack(norms).mean()
        penalty.backward()

    def _after(self, _optimizer: Any, _args: Any, _kwargs: Any) -> None:
        """Gradients are still in place: they tell how much each part matters."""
        self._step += 1
        self._model.update_and_allocate(self._step)

    def _save(self, _optimizer: Any, state: dict[str, Any]) -> dict[str, Any]:
        allocator = self._model.rankallocator
        own = {
            "step": self._step, "rank_pattern": self._config.rank_pattern,
            "importance": dict(allocator.exp_avg_ipt), "uncertainty": dict(allocator.exp_avg_unc),
        }  # fmt: skip
        return state | {_KEY: own}

    def _load(self, _optimizer: Any, state: dict[str, Any]) -> None:
        own, allocator = state[_KEY], self._model.rankallocator
        device = next(self._model.parameters()).device
        self._step, self._config.rank_pattern = own["step"], own["rank_pattern"]
        allocator.exp_avg_ipt = {name: tensor.to(device) for name, tensor in own["importance"].items()}
        allocator.exp_avg_unc = {name: tensor.to(device) for name, tensor in own["uncertainty"].items()}
        # Taken anew at every step; peft only asks whether a name is in it.
        allocator.ipt = dict(allocator.exp_avg_ipt)
