"""Measure whether an adapter does anything: the largest change of the base's logits, beside the base's own numerical noise.

The judgement (change over ten times the noise) is the platform's, in ringi/adapters/admission.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from ringi.jobs.contracts.adapters import AdapterFacts, EffectFacts
from ringi.kit.digests import sha256_json
from ringi_workers.adapters.attach import attach
from ringi_workers.adapters.heads import wrapped_heads
from ringi_workers.training.classes import encode_class
from ringi_workers.training.data import encode_text, pad_id_of, render_prompt

PROBE_PROMPTS = (
    "What is the capital of Japan?",
    "Write one sentence about the sea.",
    "How are you today?",
    "def fibonacci(n):",
    "日本で一番高い山は何ですか。",
    "今日はどんな一日でしたか。",
    "「稟議」という言葉を説明してください。",
    "12と30を足すといくつですか。",
)
# Enough to see any effect, and a bound on the memory of (prompts, tokens, vocabulary) logits.
MAX_TOKENS = 64
MAX_PROMPTS = 16


def measure_effect(
    model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, facts: AdapterFacts, *, task_prompts: Sequence[str] = ()
) -> EffectFacts:
    """Run the probe prompts (and up to eight task prompts) through the bare base, then with the adapter of `folder`.

    `model` is the loaded base in eval mode; the adapter is attached to it and stays. Logits at real positions only, cast to float32.
    An adapter none of whose tensors belongs to the base changes nothing: 0.0. A non-finite logit leaves the figure unknown: None.
    """
    prompts = (*PROBE_PROMPTS, *task_prompts)[:MAX_PROMPTS]
    rows = [encode_text(tokenizer, render_prompt(tokenizer, prompt))[-MAX_TOKENS:] for prompt in prompts]
    pad_id = pad_id_of(tokenizer)
    together, noise = _without(model, rows, pad_id)
    change: float | None = 0.0
    if facts.adapted_modules or facts.replaced_tensors:
        change = _largest_difference(together, _logits(attach(model, folder), rows, pad_id))
    return _facts(model, prompts, change, noise)


def measure_class_effect(
    model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, facts: AdapterFacts, *, pad_id: int, task_prompts: Sequence[str] = ()
) -> EffectFacts:
    """Of a classifier: what its adapter changes beside its head, in logits of the classes.

    The base has no head of its own, so any head would be a change against it. Both sides have therefore the sealed head: what is measured is what the matrices or
    vectors in the layers do, and an adapter that trained a head alone, over a base as it is, has no effect. `model` is the loaded base, the adapter stays on it.
    Nothing is measured of an adapter that lacks tensors.
    """
    prompts = (*PROBE_PROMPTS, *task_prompts)[:MAX_PROMPTS]
    if facts.unfilled_tensors:
        return _facts(model, prompts, None, None)
    rows = [encode_class(tokenizer, prompt, MAX_TOKENS) for prompt in prompts]
    adapted = attach(model, folder)
    for head in wrapped_heads(adapted):
        head.original_module.load_state_dict(head.modules_to_save[head.active_adapters[0]].state_dict())
    with adapted.disable_adapter():
        together, noise = _without(adapted, rows, pad_id)
    change = _largest_difference(together, _logits(adapted, rows, pad_id)) if facts.adapted_modules else 0.0
    return _facts(adapted, prompts, change, noise)


def _without(model: Any, rows: Sequence[Sequence[int]], pad_id: int) -> tuple[list[torch.Tensor], float | None]:
    """The logits of the rows together, and how far they are from those of each row alone."""
    together = _logits(model, rows, pad_id)
    return together, _largest_difference(together, [_logits(model, [row], pad_id)[0] for row in rows])


def _facts(model: Any, prompts: Sequence[str], change: float | None, noise: float | None) -> EffectFacts:
    return EffectFacts(
        prompts=len(prompts),
        probe_digest=sha256_json(list(prompts)),
        change=change,
        noise=noise,
        dtype=str(next(model.parameters()).dtype).removeprefix("torch."),
    )


def measure_other_model(model: Any, other: Any, tokenizer: PreTrainedTokenizerBase, *, task_prompts: Sequence[str] = ()) -> EffectFacts:
    """The same of `other`, a whole model with other weights than the base `model`. Both are in eval mode."""
    prompts = (*PROBE_PROMPTS, *task_prompts)[:MAX_PROMPTS]
    rows = [encode_text(tokenizer, render_prompt(tokenizer, prompt))[-MAX_TOKENS:] for prompt in prompts]
    pad_id = pad_id_of(tokenizer)
    together = _logits(model, rows, pad_id)
    noise = _largest_difference(together, [_logits(model, [row], pad_id)[0] for row in rows])
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    change = _largest_difference(together, _logits(other, rows, pad_id))
    return EffectFacts(prompts=len(prompts), probe_digest=sha256_json(list(prompts)), change=change, noise=noise, dtype=dtype)


@torch.inference_mode()
def _logits(model: Any, rows: Sequence[Sequence[int]], pad_id: int) -> list[torch.Tensor]:
    """Per row the logits of shape (its tokens, vocabulary), of a classifier (classes,), from one batch padded on the right."""
    longest = max(map(len, rows))
    device = next(model.parameters()).device
    ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits.float().cpu()
    return list(logits) if logits.dim() == 2 else [logits[number, : len(row)] for number, row in enumerate(rows)]  # noqa: PLR2004  # (rows, classes)


def _largest_difference(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> float | None:
    largest = torch.stack([(one - other).abs().max() for one, other in zip(first, second, strict=True)])
    # max() would drop a NaN from some comparisons, so finiteness is asked first.
    return float(largest.max()) if bool(torch.isfinite(largest).all()) else None
