"""Floating-point operations of a training run, from a shape and a workload. Comes after shapes.py. Pure.

Forward: 2 a weight and token (Kaplan et al. 2020, arXiv:2001.08361, section 2.1). Backward: as much again for the gradient of the
activations, and as much again for the gradient of the weights, which frozen matrices do not need. Attention: 4 x length x width a layer
and token forward, twice that backward, as PaLM counts it (Chowdhery et al. 2022, arXiv:2204.02311, appendix B: 12 LHQT).
"""

from typing import NamedTuple

from ringi.preflight.schemas import Trained, Workload
from ringi.preflight.shapes import Shape


def flops_per_token(shape: Shape, work: Workload, *, tokens_per_row: float, label_tokens_per_row: float | None) -> float:
    """FLOPs a real token of one pass forward and backward. Lengths are means, in tokens; without labels known, every token has logits."""
    matrices = 2.0 * shape.layers * sum(one.inputs * one.outputs for one in shape.linears)
    inputs, outputs = shape.layout.head
    share = min(1.0, (label_tokens_per_row if label_tokens_per_row is not None else tokens_per_row) / tokens_per_row)
    if shape.classifies:
        share = 1.0 / tokens_per_row
    head = 2.0 * inputs * outputs * share
    attention = 4.0 * shape.layers * shape.heads * shape.head_dim * tokens_per_row
    forward = matrices + head + attention
    backward = matrices + head + 2 * attention
    if work.method is Trained.FULL:
        backward += matrices + head
    else:
        lora = float(shape.lora_parameters(rank=work.rank, targets=work.target_modules))
        # Forward 2, backward 4: A and B are trained, so both gradients are computed.
        forward, backward = forward + 2 * lora, backward + 4 * lora
    # Gradient checkpointing runs every layer forward once more.
    again = matrices + attention if work.checkpointing else 0.0
    return forward + backward + again


class Flops(NamedTuple):
    """Of the whole run, and of one optimiser step of rows of mean length."""

    run: float
    step: float


def flops_of(shape: Shape, work: Workload) -> Flops | None:
    """None where rows or tokens a row are not known."""
    if work.tokens is None or work.tokens_per_row is None:
        return None
    each = flops_per_token(shape, work, tokens_per_row=work.tokens_per_row, label_tokens_per_row=work.label_tokens_per_row)
    return Flops(work.tokens * each, work.batch_size * work.tokens_per_row * each)
