"""What a `config.json` of each known family means: which matrices a layer has, and what stands around the layers.

A key that is absent has the value that the configuration class of transformers 5.23.0 gives it, because that class will read the file on the
worker; a family that is not in the table is refused (`shapes.py`) and never guessed. Sources: `configuration_*.py` and `modeling_*.py` of
transformers 5.23.0; tests/preflight/test_shapes.py counts the same models on torch's meta device and compares to the parameter.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ringi.base_models.config_defaults import DEFAULTS

Config = Mapping[str, Any]


class Linear(NamedTuple):
    """One matrix of a layer: `name` within the layer, `outputs` x `inputs` weights, and `outputs` more where it has a bias."""

    name: str
    inputs: int
    outputs: int
    bias: bool

    @property
    def parameters(self) -> int:
        """Weights and bias."""
        return self.inputs * self.outputs + (self.outputs if self.bias else 0)


class Layout(NamedTuple):
    """What a family makes of a config.

    `norms`: parameters of a layer's norms. `lookups`: parameters that are read by row and not multiplied (embeddings). `around`: the other
    parameters outside the layers, output head excluded. `head`: matrix of the output head as (inputs, outputs). `tied`: it is the embedding.
    `wide_norms`, `head_norms`: norms of a layer over the hidden size, and over the heads of q and k. `mlp_saved`: tensors of the inner
    size that a layer's MLP keeps for its backward pass.
    """

    prefix: str
    linears: tuple[Linear, ...]
    norms: int
    lookups: int
    around: int
    head: tuple[int, int]
    head_bias: bool
    tied: bool
    wide_norms: int
    head_norms: bool
    mlp_saved: int
    fixed_positions: bool


class Family(NamedTuple):
    """Defaults of its keys, and how they are read. `classifies`: counted with a classification head and not as a language model."""

    defaults: Config
    layout: Callable[[Config], Layout]
    classifies: bool = False


def _heads(config: Config) -> tuple[int, int]:
    """Widths of q and of k and v."""
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    size = config.get("head_dim") or config["hidden_size"] // heads
    return heads * size, kv_heads * size


def _decoder(
    config: Config, *, qkv_bias: bool = False, o_bias: bool = False, mlp_bias: bool = False, wide_norms: int = 2, head_norms: bool = False
) -> Layout:
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    q, kv = _heads(config)
    size = q // config["num_attention_heads"]
    linears = (
        Linear("self_attn.q_proj", hidden, q, qkv_bias),
        Linear("self_attn.k_proj", hidden, kv, qkv_bias),
        Linear("self_attn.v_proj", hidden, kv, qkv_bias),
        Linear("self_attn.o_proj", q, hidden, o_bias),
        Linear("mlp.gate_proj", hidden, inner, mlp_bias),
        Linear("mlp.up_proj", hidden, inner, mlp_bias),
        Linear("mlp.down_proj", inner, hidden, mlp_bias),
    )
    return Layout(
        prefix="model.layers", linears=linears, norms=wide_norms * hidden + (2 * size if head_norms else 0), lookups=vocab * hidden,
        around=hidden, head=(hidden, vocab), head_bias=False, tied=bool(config["tie_word_embeddings"]), wide_norms=wide_norms,
        head_norms=head_norms, mlp_saved=3, fixed_positions=False,
    )  # fmt: skip


def _llama(config: Config) -> Layout:
    bias = bool(config["attention_bias"])
    return _decoder(config, qkv_bias=bias, o_bias=bias, mlp_bias=bool(config["mlp_bias"]))


def _gemma(config: Config) -> Layout:
    bias = bool(config["attention_bias"])
    return _decoder(config, qkv_bias=bias, o_bias=bias)


def _gemma2(config: Config) -> Layout:
    bias = bool(config["attention_bias"])
    return _decoder(config, qkv_bias=bias, o_bias=bias, wide_norms=4)


def _gemma3(config: Config) -> Layout:
    bias = bool(config["attention_bias"])
    return _decoder(config, qkv_bias=bias, o_bias=bias, wide_norms=4, head_norms=True)


def _qwen3(config: Config) -> Layout:
    bias = bool(config["attention_bias"])
    return _decoder(config, qkv_bias=bias, o_bias=bias, head_norms=True)


def _gpt2(config: Config) -> Layout:
    hidden, vocab = config["hidden_size"], config["vocab_size"]
    inner = config.get("n_inner") or 4 * hidden
    linears = (
        Linear("attn.c_attn", hidden, 3 * hidden, bias=True),
        Linear("attn.c_proj", hidden, hidden, bias=True),
        Linear("mlp.c_fc", hidden, inner, bias=True),
        Linear("mlp.c_proj", inner, hidden, bias=True),
    )
    return Layout(
        prefix="transformer.h", linears=linears, norms=4 * hidden, lookups=(vocab + config["max_position_embeddings"]) * hidden, around=2 * hidden,
        head=(hidden, vocab), head_bias=False, tied=bool(config["tie_word_embeddings"]), wide_norms=2, head_norms=False,
        # gelu_new is written out: x, half of x, tanh and one plus tanh are kept.
        mlp_saved=4, fixed_positions=True,
    )  # fmt: skip


def _encoder(config: Config, *, prefix: str, pooler: bool, dense_head: bool) -> Layout:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    square = hidden * hidden + hidden
    linears = (
        Linear("attention.self.query", hidden, hidden, bias=True),
        Linear("attention.self.key", hidden, hidden, bias=True),
        Linear("attention.self.value", hidden, hidden, bias=True),
        Linear("attention.output.dense", hidden, hidden, bias=True),
        Linear("intermediate.dense", hidden, inner, bias=True),
        Linear("output.dense", inner, hidden, bias=True),
    )
    rows = config["vocab_size"] + config["max_position_embeddings"] + config["type_vocab_size"]
    return Layout(
        prefix=prefix, linears=linears, norms=4 * hidden, lookups=rows * hidden, around=2 * hidden + square * (int(pooler) + int(dense_head)),
        head=(hidden, _labels(config)), head_bias=True, tied=False, wide_norms=2, head_norms=False, mlp_saved=1, fixed_positions=True,
    )  # fmt: skip


def _labels(config: Config) -> int:
    labels = config.get("id2label")
    # Two is the number that the configuration class starts from.
    return len(labels) if isinstance(labels, Mapping) and labels else int(config.get("num_labels") or 2)


def _bert(config: Config) -> Layout:
    return _encoder(config, prefix="bert.encoder.layer", pooler=True, dense_head=False)


def _roberta(config: Config) -> Layout:
    return _encoder(config, prefix="roberta.encoder.layer", pooler=False, dense_head=True)


_GEMMA: Config = {
    "vocab_size": 256000, "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 16, "head_dim": 256, "max_position_embeddings": 8192, "tie_word_embeddings": True, "attention_bias": False,
}  # fmt: skip
_GEMMA3: Config = {
    "vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 256, "max_position_embeddings": 131072, "tie_word_embeddings": True, "attention_bias": False,
}  # fmt: skip
_BERT: Config = {
    "vocab_size": 30522, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "max_position_embeddings": 512, "type_vocab_size": 2, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip
_ROBERTA: Config = {**_BERT, "vocab_size": 50265}

FAMILIES: Mapping[str, Family] = {
    "llama": Family(DEFAULTS["llama"], _llama),
    "mistral": Family(DEFAULTS["mistral"], _decoder),
    "qwen2": Family(DEFAULTS["qwen2"], lambda config: _decoder(config, qkv_bias=True)),
    "qwen3": Family(DEFAULTS["qwen3"], _qwen3),
    "gemma": Family(_GEMMA, _gemma),
    "gemma2": Family(DEFAULTS["gemma2"], _gemma2),
    "gemma3_text": Family(_GEMMA3, _gemma3),
    "gpt2": Family(DEFAULTS["gpt2"], _gpt2),
    "bert": Family(_BERT, _bert, classifies=True),
    "roberta": Family(_ROBERTA, _roberta, classifies=True),
    "xlm-roberta": Family(_ROBERTA, _roberta, classifies=True),
}
