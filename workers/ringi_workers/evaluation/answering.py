"""One arm answers a batch of prompts: the likelihood of each reference and a greedy answer, from one pass over each prompt."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache

from ringi_workers.evaluation.decoding import continue_rows
from ringi_workers.evaluation.reading import LOGITS_PER_PASS, ROWS_PER_PASS, State, prefill, read_behind


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


@torch.inference_mode()
def answer(model: Any, prompts: Sequence[Prompt], *, beginning: DynamicCache, stop_tokens: frozenset[int]) -> list[Answer]:
    """Score and answer `prompts`, which all begin with the tokens that `beginning` was read from; in the order of `prompts`."""
    state = prefill(model, [prompt.tokens for prompt in prompts], beginning)
    nlls = _score(model, prompts, state)
    outputs = continue_rows(model, state, [prompt.max_new_tokens for prompt in prompts], stop_tokens)
    return [Answer(tuple(nll), tuple(output.tokens)) for nll, output in zip(nlls, outputs, strict=True)]


def _score(model: Any, prompts: Sequence[Prompt], state: State) -> list[list[float]]:
    """Teacher-forced likelihoods of all references, a few rows at a time so that the logits stay small."""
    pairs = [(row, place, reference) for row, prompt in enumerate(prompts) for place, reference in enumerate(prompt.references)]
    # References of like length go together: little of a pass is padding.
    pairs.sort(key=lambda pair: len(pair[2].tokens))
    nlls: list[list[float]] = [[math.nan] * len(prompt.references) for prompt in prompts]
    while pairs:
        longest = len(pairs[-1][2].tokens)
        at_once = min(ROWS_PER_PASS, max(1, LOGITS_PER_PASS // (longest * state.logits.shape[-1])))
        some, pairs = pairs[-at_once:], pairs[:-at_once]
        means = _score_some(model, [(row, reference) for row, _, reference in some], state)
        for (row, place, _), mean in zip(some, means, strict=True):
            nlls[row][place] = mean
    return nlls


def _score_some(model: Any, pairs: Sequence[tuple[int, Reference]], state: State) -> list[float]:
    logits = read_behind(model, [row for row, _ in pairs], [reference.tokens for _, reference in pairs], state)
    targets = torch.zeros(logits.shape[:2], dtype=torch.long)
    scored = torch.zeros(logits.shape[:2])
    for line, (_, reference) in enumerate(pairs):
        targets[line, : len(reference.tokens)] = torch.tensor(reference.tokens)
        scored[line, : len(reference.tokens)] = torch.tensor(reference.scored)
    targets, scored = targets.to(model.device), scored.to(model.device)
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(scored)
    means: list[float] = ((losses * scored).sum(dim=1) / scored.sum(dim=1)).tolist()
    return means
