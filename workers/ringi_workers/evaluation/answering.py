"""One arm answers a batch of prompts: the likelihood of each reference and a greedy answer, from one pass over each prompt.

The attention keys and values of a prompt depend on the prompt alone, so its references and its generated answer continue from the same
cache, as do all prompts from their common beginning (the chat template's system text). Caches belong to one arm: an adapter changes them.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache

# Logits of one scoring pass, in elements: 64 Mi of fp32 are 256 MiB.
_LOGITS_PER_PASS = 64 * 1024 * 1024
_ROWS_PER_PASS = 32


class Reference(NamedTuple):
    """Tokens that follow the prompt; `scored[i]` says whether token i carries a label."""

    tokens: tuple[int, ...]
    scored: tuple[bool, ...]


class Prompt(NamedTuple):
    """A rendered prompt (at least one token), its references, and how many tokens its answer may have."""

    tokens: tuple[int, ...]
    references: tuple[Reference, ...]
    max_new_tokens: int


class Answer(NamedTuple):
    """Per reference the mean negative log-likelihood per scored token, in nats; the greedy answer's tokens, without the stop token."""

    nlls: tuple[float, ...]
    tokens: tuple[int, ...]


class _State(NamedTuple):
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


@torch.inference_mode()
def read_beginning(model: Any, tokens: Sequence[int]) -> DynamicCache:
    """The cache after `tokens`, which may be none; one row."""
    cache = DynamicCache(config=model.config)
    if tokens:
        ids = torch.tensor([list(tokens)], device=model.device)
        model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


@torch.inference_mode()
def answer(model: Any, prompts: Sequence[Prompt], *, beginning: DynamicCache, stop_tokens: frozenset[int]) -> list[Answer]:
    """Score and answer `prompts`, which all begin with the tokens that `beginning` was read from; in the order of `prompts`."""
    state = _prefill(model, prompts, beginning)
    nlls = _score(model, prompts, state)
    outputs = _generate(model, state, [prompt.max_new_tokens for prompt in prompts], stop_tokens)
    return [Answer(tuple(nll), tuple(output)) for nll, output in zip(nlls, outputs, strict=True)]


def _prefill(model: Any, prompts: Sequence[Prompt], beginning: DynamicCache) -> _State:
    """Read the prompts behind their common beginning, padded on the left so that all end at the same place."""
    shared = beginning.get_seq_length()
    cache = copy.deepcopy(beginning)
    if shared:
        cache.batch_repeat_interleave(len(prompts))
    width = max(len(prompt.tokens) for prompt in prompts) - shared
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.ones(len(prompts), shared + width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        own = prompt.tokens[shared:]
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
    return _State(cache, mask, positions[:, -1] + 1, out.logits[:, -1].float())


def _score(model: Any, prompts: Sequence[Prompt], state: _State) -> list[list[float]]:
    """Teacher-forced likelihoods of all references, a few rows at a time so that the logits stay small."""
    pairs = [(row, place, reference) for row, prompt in enumerate(prompts) for place, reference in enumerate(prompt.references)]
    # References of like length go together: little of a pass is padding.
    pairs.sort(key=lambda pair: len(pair[2].tokens))
    nlls: list[list[float]] = [[math.nan] * len(prompt.references) for prompt in prompts]
    while pairs:
        longest = len(pairs[-1][2].tokens)
        at_once = min(_ROWS_PER_PASS, max(1, _LOGITS_PER_PASS // (longest * state.logits.shape[-1])))
        some, pairs = pairs[-at_once:], pairs[:-at_once]
        means = _score_some(model, [(row, reference) for row, _, reference in some], state)
        for (row, place, _), mean in zip(some, means, strict=True):
            nlls[row][place] = mean
    return nlls


def _score_some(model: Any, pairs: Sequence[tuple[int, Reference]], state: _State) -> list[float]:
    rows = torch.tensor([row for row, _ in pairs], device=model.device)
    width = max(len(reference.tokens) for _, reference in pairs)
    targets = torch.zeros(len(pairs), width, dtype=torch.long)
    scored = torch.zeros(len(pairs), width)
    for line, (_, reference) in enumerate(pairs):
        targets[line, : len(reference.tokens)] = torch.tensor(reference.tokens)
        scored[line, : len(reference.tokens)] = torch.tensor(reference.scored)
    targets, scored = targets.to(model.device), scored.to(model.device)
    logits = state.logits[rows].unsqueeze(1)
    if width > 1:
        cache = copy.deepcopy(state.cache)
        cache.batch_select_indices(rows)
        # The last token predicts nothing that is scored, so it is not read.
        out = model(
            input_ids=targets[:, :-1],
            attention_mask=torch.cat([state.mask[rows], torch.ones_like(targets[:, :-1])], dim=1),
            position_ids=state.position[rows].unsqueeze(1) + torch.arange(width - 1, device=model.device),
            past_key_values=cache,
            use_cache=True,
        )
        logits = torch.cat([logits, out.logits.float()], dim=1)
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(scored)
    means: list[float] = ((losses * scored).sum(dim=1) / scored.sum(dim=1)).tolist()
    return means


def _generate(model: Any, state: _State, budgets: Sequence[int], stop_tokens: frozenset[int]) -> list[list[int]]:
    """Greedy continuation of every row, up to its budget or a stop token. Uses up `state.cache`."""
    outputs: list[list[int]] = [[] for _ in budgets]
    cache, mask, position, logits = state
    alive = list(range(len(budgets)))
    while True:
        chosen = logits.argmax(dim=-1)
        going: list[int] = []
        for line, token in enumerate(chosen.tolist()):
            row = alive[line]
            if token in stop_tokens or len(outputs[row]) >= budgets[row]:
                continue
            outputs[row].append(token)
            if len(outputs[row]) < budgets[row]:
                going.append(line)
        if not going:
            return outputs
        if len(going) < len(alive):
            keep = torch.tensor(going, device=chosen.device)
            cache.batch_select_indices(keep)
            chosen, mask, position = chosen[keep], mask[keep], position[keep]
            alive = [alive[line] for line in going]
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
        out = model(
            input_ids=chosen.unsqueeze(1), attention_mask=mask, position_ids=position.unsqueeze(1), past_key_values=cache, use_cache=True
        )
        logits, position = out.logits[:, -1].float(), position + 1
