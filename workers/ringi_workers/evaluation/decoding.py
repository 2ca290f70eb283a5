"""Token after token: the continuation of every row of a batch, greedy or drawn, until it ends. What a token is chosen by is the caller's."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from ringi_workers.evaluation.reading import State

# Chooses one token for each of these rows from logits [rows, vocabulary].
Choose = Callable[[torch.Tensor, Sequence[int]], torch.Tensor]
# Whether a row has said enough, given its number and its tokens so far.
Enough = Callable[[int, Sequence[int]], bool]


class Continuation(NamedTuple):
    """A row's tokens without the stop token; `finite` is False where its logits were not, and then the tokens mean nothing."""

    tokens: list[int]
    finite: bool


def greedy(logits: torch.Tensor, _rows: Sequence[int]) -> torch.Tensor:
    """The likeliest token of each row."""
    return logits.argmax(dim=-1)


def never(_row: int, _tokens: Sequence[int]) -> bool:
    """Only the budget and the stop tokens end a row."""
    return False


@torch.inference_mode()
def continue_rows(
    model: Any,
    state: State,
    budgets: Sequence[int],
    stop_tokens: frozenset[int],
    *,
    choose: Choose = greedy,
    enough: Enough = never,
) -> list[Continuation]:
    """Continue every row up to its budget, a stop token, or what is enough. Uses up `state.cache`."""
    outputs: list[list[int]] = [[] for _ in budgets]
    finite = [True] * len(budgets)
    cache, mask, position, logits = state
    alive = list(range(len(budgets)))
    while True:
        # A NaN among the logits is also their maximum.
        sound = torch.isfinite(logits.amax(dim=-1)).tolist()
        chosen = choose(logits, alive)
        going: list[int] = []
        for line, token in enumerate(chosen.tolist()):
            row = alive[line]
            finite[row] = sound[line]
            if not sound[line] or token in stop_tokens or len(outputs[row]) >= budgets[row]:
                continue
            outputs[row].append(token)
            if len(outputs[row]) < budgets[row] and not enough(row, outputs[row]):
                going.append(line)
        if not going:
            return [Continuation(tokens, whole) for tokens, whole in zip(outputs, finite, strict=True)]
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


@torch.inference_mode()
def continue_rereading(
    model: Any, prompt: Sequence[int], budget: int, stop_tokens: frozenset[int], *, choose: Choose = greedy, enough: Enough = never
) -> Continuation:
    """Continue one prompt by reading the whole text again for every token: slow, and right for every causal model."""
    tokens: list[int] = []
    while True:
        logits = model(input_ids=torch.tensor([[*prompt, *tokens]], device=model.device), use_cache=False).logits[:, -1].float()
        if not bool(torch.isfinite(logits.amax())):
            return Continuation(tokens, finite=False)
        token = int(choose(logits, (0,)))
        if token in stop_tokens:
            return Continuation(tokens, finite=True)
        tokens.append(token)
        if len(tokens) >= budget or enough(0, tokens):
            return Continuation(tokens, finite=True)
