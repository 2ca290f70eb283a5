"""What a model has read, and how it goes on: beginnings that prompts share, batches of prompts, texts behind them.

The attention keys and values of a prompt depend on the prompt alone, so whatever continues it continues from the same cache, as do all
prompts from their common beginning (the chat template's system text). Caches belong to one arm: an adapter changes them.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache

# Logits of one scoring pass, in elements: 64 Mi of fp32 are 256 MiB.
LOGITS_PER_PASS = 64 * 1024 * 1024
ROWS_PER_PASS = 32
_WINDOWS = ("sliding_window", "attention_chunk_size")


class State(NamedTuple):
    """Where a batch stands: cache, mask [rows, length], next position [rows], logits of the last token [rows, vocabulary]."""

    cache: DynamicCache
    mask: torch.Tensor
    position: torch.Tensor
    logits: torch.Tensor


def common_beginning(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many first tokens all prompts share, leaving each at least one of its own."""
    if not prompts:
        return 0
    shortest, longest = min(prompts), max(prompts)
    limit = min(len(prompt) for prompt in prompts) - 1
    return next((i for i in range(limit) if shortest[i] != longest[i]), limit)


def window_of(model: Any) -> int | None:
    """How far back the shortest attention of a model reaches, in places; None where all of it reaches to the beginning."""
    config = model.config.get_text_config()
    return min((size for name in _WINDOWS if isinstance(size := getattr(config, name, None), int)), default=None)


@torch.inference_mode()
def read_beginning(model: Any, tokens: Sequence[int]) -> DynamicCache:
    """The cache after `tokens`, which may be none; one row.

    Attention with a window counts places, and the padding between a beginning and what is a prompt's own would be counted with them:
    such a model reads every prompt from its first token.
    """
    cache = DynamicCache(config=model.config)
    if tokens and window_of(model) is None:
        ids = torch.tensor([list(tokens)], device=model.device)
        model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def length_of(beginning: DynamicCache) -> int:
    """How many tokens were read. The cache of a model without attention counts none, and is used for whole prompts only."""
    try:
        return int(beginning.get_seq_length())
    except ValueError:
        return 0


def repeated(beginning: DynamicCache, rows: int) -> DynamicCache:
    """A copy of a one-row cache with `rows` rows."""
    cache = copy.deepcopy(beginning)
    if length_of(beginning):
        cache.batch_repeat_interleave(rows)
    return cache


@torch.inference_mode()
def prefill(model: Any, prompts: Sequence[tuple[int, ...]], beginning: DynamicCache) -> State:
    """Read the prompts behind their common beginning, padded on the left so that all end at the same place."""
    shared = length_of(beginning)
    cache = repeated(beginning, len(prompts))
    width = max(len(prompt) for prompt in prompts) - shared
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.ones(len(prompts), shared + width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        own = prompt[shared:]
        ids[row, width - len(own) :] = torch.tensor(own)
        mask[row, shared : shared + width - len(own)] = 0
    mask = mask.to(model.device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    out = model(
        input_ids=ids.to(model.device),
        attention_mask=mask,
        position_ids=positions[:, shared:],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    return State(cache, mask, positions[:, -1] + 1, out.logits[:, -1].float())


def selected(state: State, rows: torch.Tensor) -> State:
    """A copy of these rows, which may repeat."""
    cache = copy.deepcopy(state.cache)
    cache.batch_select_indices(rows)
    return State(cache, state.mask[rows], state.position[rows], state.logits[rows])


@torch.inference_mode()
def read_behind(model: Any, rows: Sequence[int], texts: Sequence[tuple[int, ...]], state: State) -> torch.Tensor:
    """Logits of shape (texts, longest text, vocabulary) that predict each token of `texts[i]` behind row `rows[i]` of `state`; `state` stays."""
    index = torch.tensor(rows, device=model.device)
    width = max(map(len, texts))
    logits = state.logits[index].unsqueeze(1)
    if width == 1:
        return logits
    # A text's last token predicts nothing that is asked for, so it is not read.
    ids = torch.tensor([[*text[:-1], *[0] * (width - len(text))] for text in texts], device=model.device)
    behind = selected(state, index)
    out = model(
        input_ids=ids,
        attention_mask=torch.cat([behind.mask, torch.ones_like(ids)], dim=1),
        position_ids=behind.position.unsqueeze(1) + torch.arange(width - 1, device=model.device),
        past_key_values=behind.cache,
        use_cache=True,
    )
    return torch.cat([logits, out.logits.float()], dim=1)
