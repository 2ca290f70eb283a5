"""Packed rows do not see each other, on every attention that we use and on every shape that says so; other shapes are found out."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from ringi_workers.training.data import Example, encode_row
from ringi_workers.training.packing import Layout, cut, packed, padded, row_losses, separation, token_losses
from ringi_workers.training.row_attention import NAME as BY_ROWS
from support.tiny_model import make_tiny_tokenizer, tiny_rows
from support.tiny_shapes import WINDOW, tiny_shape

TOKENIZER = make_tiny_tokenizer()
# Prompts from one to several times as long: rows of other lengths, some beyond the window of the sliding shapes.
ROWS = [
    encode_row(TOKENIZER, row["prompt"] * (1 + number % 3), row["completion"], max_length=96) for number, row in enumerate(tiny_rows(12))
]
APART = ["llama", "qwen3", "mistral", "gemma3", "gpt2"]


def adapted(shape: str, *, attention: str | None = None) -> Any:
    """With an adapter that does something, on linear layers and on GPT-2's Conv1D."""
    targets = ["c_attn", "c_fc"] if shape == "gpt2" else ["q_proj", "v_proj"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        config = LoraConfig(r=4, lora_alpha=4, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
        return get_peft_model(tiny_shape(shape, attention=attention), config).eval()


def alone(model: Any) -> torch.Tensor:
    """The reference: each row by itself, all logits, in float32."""
    losses = []
    for row in ROWS:
        labels = torch.tensor([row.labels])
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([row.input_ids])).logits[:, :-1]
        losses.append(torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels[:, 1:]))
    return torch.stack(losses)


@pytest.mark.parametrize("attention", ["sdpa", "eager", BY_ROWS])
@pytest.mark.parametrize("shape", APART)
def test_a_packed_row_loses_what_it_loses_alone(shape: str, attention: str) -> None:
    model = adapted(shape, attention=attention)
    assert max(len(row.input_ids) for row in ROWS) > WINDOW
    with torch.inference_mode():
        found = row_losses(model, packed(ROWS, by_rows=attention == BY_ROWS))
    reference = alone(adapted(shape))
    assert torch.allclose(found, reference, atol=1e-4, rtol=0)
    if attention != BY_ROWS:
        with torch.inference_mode():
            assert torch.allclose(row_losses(model, padded(ROWS, 0)), reference, atol=1e-4, rtol=0)


@pytest.mark.parametrize("by_rows", [True, False], ids=["by rows", "by mask"])
@pytest.mark.parametrize("shape", APART)
def test_in_bf16_a_packed_row_loses_within_two_percent_of_the_float32_reference(shape: str, by_rows: bool) -> None:
    reference = alone(adapted(shape))
    model = in_bf16(adapted(shape, attention=BY_ROWS if by_rows else "sdpa"))
    with torch.inference_mode():
        found = row_losses(model, packed(ROWS, by_rows=by_rows))
    assert torch.allclose(found, reference, atol=0, rtol=0.02), (found / reference - 1).abs().max()


@pytest.mark.parametrize("attention", ["sdpa", "eager", BY_ROWS])
@pytest.mark.parametrize("shape", APART)
def test_no_row_sees_another(shape: str, attention: str) -> None:
    """Other tokens in any one row leave every other row's loss as it was, to the last bit."""
    model = adapted(shape, attention=attention)
    with torch.inference_mode():
        before = row_losses(model, packed(ROWS, by_rows=attention == BY_ROWS))
        for changed in (0, 5, 11):
            others = tuple(3 + (token * 7 + 11) % 500 for token in ROWS[changed].input_ids)
            rows = [*ROWS[:changed], ROWS[changed]._replace(input_ids=others), *ROWS[changed + 1 :]]
            after = row_losses(model, packed(rows, by_rows=attention == BY_ROWS))
            same = [index for index in range(len(ROWS)) if index != changed]
            assert torch.equal(after[same], before[same])
            assert after[changed] != before[changed]


def in_bf16(model: Any) -> Any:
    """As training has it: the base in bf16, the adapter in float32, products under autocast."""
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if "lora_" in name else torch.bfloat16)
    assert model.dtype == torch.bfloat16
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", APART)
def test_bases_that_keep_rows_apart_are_packed(shape: str, dtype: torch.dtype) -> None:
    model = adapted(shape).train()
    model = model if dtype == torch.float32 else in_bf16(model)
    assert separation(model, ROWS, most_tokens=1024) == (True, True, "")
    assert model.training


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("shape", ["bloom", "lfm2", "mamba"])
def test_bases_that_mix_rows_are_found_out(shape: str, dtype: torch.dtype) -> None:
    """Places that the model makes by itself; a convolution and a state that go on over the border. In bf16 what leaks is less than the rounding."""
    model = tiny_shape(shape).to(dtype)
    own = model.config._attn_implementation
    found = separation(model, ROWS, most_tokens=1024)
    assert (found.packed, found.by_rows, bool(found.reason)) == (False, False, True)
    assert model.config._attn_implementation == own
    print(f"{shape}: {found.reason}")


def test_a_base_that_asks_more_of_its_attention_keeps_its_own() -> None:
    """Gemma 2 caps the scores, which only its own attention does."""
    model = tiny_shape("gemma2", attention="eager")
    assert separation(model, ROWS, most_tokens=1024) == (True, False, "")
    assert model.config._attn_implementation == "eager"


def test_a_first_token_is_never_learnt_from_the_row_before_it() -> None:
    everything = [Example((5, 6, 7), 0), Example((8,), 0), Example((9, 10), 0)]
    for one in (packed(everything), padded(everything, 0)):
        assert one.targets.tolist() == [6, 7, 10]
        assert one.owners.tolist() == [0, 0, 2]
        assert (one.tokens, one.rows) == (6, 3)
    assert packed(everything).positions is not None
    assert (keep := packed(everything).keep) is not None
    assert keep.tolist() == [[True, True, False, False, True, False]]


def test_rows_are_cut_into_passes_by_rows_and_by_tokens_and_a_long_row_stands_alone() -> None:
    rows = [Example((1,) * length, 1) for length in (4, 4, 20, 3, 3, 3)]
    assert list(cut(rows, most_rows=2, most_tokens=None)) == [[0, 1], [2, 3], [4, 5]]
    assert list(cut(rows, most_rows=6, most_tokens=10)) == [[0, 1], [2], [3, 4, 5]]
    assert list(cut(rows, most_rows=2, most_tokens=10)) == [[0, 1], [2], [3, 4], [5]]


@pytest.mark.parametrize("packing", [True, False])
def test_logits_are_computed_where_something_is_learnt_and_nowhere_else(packing: bool) -> None:
    model, seen = adapted("llama"), []
    model.get_output_embeddings().register_forward_hook(lambda _module, _given, logits: seen.append(logits.shape[:-1].numel()))
    (one,) = Layout(packing, 2048, 0, 12).passes(ROWS)
    token_losses(model, one)
    assert seen == [sum(len(row.input_ids) - row.labels_from for row in ROWS)]
