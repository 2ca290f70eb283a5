"""The loss of the label tokens without all their logits in memory at once: by liger's fused kernel on CUDA, else in chunks.

Over a vocabulary of 128,000 words the float32 logits of 8,192 tokens are 4 GB, and their gradient as much again. In chunks the logits of a few
tokens stand at a time and are computed once more on the way back (Chen et al. 2016, arXiv:1604.06174). Liger: Hsu et al. 2024, arXiv:2410.10989.
Where a pass fits one chunk, nothing is done otherwise than the model does it. Before packing.py.
"""

import importlib
import importlib.util
from functools import cache
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

# Share of a GPU's memory that logits may have; on a CPU so many bytes. A constant of the device, so that a resumed run computes as before.
_SHARE_OF_GPU = 1 / 16
_CPU_BYTES = 2 * 2**30
_FLOAT_BYTES = 4
_LIGER = "liger_kernel"


class Head(NamedTuple):
    """How the last layer is computed: the logits of at most `at_once` labels in memory, or by liger's kernel, which holds none of them."""

    at_once: int
    fused: bool


def room_for_logits(device: torch.device) -> int:
    """Bytes of float32 logits that may stand in the memory of a device at once."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory * _SHARE_OF_GPU)
    return _CPU_BYTES


def labels_at_once(device: torch.device, vocabulary: int) -> int:
    """How many labels' logits that is."""
    return max(1, room_for_logits(device) // (_FLOAT_BYTES * vocabulary))


def chunked(head: Any, hidden: torch.Tensor, targets: torch.Tensor, *, at_once: int) -> torch.Tensor:
    """Negative log-likelihood of each target in nats, float32 (labels,), from hidden states (labels, width), `at_once` labels at a time."""
    pairs = zip(hidden.split(at_once), targets.split(at_once), strict=True)  # type: ignore[no-untyped-call]
    if not torch.is_grad_enabled():
        return torch.cat([_losses(head, some, few) for some, few in pairs])
    return torch.cat([checkpoint(_losses, head, some, few, use_reentrant=False) for some, few in pairs])


def _losses(head: Any, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(head(hidden).float(), targets, reduction="none")


def fusable(head: Any, device: torch.device) -> bool:
    """Whether liger's kernel can take the layer: on CUDA, where it is installed, a plain frozen matrix that no adapter changes.

    One that learns is float32 (training/full.py) and what comes to it is not; the kernel takes both alike or not at all.
    """
    plain = type(head) is torch.nn.Linear and not head.weight.requires_grad
    return device.type == "cuda" and plain and importlib.util.find_spec(_LIGER) is not None


def fused_sum(head: torch.nn.Linear, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum over all targets, float32 of shape (), by liger's kernel."""
    summed: torch.Tensor = _liger()(head.weight, hidden, targets, head.bias)
    return summed


@cache
def _liger() -> Any:
    return importlib.import_module(f"{_LIGER}.transformers.fused_linear_cross_entropy").LigerFusedLinearCrossEntropyLoss(reduction="sum")
