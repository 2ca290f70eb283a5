"""The rows of an optimiser step as forward passes: packed behind each other without padding, or padded to a rectangle.

A packed pass is one sequence whose positions begin again at every row, and no attention mask. Attention is then computed row by row
(training/row_attention.py), or by what transformers 5.23 makes of such positions itself: for SDPA, eager and flex attention
`masking_utils.find_packed_sequence_indices` finds the rows and makes the mask block-diagonal, with sliding windows inside each row; flash
attention takes the rows' lengths from the positions (`modeling_flash_attention_utils._is_packed_sequence`), which needs a batch of one
sequence, as here. A base whose layers look at neither (recurrent ones; positions that the model makes itself) mixes the rows: `separation`
asks the loaded base before anything is trained.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.nn.functional import cross_entropy
from transformers.utils import is_flash_attn_2_available

from ringi_workers.failures import ran_out_of_memory
from ringi_workers.training.cross_entropy import Head, chunked, fusable, fused_sum, labels_at_once
from ringi_workers.training.data import IGNORED, Example, collate
from ringi_workers.training.row_attention import NAME as BY_ROWS
from ringi_workers.training.row_attention import Places, places_of

# How far a row's loss may lie from that of the row alone: rounding, which in bf16 is coarse.
TOLERANCE = {torch.float32: 1e-4}
COARSE = 2e-2
FLASH = "flash_attention_2"
log = logging.getLogger("ringi.job")
# Other tokens in one row may not move another row's loss: the shapes are the same, so not even rounding differs by more.
LEAK = 1e-5


class Pass(NamedTuple):
    """One forward pass over some rows, and what is asked of it.

    `ids` int64 (rows, longest), or (1, tokens) packed; `mask` like it, None packed; `positions` like it, None padded. `keep`, bool like it:
    where logits are computed, which predict `targets` (labels,) in this order. `owners` (labels,): which of the rows a target belongs to.
    `tokens` without padding, of `rows` rows. `places` for attention row by row. `head`: None where the model computes all logits itself.
    Of a classifier `keep` is None, and the targets are its rows' classes.
    """

    ids: torch.Tensor
    mask: torch.Tensor | None
    positions: torch.Tensor | None
    keep: torch.Tensor | None
    targets: torch.Tensor
    owners: torch.Tensor
    tokens: int
    rows: int
    places: Places | None = None
    head: Head | None = None


def packed(rows: Sequence[Example], *, by_rows: bool = False) -> Pass:
    """The rows behind each other. The first token of a row is never learnt: what stands before it belongs to another row."""
    lengths = [len(row.input_ids) for row in rows]
    ids = torch.tensor([[token for row in rows for token in row.input_ids]])
    labels = torch.tensor([[label for row in rows for label in row.labels]])
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    owners = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(lengths))[None]
    learnt = (labels != IGNORED) & (positions > 0)
    return Pass(
        ids, None, positions, _before(learnt), labels[learnt], owners[learnt], ids.numel(), len(rows),
        places_of(lengths) if by_rows else None,
    )  # fmt: skip


def padded(rows: Sequence[Example], pad_id: int) -> Pass:
    """The rows under each other, padded on the right."""
    batch = collate(rows, pad_id)
    if classes := [row.class_id for row in rows if row.class_id is not None]:
        return Pass(batch.ids, batch.mask, None, None, torch.tensor(classes), torch.arange(len(rows)), int(batch.mask.sum()), len(rows))
    learnt = batch.labels != IGNORED
    learnt[:, 0] = False
    owners = torch.arange(len(rows))[:, None].expand_as(learnt)
    return Pass(batch.ids, batch.mask, None, _before(learnt), batch.labels[learnt], owners[learnt], int(batch.mask.sum()), len(rows))


def _before(learnt: torch.Tensor) -> torch.Tensor:
    """The places whose logits predict the tokens at `learnt`: one to the left, in the same order."""
    return torch.cat([learnt[:, 1:], torch.zeros_like(learnt[:, :1])], dim=1)


def cut(rows: Sequence[Example], *, most_rows: int, most_tokens: int | None) -> Iterator[list[int]]:
    """The indices of `rows` in order, in groups of at most so many rows and tokens; a longer row stands alone."""
    group: list[int] = []
    tokens = 0
    for index, row in enumerate(rows):
        length = len(row.input_ids)
        if group and (len(group) == most_rows or (most_tokens is not None and tokens + length > most_tokens)):
            yield group
            group, tokens = [], 0
        group.append(index)
        tokens += length
    if group:
        yield group


@dataclass
class Layout:
    """How rows become forward passes: packed in at most `pack_length` tokens or padded with `pad_id`, at most `most_rows` rows each.

    `by_rows`: the attention of packed rows is computed row by row. `most_rows` shrinks when the device has no room, and never grows again.
    `head`: how the last layer is computed where not by the model itself.
    """

    packed: bool
    pack_length: int
    pad_id: int
    most_rows: int
    by_rows: bool = False
    head: Head | None = None

    def passes(self, rows: Sequence[Example]) -> list[Pass]:
        """All rows in order, in as few passes as the bounds allow."""
        groups = cut(rows, most_rows=self.most_rows, most_tokens=self.pack_length if self.packed else None)
        picked = ([rows[index] for index in group] for group in groups)
        found = (packed(group, by_rows=self.by_rows) if self.packed else padded(group, self.pad_id) for group in picked)
        return [one._replace(head=self.head) for one in found]


def computes_in(model: Any) -> torch.dtype:
    """What its products are computed in: the dtype of its weights, unless they learn themselves, in float32 whatever that is (full.py)."""
    chosen: torch.dtype = getattr(model, "computing", model.dtype)
    return chosen


def precision(model: Any) -> AbstractContextManager[Any]:
    """Mixed precision where products are in bf16, because what learns is float32; nothing over others."""
    return torch.autocast(model.device.type, torch.bfloat16, enabled=computes_in(model) == torch.bfloat16)


def _kept(model: Any, one: Pass) -> torch.Tensor:
    """Where a language model's logits are computed."""
    if one.keep is None:
        raise ValueError("a classifier has no logits of tokens")
    return one.keep.to(model.device)


def _inputs(model: Any, one: Pass) -> dict[str, Any]:
    device = model.device
    layout = {"position_ids": one.positions} if one.mask is None else {"attention_mask": one.mask}
    inputs: dict[str, Any] = {name: tensor.to(device) for name, tensor in layout.items() if tensor is not None}
    if one.places is not None:
        inputs["row_places"] = Places(*(tensor.to(device) for tensor in one.places))
    return inputs | {"input_ids": one.ids.to(device), "use_cache": False}


def token_losses(model: Any, one: Pass) -> torch.Tensor:
    """Negative log-likelihood of each target in nats, float32 of shape (labels,)."""
    targets = one.targets.to(model.device)
    if one.keep is None:
        return cross_entropy(class_logits(model, one), targets, reduction="none")
    with precision(model):
        if one.head is not None and len(targets) > one.head.at_once:
            return chunked(model.get_output_embeddings(), hidden_states(model, one), targets, at_once=one.head.at_once)
        # Chosen by a mask, the logits come as (labels, vocabulary): none is computed where nothing is learnt.
        output = model(logits_to_keep=_kept(model, one), **_inputs(model, one))
    return cross_entropy(output.logits.float(), targets, reduction="none")


def summed_loss(model: Any, one: Pass) -> torch.Tensor:
    """Their sum, float32 of shape (); what a step learns from."""
    if one.head is None or not one.head.fused:
        return token_losses(model, one).sum()
    with precision(model):
        return fused_sum(model.get_output_embeddings(), hidden_states(model, one), one.targets.to(model.device))


def hidden_states(model: Any, one: Pass) -> torch.Tensor:
    """What the last layer makes the logits of the targets from, (labels, width)."""
    states: torch.Tensor = _inner(model).base_model(**_inputs(model, one)).last_hidden_state[_kept(model, one)]
    return states


def head_for(model: Any, examples: Sequence[Example], layout: Layout) -> Head | None:
    """How to compute the last layer for passes of this layout.

    None where all logits fit memory anyway and no kernel does better, and where they are not just the last layer's (capped, scaled): that is asked
    of the model, with its shortest row. Draws nothing at random.
    """
    layer = model.get_output_embeddings()
    if layer is None:
        return None
    longest = max(len(row.input_ids) for row in examples)
    most_tokens = max(layout.pack_length, longest) if layout.packed else layout.most_rows * longest
    at_once, fused = labels_at_once(model.device, layer.weight.shape[0]), fusable(layer, model.device)
    if not fused and most_tokens <= at_once:
        return None
    was_training, one = model.training, padded([min(examples, key=lambda row: len(row.input_ids))], layout.pad_id)
    model.eval()
    same = False
    try:
        with torch.inference_mode(), precision(model):
            wanted = model(logits_to_keep=_kept(model, one), **_inputs(model, one)).logits.float()
            found = layer(hidden_states(model, one)).float()
            same = bool(((found - wanted).abs() <= TOLERANCE.get(computes_in(model), COARSE) * wanted.abs().clamp(min=1)).all())
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        if ran_out_of_memory(error):
            raise
    model.train(was_training)
    return Head(at_once, fused) if same else None


def class_logits(model: Any, one: Pass) -> torch.Tensor:
    """Of a classifier: float32 (rows, classes)."""
    mask, ids = one.mask.to(model.device) if one.mask is not None else None, one.ids.to(model.device)
    with precision(model):
        return torch.as_tensor(model(input_ids=ids, attention_mask=mask).logits).float()


def row_losses(model: Any, one: Pass) -> torch.Tensor:
    """Mean negative log-likelihood per label token of each row in nats, float32 (rows,) on the CPU; NaN for a row without a label."""
    losses = token_losses(model, one).cpu()
    total = torch.zeros(one.rows).index_add_(0, one.owners, losses)
    return total / torch.bincount(one.owners, minlength=one.rows)


class Separation(NamedTuple):
    """Whether the base keeps packed rows apart: with attention row by row, with its own, or, for `reason`, with neither."""

    packed: bool
    by_rows: bool
    reason: str


def separation(model: Any, examples: Sequence[Example], *, most_tokens: int) -> Separation:
    """Try it on four rows, from the longest that fits to the shortest, and leave the model with the attention that keeps them apart.

    Packed, each must lose what it loses alone, and must go on doing so to the last digit when the tokens of the row before are others.
    Draws nothing at random.
    """
    fitting = sorted((row for row in examples if 4 * len(row.input_ids) <= most_tokens), key=lambda row: -len(row.input_ids))
    if not fitting:
        return Separation(False, False, f"four of its rows do not fit {most_tokens} tokens")
    rows = [fitting[(len(fitting) - 1) * third // 3] for third in range(4)]
    was_training, own = model.training, attention_of(model)
    model.eval()
    with torch.inference_mode():
        alone = torch.cat([row_losses(model, padded([row], 0)) for row in rows])
        # Flash attention takes the rows of a pack as they lie; any other computes a pack's mask.
        for by_rows in (own != FLASH, own == FLASH):
            set_attention(model, BY_ROWS if by_rows else own)
            reason = _apart(model, rows, alone, by_rows=by_rows)
            if reason is None:
                break
        else:
            set_attention(model, own)
    model.train(was_training)
    return Separation(reason is None, by_rows and reason is None, reason or "")


def prefer_flash(model: Any) -> None:
    """Flash attention where there is a GPU, the worker has it installed, and the model takes it; else what transformers chose, which is SDPA."""
    if model.device.type == "cuda" and is_flash_attn_2_available():
        try:
            set_attention(model, FLASH)
        except (ValueError, ImportError) as error:
            log.info("no flash attention: %s", error)


def attention_of(model: Any) -> str:
    """Transformers' name of the attention that the model computes."""
    return str(_inner(model).config._attn_implementation)  # noqa: SLF001  # transformers has no other name for it


def set_attention(model: Any, name: str) -> None:
    """Make the layers take their attention from transformers' register under that name, where they take it from there at all."""
    _inner(model).set_attn_implementation(name)


def _inner(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _apart(model: Any, rows: Sequence[Example], alone: torch.Tensor, *, by_rows: bool) -> str | None:
    """Why the rows are not kept apart, or None where they are."""
    try:
        together = row_losses(model, packed(rows, by_rows=by_rows))
        changed = row_losses(model, packed([_other(rows[0]), *rows[1:]], by_rows=by_rows))
    except (TypeError, ValueError, RuntimeError) as error:
        if ran_out_of_memory(error):
            raise
        return f"it cannot be asked: {error}"
    apart = float(((together - alone).abs() / alone.clamp(min=1)).max())
    moved = float((changed - together)[1:].abs().max())
    # Written so that NaN is no agreement.
    if not apart <= TOLERANCE.get(computes_in(model), COARSE):
        return f"a row's loss in the pack differs by {apart:.2g} from that of the row alone"
    if not moved <= LEAK:
        return f"a row's loss moves by {moved:.2g} with the tokens of another row"
    return None


def _other(row: Example) -> Example:
    """A row of the same length with other tokens: backwards, and each another one of the vocabulary."""
    return row._replace(input_ids=tuple(abs(token - 1) for token in reversed(row.input_ids)))
