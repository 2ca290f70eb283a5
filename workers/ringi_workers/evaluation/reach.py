"""What a loaded model can do, found by trying: whether it reads a tree of branches rightly, and how it generates.

A model that ignores the mask of a tree, places its tokens by itself, or carries a state past the padding gives other likelihoods than
one text at a time; a few made-up tokens show it. The wrong reading (all branches in one row under the plain causal mask) is the measure
of how far off a wrong one lies on this model.
"""

import contextlib
import math
import random
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import torch

from ringi_workers.evaluation.branches import Question, Tokens, Way, packed_length, read
from ringi_workers.evaluation.decoding import Choose, continue_rows
from ringi_workers.evaluation.reading import common_beginning, prefill, read_beginning, window_of

# How much of the wrong reading's error a right one may have: rounding of float32, and of the shorter types.
_FULL, _HALF = 0.02, 0.25
# What models raise that were not made for what they are asked.
_REFUSALS = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, NotImplementedError, KeyError, AssertionError)


class Pace(StrEnum):
    """How texts are generated: in batches of several lengths, one at a time behind its cache, or reading everything again for each token."""

    BATCHED = "batched"
    STEPPED = "stepped"
    REREAD = "reread"


class Reach(NamedTuple):
    """`way` to read branches, in at most `window` places where the way is a tree; `pace` to generate.

    Where the pace is not `BATCHED` the model goes on behind no shared cache: a state-space layer carries more than keys and values.
    """

    way: Way
    window: int | None
    pace: Pace

    def way_for(self, questions: Sequence[Question]) -> Way:
        """The way for one batch: a tree reaches over more places than its texts are long, and none may lie beyond the window."""
        if self.way is Way.TREE and self.window is not None and packed_length(questions) >= self.window:
            return Way.CACHED if self.pace is Pace.BATCHED else Way.PLAIN
        return self.way


@torch.inference_mode()
def reach_of(model: Any) -> Reach:
    """Try the bare base (no adapter): six passes over a dozen tokens where a tree is read rightly, else some more.

    A model that heeds mask and positions of a tree behind a shared beginning heeds those of padded prompts; where attention has a window
    they are tried all the same, because such models have another kind of cache.
    """
    questions = _made_up(model.config.get_text_config().vocab_size)
    right = _plain(model, questions)
    allowed = (_FULL if model.dtype == torch.float32 else _HALF) * _distance(right, _wrong(model, questions[0]))
    window = window_of(model)
    tree = _distance(right, _tried(model, questions, Way.TREE)) <= allowed
    if tree and window is None:
        return Reach(Way.TREE, None, Pace.BATCHED)
    if _distance(right, _tried(model, questions, Way.CACHED)) <= allowed:
        return Reach(Way.TREE if tree else Way.CACHED, window, Pace.BATCHED)
    pace = Pace.STEPPED if _distance(right, _stepped(model, questions)) <= allowed else Pace.REREAD
    return Reach(Way.TREE if tree else Way.PLAIN, window, pace)


def _made_up(vocabulary: int) -> list[Question]:
    """Every text of the same length: where a first pass over a shape is slow, one shape is slow once."""
    draw = random.Random(0)  # noqa: S311 - any tokens serve
    a, b, c, d, e, f, g, h, *prompt = (draw.randrange(vocabulary) for _ in range(16))
    return [Question(tuple(prompt[:6]), ((a, b, c, d), (a, e, f, g))), Question(tuple(prompt), ((g, h),))]


def _plain(model: Any, questions: Sequence[Question]) -> list[float]:
    found = read(model, questions, beginning=None, way=Way.PLAIN)
    return [logprob for branches in found for branch in branches for logprob in branch.logprobs]


def _wrong(model: Any, question: Question) -> list[float]:
    row = [*question.prompt, *(token for branch in question.branches for token in branch)]
    logprobs = model(input_ids=torch.tensor([row], device=model.device), use_cache=False).logits[0].float().log_softmax(dim=-1)
    return [float(logprobs[place - 1, row[place]]) for place in range(len(question.prompt), len(row))]


def _tried(model: Any, questions: Sequence[Question], way: Way) -> list[float]:
    """Behind the beginning that both prompts share; nothing where the model refuses."""
    with contextlib.suppress(*_REFUSALS):
        prompts = [question.prompt for question in questions]
        beginning = read_beginning(model, prompts[0][: common_beginning(prompts)])
        found = read(model, questions, beginning=beginning, way=way)
        return [logprob for branches in found for branch in branches for logprob in branch.logprobs]
    return []


def _stepped(model: Any, questions: Sequence[Question]) -> list[float]:
    """Token after token behind a prompt's own cache; nothing where the model refuses."""
    found: list[float] = []

    def follow(branch: Tokens) -> Choose:
        ahead = iter(branch)

        def choose(logits: torch.Tensor, _rows: Sequence[int]) -> torch.Tensor:
            token = next(ahead)
            found.append(float(logits[0].log_softmax(dim=-1)[token]))
            return torch.tensor([token], device=logits.device)

        return choose

    with contextlib.suppress(*_REFUSALS):
        for question in questions:
            for branch in question.branches:
                state = prefill(model, [question.prompt], read_beginning(model, ()))
                continue_rows(model, state, [len(branch)], frozenset(), choose=follow(branch))
        return found
    return []


def _distance(right: Sequence[float], other: Sequence[float]) -> float:
    """The largest difference; infinite where there is nothing, or no number, to compare."""
    pairs = [abs(one - two) for one, two in zip(right, other, strict=False)]
    return math.inf if not pairs or any(math.isnan(pair) for pair in pairs) else max(pairs)
