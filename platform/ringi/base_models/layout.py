"""Part F2, layout: which canonical records one stored tensor becomes. Pure; a fused tensor and its split twins give equal records.

A stored tensor is cut by rows (a row: one index of the last dimension, of a matrix or of a stack of matrices), so each piece is one
run of bytes and its digest is the digest of the split tensor. The canonical form is the split one, under the names of the files that
transformers 4 wrote. Mapped, by the `model_type` of the text configuration:

- phi3: `self_attn.qkv_proj` rows are q | k | v (`num_attention_heads`, `num_key_value_heads` times `head_dim`), weight and bias;
- phi3, glm, glm4: `mlp.gate_up_proj` rows are gate | up;
- mixture-of-experts types (`_SPLIT_EXPERTS`): `experts.gate_up_proj` [experts, gate | up, hidden] and `experts.down_proj` [experts,
  hidden, intermediate] are the experts' own matrices one after the other, not transposed; some call them `w1`, `w3` and `w2`, and some
  have their block under `block_sparse_moe`. Source: `conversion_mapping.py` of transformers 5.23.0; `tests/base_models/test_layout.py`
  compares the table with the installed library.

Not mapped, because their files have one layout and no twin: gpt2 `c_attn` (by columns), gpt_neox and bloom `query_key_value` (by head),
gpt_oss and qwen3_vl_moe experts (transposed in the file, turned when loaded). Not mapped either: types that also rename other modules
between versions (ernie4_5_moe, exaone_moe, deepseek_v4 and more), every model_type that is not listed, packed quantised tensors and
their scales, a tensor whose rows do not fit the configuration. Two layouts of those compare as removed and added tensors, never as equal.

Padding: rows of the embedding and the head that no token of the tokenizer has are a record of their own, `NAME#padding`, outside the
root. `#` is in no stored name. Without a known tokenizer nothing is cut.
"""

import re
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

PADDING = "#padding"
HEAD = "lm_head.weight"
EMBEDDINGS = ("model.embed_tokens.weight", "transformer.wte.weight", "wte.weight", "embed_tokens.weight")

# [experts, rows, columns].
_STACK_RANK = 3
_VOCABULARY_ROWS = frozenset({HEAD, "lm_head.bias", *EMBEDDINGS})
_FUSED_QKV = frozenset({"phi3"})
_FUSED_MLP = frozenset({"phi3", "glm", "glm4"})
# Gate, up and down as the split files call an expert's matrices.
_SPLIT_EXPERTS: Mapping[str, tuple[str, str, str]] = {
    **dict.fromkeys(("lfm2_moe", "minimax", "minimax_m2", "mixtral", "phimoe"), ("w1", "w3", "w2")),
    **dict.fromkeys(
        (
            "afmoe", "beam", "cohere2_moe", "deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1", "flex_olmo", "glm4_moe", "glm4_moe_lite",
            "glm4v_moe", "glm_moe_dsa", "hunyuan_v1_moe", "jamba", "longcat_flash", "mellum", "olmoe", "qwen2_moe", "qwen3_moe", "qwen3_next",
            "qwen3_omni_moe", "qwen3_omni_moe_text", "qwen3_omni_moe_thinker", "solar_open",
        ),
        ("gate_proj", "up_proj", "down_proj"),
    ),
}  # fmt: skip
_BLOCK_SPARSE = frozenset({"minimax", "minimax_m2", "mixtral", "phimoe"})
_QKV = re.compile(r"(?P<module>.*\.self_attn)\.qkv_proj\.(?P<kind>weight|bias)")
_MLP = re.compile(r"(?P<module>.*\.mlp)\.gate_up_proj\.(?P<kind>weight|bias)")
_EXPERTS = re.compile(r"(?P<module>.*\.experts)\.(?P<kind>gate_up_proj|down_proj)")
_BLOCK = re.compile(r"(?P<layer>.*\blayers\.\d+)\.mlp\.")


class Piece(NamedTuple):
    """A run of a stored tensor's elements: `shape` from element `first` on, row-major. `in_root` False: recorded beside the root."""

    name: str
    shape: tuple[int, ...]
    first: int = 0
    in_root: bool = True


def canonical_pieces(name: str, shape: tuple[int, ...], config: Mapping[str, Any], vocabulary: int | None) -> tuple[Piece, ...]:
    """The records of one stored tensor; together they cover it, in the order of its bytes.

    `name` is without wrappers (`canonical_name`), `config` the canonical text configuration, `vocabulary` the tokenizer's length
    (highest id + 1, added tokens included), None when unknown.
    """
    model_type = str(config.get("model_type"))
    if model_type in _BLOCK_SPARSE:
        name = _BLOCK.sub(r"\g<layer>.block_sparse_moe.", name)
    if model_type == "phimoe":
        name = name.replace(".block_sparse_moe.router.", ".block_sparse_moe.gate.")
    if name in _VOCABULARY_ROWS:
        return _vocabulary_rows(name, shape, vocabulary)
    if len(shape) in {1, 2}:
        if model_type in _FUSED_QKV and (found := _QKV.fullmatch(name)):
            return _split(name, shape, found, ("q_proj", "k_proj", "v_proj"), _qkv_rows(config))
        if model_type in _FUSED_MLP and (found := _MLP.fullmatch(name)):
            return _split(name, shape, found, ("gate_proj", "up_proj"), (shape[0] // 2,) * 2)
    elif len(shape) == _STACK_RANK and model_type in _SPLIT_EXPERTS and (found := _EXPERTS.fullmatch(name)):
        return _experts(name, shape, found, _SPLIT_EXPERTS[model_type])
    return (Piece(name, shape),)


def _vocabulary_rows(name: str, shape: tuple[int, ...], vocabulary: int | None) -> tuple[Piece, ...]:
    if not vocabulary or len(shape) not in {1, 2} or shape[0] <= vocabulary:
        return (Piece(name, shape),)
    used, padding = _rows((name, name + PADDING), (vocabulary, shape[0] - vocabulary), shape[1:])
    return used, padding._replace(in_root=False)


def _split(
    name: str, shape: tuple[int, ...], found: re.Match[str], projections: Sequence[str], rows: Sequence[int] | None
) -> tuple[Piece, ...]:
    if rows is None or sum(rows) != shape[0] or min(rows) < 1:
        return (Piece(name, shape),)
    return _rows([f"{found['module']}.{projection}.{found['kind']}" for projection in projections], rows, shape[1:])


def _experts(name: str, shape: tuple[int, ...], found: re.Match[str], split: tuple[str, str, str]) -> tuple[Piece, ...]:
    experts, rows, columns = shape
    gate, up, down = split
    projections = (gate, up) if found["kind"] == "gate_up_proj" else (down,)
    each, odd = divmod(rows, len(projections))
    if odd or not each or not experts:
        return (Piece(name, shape),)
    names = [f"{found['module']}.{expert}.{projection}.weight" for expert in range(experts) for projection in projections]
    return _rows(names, [each] * len(names), (columns,))


def _rows(names: Sequence[str], rows: Sequence[int], columns: tuple[int, ...]) -> tuple[Piece, ...]:
    """Pieces of `rows` rows, one after the other; `columns` is () for a bias."""
    width = columns[0] if columns else 1
    starts = accumulate(rows[:-1], initial=0)
    return tuple(Piece(name, (count, *columns), start * width) for name, count, start in zip(names, rows, starts, strict=True))


def _qkv_rows(config: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """Rows of q, k and v; None where the configuration does not say. Absent kv heads are as many as heads, as in the phi3 class."""
    heads, hidden = config.get("num_attention_heads"), config.get("hidden_size")
    if not isinstance(heads, int) or heads < 1:
        return None
    shared = config.get("num_key_value_heads") or heads
    size = config.get("head_dim") or (hidden // heads if isinstance(hidden, int) else None)
    if not isinstance(shared, int) or not isinstance(size, int):
        return None
    return heads * size, shared * size, shared * size


_FUSED_MODULES = {"self_attn.qkv_proj": ("q_proj", "k_proj", "v_proj"), "mlp.gate_up_proj": ("gate_proj", "up_proj")}


def names_of(name: str) -> tuple[str, ...]:
    """Under which canonical names the records of a tensor may stand: its own, and those of its pieces where its module is a fused one."""
    for fused, pieces in _FUSED_MODULES.items():
        before, found, after = name.partition(f".{fused}.")
        if found:
            parent = fused.partition(".")[0]
            return (name, *(f"{before}.{parent}.{piece}.{after}" for piece in pieces))
    return (name,)
