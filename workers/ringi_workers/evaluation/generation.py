"""Texts that a batch of prompts is answered with: greedy or drawn, cut at stop strings, the same in whatever batch they are made.

A drawn text has a generator of its own, seeded with (seed, item, repeat): what stands beside it in the batch draws nothing of it.
"""

import random
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache, PreTrainedTokenizerBase

from ringi.jobs.contracts.suites import Decoding
from ringi_workers.evaluation.branches import Tokens
from ringi_workers.evaluation.decoding import Continuation, continue_rereading, continue_rows, greedy
from ringi_workers.evaluation.reach import Pace
from ringi_workers.evaluation.reading import State, prefill, read_beginning, selected


class Wanted(NamedTuple):
    """A prompt, and the items (or whatever names them) that ask it; greedily they all have one answer."""

    prompt: Tokens
    names: tuple[str, ...]


class Text(NamedTuple):
    """What was generated, cut at the first stop string; `tokens` are those that the model put out, what was cut off included.

    `finite` is False where the model's logits were not, and then the text means nothing.
    """

    text: str
    tokens: int
    finite: bool


class Generated(NamedTuple):
    """Per prompt and name the texts of all repeats; seconds until the batch's first tokens were known, None where that was not seen."""

    texts: list[dict[str, tuple[Text, ...]]]
    first_token_s: float | None


def generate(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    wanted: Sequence[Wanted],
    *,
    decoding: Decoding,
    beginning: DynamicCache,
    stop_tokens: frozenset[int],
    pace: Pace = Pace.BATCHED,
) -> Generated:
    """Answer the prompts, which all begin with the tokens that `beginning` was read from; each is read once, however many answers it has.

    At another pace than `BATCHED` there is no shared beginning, and every text is made by itself.
    """
    if pace is not Pace.BATCHED:
        return _one_by_one(model, tokenizer, wanted, decoding, stop_tokens, pace)
    begun = time.perf_counter()
    state = prefill(model, [one.prompt for one in wanted], beginning)
    # Asked of the values, so that a device that works on by itself has come to them.
    state.logits[:, 0].tolist()
    first_token_s = time.perf_counter() - begun
    if decoding.temperature == 0:
        rows = _continued(model, state, _Rules(tokenizer, decoding, None), stop_tokens, len(wanted))
        alike: list[dict[str, tuple[Text, ...]]] = [dict.fromkeys(one.names, (row,)) for one, row in zip(wanted, rows, strict=True)]
        return Generated(alike, first_token_s)
    streams = [(place, name, repeat) for place, one in enumerate(wanted) for name in one.names for repeat in range(decoding.repeats)]
    draws = [_draw(decoding, name, repeat) for _, name, repeat in streams]
    state = selected(state, torch.tensor([place for place, _, _ in streams], device=model.device))
    rows = _continued(model, state, _Rules(tokenizer, decoding, draws), stop_tokens, len(streams))
    texts: list[dict[str, tuple[Text, ...]]] = [{} for _ in wanted]
    for (place, name, _), row in zip(streams, rows, strict=True):
        texts[place][name] = (*texts[place].get(name, ()), row)
    return Generated(texts, first_token_s)


def _continued(model: Any, state: State, rules: "_Rules", stop_tokens: frozenset[int], rows: int) -> list[Text]:
    budgets = [rules.decoding.max_new_tokens] * rows
    return [rules.text(one) for one in continue_rows(model, state, budgets, stop_tokens, choose=rules.choose, enough=rules.enough)]


def _one_by_one(
    model: Any, tokenizer: PreTrainedTokenizerBase, wanted: Sequence[Wanted], decoding: Decoding, stop_tokens: frozenset[int], pace: Pace
) -> Generated:
    """Every text by itself. Its time to a first token is what a pass over the prompt takes."""
    begun = time.perf_counter()
    prefill_s = 0.0
    texts: list[dict[str, tuple[Text, ...]]] = []

    def made(prompt: Tokens, draws: Sequence[random.Random] | None) -> Text:
        nonlocal prefill_s
        rules = _Rules(tokenizer, decoding, draws)
        if pace is Pace.REREAD:
            one = continue_rereading(
                model, prompt, decoding.max_new_tokens, stop_tokens, choose=rules.choose, enough=rules.enough
            )  # fmt: skip
            return rules.text(one)
        state = prefill(model, [prompt], read_beginning(model, ()))
        prefill_s = prefill_s or time.perf_counter() - begun
        return rules.text(*continue_rows(model, state, [decoding.max_new_tokens], stop_tokens, choose=rules.choose, enough=rules.enough))

    for one in wanted:
        if decoding.temperature == 0:
            texts.append(dict.fromkeys(one.names, (made(one.prompt, None),)))
        else:
            texts.append(
                {name: tuple(made(one.prompt, [_draw(decoding, name, repeat)]) for repeat in range(decoding.repeats)) for name in one.names}
            )
    return Generated(texts, prefill_s or None)


def cut(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop string in it."""
    return text[: min((at for one in stop if one and (at := text.find(one)) >= 0), default=len(text))]


def drawn(logits: torch.Tensor, uniforms: Sequence[float], *, temperature: float, top_p: float) -> torch.Tensor:
    """One token a row from `logits` [rows, vocabulary], by the inverse of the distribution at `uniforms`.

    Of the tokens in the order of their probability those are kept before which less than `top_p` stands (nucleus sampling, Holtzman et
    al. 2020), at least the first.
    """
    probabilities, order = (logits.double() / temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    sums = probabilities.cumsum(dim=-1)
    kept = ((sums - probabilities) < top_p).sum(dim=-1, keepdim=True)
    goals = torch.tensor(uniforms, dtype=sums.dtype, device=logits.device).unsqueeze(1) * sums.gather(1, kept - 1)
    places = torch.searchsorted(sums, goals, right=True).minimum(kept - 1)
    return order.gather(1, places).squeeze(1)


class _Rules:
    """How the rows of one batch choose their tokens, and when a row has said enough."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, decoding: Decoding, draws: Sequence[random.Random] | None) -> None:
        self.tokenizer, self.decoding, self.draws = tokenizer, decoding, draws
        self.stop = tuple(one for one in decoding.stop if one)
        # A token is at least a byte, so a stop string lies within as many last tokens as it has bytes; some more, because a text's first
        # token may be decoded without its space.
        self.reach = max((len(one.encode()) for one in self.stop), default=0) + 4

    def choose(self, logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        if self.draws is None:
            return greedy(logits, rows)
        uniforms = [self.draws[row].random() for row in rows]
        # A row without sound logits is ended by the caller; until then it needs some distribution.
        return drawn(torch.nan_to_num(logits), uniforms, temperature=self.decoding.temperature, top_p=self.decoding.top_p)

    def enough(self, _row: int, tokens: Sequence[int]) -> bool:
        return bool(self.stop) and self._stopped(tokens[-self.reach :]) and self._stopped(tokens)

    def _stopped(self, tokens: Sequence[int]) -> bool:
        text = self._decoded(tokens)
        return any(one in text for one in self.stop)

    def text(self, made: Continuation) -> Text:
        return Text(cut(self._decoded(made.tokens), self.stop), len(made.tokens), made.finite)

    def _decoded(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))


def _draw(decoding: Decoding, name: str, repeat: int) -> random.Random:
    return random.Random(f"{decoding.seed}:{name}:{repeat}")  # noqa: S311 - sampling, not cryptography
