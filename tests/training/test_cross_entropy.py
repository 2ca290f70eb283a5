"""The loss in chunks is the loss: the same figures and gradients, and never more logits in memory than a chunk has."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy

from ringi_workers.training.cross_entropy import Head, chunked, fusable, labels_at_once
from ringi_workers.training.data import encode_row
from ringi_workers.training.packing import Layout, Pass, head_for, packed, padded, row_losses, summed_loss
from support.tiny_model import VOCAB_SIZE, make_tiny_tokenizer, tiny_rows
from support.tiny_shapes import tiny_shape

CPU = torch.device("cpu")
ROWS = [encode_row(make_tiny_tokenizer(), row["prompt"], row["completion"], max_length=96) for row in tiny_rows(8)]


@pytest.mark.parametrize("at_once", [1, 7, 50, 1000])
def test_chunks_have_the_loss_and_the_gradients_of_the_whole(at_once: int) -> None:
    torch.manual_seed(0)
    head, targets = torch.nn.Linear(32, 300), torch.randint(300, (50,))
    hidden = torch.randn(50, 32, requires_grad=True)
    whole = cross_entropy(head(hidden), targets, reduction="none")
    wanted = torch.autograd.grad(whole.mean(), [hidden, head.weight, head.bias])
    found = chunked(head, hidden, targets, at_once=at_once)
    assert torch.allclose(found, whole, atol=1e-6, rtol=1e-6)
    for one, other in zip(torch.autograd.grad(found.mean(), [hidden, head.weight, head.bias]), wanted, strict=True):
        assert torch.allclose(one, other, atol=1e-6, rtol=1e-6)


def adapted(shape: str) -> Any:
    targets = ["c_attn"] if shape == "gpt2" else ["q_proj", "v_proj"]
    torch.manual_seed(5)
    return get_peft_model(
        tiny_shape(shape), LoraConfig(r=4, lora_alpha=4, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
    )


def learnt(model: Any, one: Pass) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The mean loss and the gradients of the adapter."""
    model.zero_grad()
    loss = summed_loss(model, one) / len(one.targets)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach(), [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]


@pytest.mark.parametrize("shape", ["llama", "gpt2"])
@pytest.mark.parametrize("packing", [True, False], ids=["packed", "padded"])
def test_a_pass_in_chunks_learns_what_it_learns_whole_with_a_chunk_of_logits_in_memory(shape: str, packing: bool) -> None:
    model, one = adapted(shape), packed(ROWS) if packing else padded(ROWS, 0)
    loss, gradients = learnt(model, one)
    sizes: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda _module, _given, logits: sizes.append(logits.shape[:-1].numel()))
    apart, found = learnt(model, one._replace(head=Head(at_once=9, fused=False)))
    assert float(apart) == pytest.approx(float(loss), rel=1e-6)
    assert len(found) == len(gradients) > 0
    for gradient, wanted in zip(found, gradients, strict=True):
        assert torch.allclose(gradient, wanted, atol=1e-6, rtol=1e-5)
    # Once forward and once again on the way back.
    assert max(sizes) == 9
    assert sum(sizes) == 2 * len(one.targets)
    # What fits one chunk is computed by the model itself, to the last bit.
    same, _ = learnt(model, one._replace(head=Head(at_once=len(one.targets), fused=False)))
    assert torch.equal(same, loss)
    with torch.inference_mode():
        assert torch.allclose(row_losses(model, one._replace(head=Head(9, False))), row_losses(model, one), atol=1e-5)


def test_a_layer_is_cut_only_where_memory_asks_for_it_and_the_logits_are_nothing_else() -> None:
    few, many = Layout(True, 1024, 0, 8), Layout(False, 1024, 0, 10**6)
    at_once = labels_at_once(CPU, VOCAB_SIZE)
    assert 1024 < at_once < 10**6 * len(ROWS[0].input_ids)
    for shape in ("llama", "gpt2"):
        assert head_for(adapted(shape), ROWS, few) is None
        assert head_for(adapted(shape).train(), ROWS, many) == Head(at_once, fused=False)
    # It caps its logits after the last layer.
    capped = tiny_shape("gemma2")
    assert capped.config.final_logit_softcapping is not None
    capped.config.final_logit_softcapping = 1.0
    assert head_for(capped, ROWS, many) is None


def test_the_fused_kernel_is_for_gpus_alone() -> None:
    assert not fusable(torch.nn.Linear(4, 4), CPU)
    assert labels_at_once(CPU, 128_256) * 128_256 * 4 <= 2 * 2**30
