"""The log-likelihoods of texts behind prompts: all choices of a question as branches of one tree in one pass, where the model can read one.

In a tree a token sees the prompt and its own branch only, and positions restart where branches part; choices that begin alike share
the tokens of their beginning. A model that cannot take such a mask reads one row a branch behind the prompt's cache, and one that cannot
even do that reads every text by itself. `reach.py` finds out which.
"""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

import torch
from transformers import DynamicCache

from ringi_workers.evaluation.reading import LOGITS_PER_PASS, ROWS_PER_PASS, length_of, prefill, read_behind, repeated

Tokens = tuple[int, ...]


class Way(StrEnum):
    """How branches are read: as a tree, as rows behind the prompt's cache, one text at a time."""

    TREE = "tree"
    CACHED = "cached"
    PLAIN = "plain"


class Question(NamedTuple):
    """A prompt (at least one token) and the texts behind it (each at least one)."""

    prompt: Tokens
    branches: tuple[Tokens, ...]


class Branch(NamedTuple):
    """Per token of a branch its log-likelihood in nats, and the token that was likeliest in its place. NaN stays NaN."""

    logprobs: tuple[float, ...]
    likeliest: Tokens


class Tree(NamedTuple):
    """Branches as nodes: a node is a token that something follows. `sees[i]` are the nodes before node i on its way, and itself.

    `predictors[b][k]` is the node that predicts token k of branch b, counted from 1; 0 is the prompt's last token.
    """

    tokens: Tokens
    depths: Tokens
    sees: torch.Tensor
    predictors: tuple[Tokens, ...]


@lru_cache(maxsize=32)
def tree_of(branches: tuple[Tokens, ...]) -> Tree:
    """The tree of these branches; the last token of a branch predicts nothing, and is a node only where another branch goes on from it."""
    nodes: dict[tuple[int, int], int] = {}
    depths = [-1]
    predictors = []
    for branch in branches:
        at, way = 0, [0]
        for token in branch[:-1]:
            at = nodes.setdefault((at, token), len(nodes) + 1)
            if at == len(depths):
                depths.append(depths[way[-1]] + 1)
            way.append(at)
        predictors.append(tuple(way))
    sees = torch.eye(len(nodes), dtype=torch.bool)
    for (parent, _), node in nodes.items():
        if parent:
            sees[node - 1] |= sees[parent - 1]
    return Tree(tuple(token for _, token in nodes), tuple(depths[1:]), sees, tuple(predictors))


def batches(questions: Sequence[Question], *, batch_size: int, vocabulary: int) -> Iterator[list[tuple[int, tuple[int, ...]]]]:
    """Questions of like length together, longest first, at most `batch_size` of them and no more than fit: (question, its branches) each.

    A question whose branches are too many for one pass comes in several parts.
    """
    room = max(1, LOGITS_PER_PASS // vocabulary)
    parts = [
        (number, part, sum(len(question.branches[place]) for place in part) + 1)
        for number, question in enumerate(questions)
        for part in _parts(question, room)
    ]
    parts.sort(key=lambda part: (-len(questions[part[0]].prompt) - part[2], part[0]))
    batch: list[tuple[int, tuple[int, ...]]] = []
    widest = 0
    for number, part, width in parts:
        if batch and (len(batch) == batch_size or (len(batch) + 1) * max(widest, width) > room):
            yield batch
            batch, widest = [], 0
        batch.append((number, part))
        widest = max(widest, width)
    if batch:
        yield batch


def _parts(question: Question, room: int) -> Iterator[tuple[int, ...]]:
    part: list[int] = []
    width = 1
    for place, branch in enumerate(question.branches):
        if part and width + len(branch) > room:
            yield tuple(part)
            part, width = [], 1
        part.append(place)
        width += len(branch)
    yield tuple(part)


@torch.inference_mode()
def read(model: Any, questions: Sequence[Question], *, beginning: DynamicCache | None, way: Way) -> list[list[Branch]]:
    """Every branch of every question, in their order; all prompts begin with the tokens that `beginning` was read from.

    Without a beginning the plain way is taken: it reads everything itself.
    """
    if beginning is None or way is Way.PLAIN:
        return _read_plain(model, questions)
    return (_read_trees if way is Way.TREE else _read_cached)(model, questions, beginning)


def packed_length(questions: Sequence[Question]) -> int:
    """How many places the widest row of a tree pass has."""
    return max(len(question.prompt) for question in questions) + max(len(tree_of(question.branches).tokens) for question in questions)


def _read_trees(model: Any, questions: Sequence[Question], beginning: DynamicCache) -> list[list[Branch]]:
    shared = length_of(beginning)
    trees = [tree_of(question.branches) for question in questions]
    width = max(len(question.prompt) for question in questions) - shared
    nodes = max(len(tree.tokens) for tree in trees)
    ids = torch.zeros(len(questions), width + nodes, dtype=torch.long)
    positions = torch.zeros_like(ids)
    # Everything sees itself, the padding too: a row that sees nothing has no softmax.
    sees = torch.eye(width + nodes, dtype=torch.bool).repeat(len(questions), 1, 1)
    seen_before = torch.zeros(len(questions), width + nodes, shared, dtype=torch.bool)
    for row, (question, tree) in enumerate(zip(questions, trees, strict=True)):
        own = torch.tensor(question.prompt[shared:])
        first, end = width - len(own), width + len(tree.tokens)
        ids[row, first:width] = own
        ids[row, width:end] = torch.tensor(tree.tokens, dtype=torch.long)
        positions[row, first:width] = torch.arange(shared, len(question.prompt))
        positions[row, width:end] = len(question.prompt) + torch.tensor(tree.depths, dtype=torch.long)
        sees[row, first:width, first:width] = torch.ones(len(own), len(own), dtype=torch.bool).tril()
        sees[row, width:end, first:width] = True
        sees[row, width:end, width:end] = tree.sees
        seen_before[row, first:end] = True
    out = model(
        input_ids=ids.to(model.device),
        attention_mask=_additive(torch.cat([seen_before, sees], dim=2), model),
        position_ids=positions.to(model.device),
        past_key_values=repeated(beginning, len(questions)),
        use_cache=True,
        logits_to_keep=nodes + 1,
    )
    return [
        _branches(out.logits[row], question.branches, tree.predictors)
        for row, (question, tree) in enumerate(zip(questions, trees, strict=True))
    ]


def _additive(sees: torch.Tensor, model: Any) -> torch.Tensor:
    """The mask that every attention implementation adds to its scores, of shape (rows, 1, queries, keys)."""
    hidden = torch.finfo(model.dtype).min
    mask = torch.zeros(sees.shape, dtype=model.dtype).masked_fill_(~sees, hidden)
    return mask.unsqueeze(1).to(model.device)


def _read_cached(model: Any, questions: Sequence[Question], beginning: DynamicCache) -> list[list[Branch]]:
    state = prefill(model, [question.prompt for question in questions], beginning)
    lines = [(row, branch) for row, question in enumerate(questions) for branch in question.branches]
    found: list[list[Branch]] = [[] for _ in questions]
    for some in _rows_at_once(lines, state.logits.shape[-1]):
        logits = read_behind(model, [row for row, _ in some], [branch for _, branch in some], state)
        for line, (row, branch) in enumerate(some):
            found[row] += _branches(logits[line], [branch], [range(len(branch))])
    return found


def _read_plain(model: Any, questions: Sequence[Question]) -> list[list[Branch]]:
    """One text at a time, without mask, padding or cache: right for every causal model, and what the other ways are measured against."""
    return [[_read_one(model, question.prompt, branch) for branch in question.branches] for question in questions]


def _read_one(model: Any, prompt: Tokens, branch: Tokens) -> Branch:
    ids = torch.tensor([[*prompt, *branch[:-1]]], device=model.device)
    logits = model(input_ids=ids, use_cache=False).logits[0, -len(branch) :]
    return _branches(logits, [branch], [range(len(branch))])[0]


def _rows_at_once(lines: Sequence[tuple[int, Tokens]], vocabulary: int) -> Iterator[list[tuple[int, Tokens]]]:
    some: list[tuple[int, Tokens]] = []
    longest = 0
    for line in lines:
        longest = max(longest, len(line[1]))
        if some and (len(some) == ROWS_PER_PASS or (len(some) + 1) * longest * vocabulary > LOGITS_PER_PASS):
            yield some
            some, longest = [], len(line[1])
        some.append(line)
    yield some


def _branches(logits: torch.Tensor, branches: Sequence[Tokens], predictors: Sequence[Sequence[int]]) -> list[Branch]:
    """Of one row's logits [places, vocabulary]: each branch, whose tokens were predicted at these places. Looked up at once, not branch by branch."""
    wide = logits.float()
    likeliest, norms = wide.argmax(dim=-1).tolist(), wide.logsumexp(dim=-1)
    places = torch.tensor([place for way in predictors for place in way], device=logits.device)
    tokens = torch.tensor([token for branch in branches for token in branch], device=logits.device)
    found = iter((wide[places, tokens] - norms[places]).tolist())
    return [
        Branch(tuple(islice(found, len(branch))), tuple(likeliest[place] for place in way))
        for branch, way in zip(branches, predictors, strict=True)
    ]
