"""Attention inside each packed row alone: everything else in the layers works on the pack, attention on its rows under each other.

A block-diagonal mask over the pack computes all of it and throws most away: for 16 rows of 24 tokens sixteen times as many products as needed.
Here queries, keys and values are laid under each other, one row each, before attention and put back behind each other after it. A row is
padded on its right only, which causal attention never looks at, so no mask is needed, and rows cannot meet.

Registered with transformers under `NAME`; bases that do not take attention from there, or do more in it, stay with what they have.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "ringi_rows"
# On a CPU torch's flash kernel cuts short rows into blocks that are mostly empty, and its other one computes all in float32; up to about this length plain
# products are faster.
_SHORT = 192


class Places(NamedTuple):
    """Where a pack's tokens are: `under` int64 (rows, longest), indices into the pack, anything in the padding; `behind` int64 (tokens,),
    indices into the flattened rows.
    """

    under: torch.Tensor
    behind: torch.Tensor


def places_of(lengths: list[int]) -> Places:
    """The places for rows of these lengths, in order."""
    size, longest = torch.tensor(lengths), max(lengths)
    along = torch.arange(longest)
    under = (size.cumsum(0) - size)[:, None] + torch.minimum(along, size[:, None] - 1)
    return Places(under, (along < size[:, None]).flatten().nonzero().flatten())


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    row_places: Places | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What `transformers.integrations.sdpa_attention_forward` answers, for `query`, `key` and `value` of shape (1, heads, tokens, width).

    Returns (1, tokens, heads, width). Raises ValueError where something else was asked of the attention than this.
    """
    asked = [name for name in ("softcap", "position_bias", "s_aux", "cache") if others.get(name) is not None]
    causal = others.get("is_causal") is not False and getattr(module, "is_causal", True)
    if row_places is None or attention_mask is not None or asked or not causal or query.shape[2] != key.shape[2]:
        raise ValueError(f"its attention asks for {', '.join(asked) or 'a mask, a cache or a look ahead'}")
    rows, longest = row_places.under.shape
    if query.device.type == "cpu" and longest <= _SHORT and not dropout and not (sliding_window and longest > sliding_window):
        return _short(query[0], key[0], value[0], row_places, query.shape[-1] ** -0.5 if scaling is None else scaling), None
    flat = row_places.under.flatten()
    groups = query.shape[1] // key.shape[1]
    queries, keys, values = [
        (one[0].repeat_interleave(groups, 0) if one is not query and groups > 1 else one[0])
        .index_select(1, flat)
        .unflatten(1, (rows, longest))  # type: ignore[no-untyped-call]
        .transpose(0, 1)
        for one in (query, key, value)
    ]
    window = None
    if sliding_window is not None and longest > sliding_window:
        ahead = torch.arange(longest, device=query.device)[:, None] - torch.arange(longest, device=query.device)
        window = (ahead >= 0) & (ahead < sliding_window)
    out = scaled_dot_product_attention(queries, keys, values, attn_mask=window, dropout_p=dropout, is_causal=window is None, scale=scaling)
    return out.transpose(1, 2).flatten(0, 1).index_select(0, row_places.behind)[None].contiguous(), None


def _short(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, places: Places, scale: float) -> torch.Tensor:
    """Short rows on a CPU, from (heads, tokens, width) to (1, tokens, heads, width), as products of small matrices.

    Products are in the precision that the layers compute in, as in transformers' eager attention; torch's softmax adds up in float32. Query heads that share a key
    head stand under each other, so keys and values are not repeated.
    """
    rows, longest = places.under.shape
    (heads, _, width), shared = query.shape, key.shape[0]
    groups, flat = heads // shared, places.under.flatten()
    asked = query.index_select(1, flat).view(shared, groups, rows, longest, width).transpose(1, 2)
    keys, values = (one.index_select(1, flat).view(shared * rows, longest, width) for one in (key, value))
    asked = asked.reshape(shared * rows, groups * longest, width)
    scores = torch.baddbmm(_ahead(longest, groups).to(asked.dtype), asked, keys.transpose(1, 2), alpha=scale)
    out = torch.bmm(scores.softmax(-1), values).view(shared, rows, groups, longest, width)
    return out.permute(1, 3, 0, 2, 4).reshape(rows * longest, heads, width).index_select(0, places.behind)[None]


@lru_cache(maxsize=_SHORT)
def _ahead(longest: int, groups: int) -> torch.Tensor:
    """What is added to scores so that no token sees a later one: float32 (1, groups * longest, longest)."""
    # Asked for the first time where nothing is learnt, it must do where something is.
    with torch.inference_mode(mode=False):
        return torch.full((longest, longest), -torch.inf).triu(1).repeat(groups, 1)[None]


AttentionInterface.register(NAME, attend)
