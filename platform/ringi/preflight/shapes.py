"""From a `config.json` to the shape of a model: its matrices, its parameters to the last one, and which of them an adapter meets. Pure.

Comes before memory.py and compute.py, which ask nothing but the shape and the workload.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ringi.base_models.config_defaults import ALIASES
from ringi.jobs.contracts.methods import ALL_LINEAR, SUGGESTED
from ringi.kit.errors import InvalidInput
from ringi.preflight.families import FAMILIES, Layout, Linear

# Stand for modules that the worker finds: what peft recommends for a family is not known here, and every matrix is the most that it can be.
WORDS = frozenset({ALL_LINEAR, SUGGESTED})
_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
# Far above what is built; a hostile config must not make Python compute with numbers of a thousand digits.
_LARGEST = 2**31


class UnknownShape(InvalidInput):
    """The config describes an architecture whose parameters are not counted here."""

    code = "preflight_unknown_shape"

    def __init__(self, model_type: object) -> None:
        named = f"model_type '{model_type}'" if isinstance(model_type, str) and model_type else "no model_type"
        super().__init__(
            f"The config has {named}, whose shape is not known here, so nothing is forecast.",
            next_step=f"Known are: {', '.join(sorted(FAMILIES))}. Start the run without a forecast, or measure it on a worker.",
            details={"model_type": str(model_type)[:64], "known": sorted(FAMILIES)},
        )


class ShapeInvalid(InvalidInput):
    """A size in the config is no positive whole number, or the sizes contradict each other."""

    code = "preflight_shape_invalid"

    def __init__(self, reason: str) -> None:
        super().__init__(f"The config describes no model: {reason}.", next_step="Correct config.json, and ask again.")


@dataclass(frozen=True)
class Shape:
    """A model as far as memory and time follow from it. Sizes in elements; `context` is the number of positions that it was made for."""

    model_type: str
    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    classifies: bool
    attention_dropout: float
    layout: Layout

    @property
    def encoder(self) -> bool:
        """Whether it reads a text both ways, and writes none."""
        return FAMILIES[self.model_type].classifies

    def with_head_for(self, classes: int) -> "Shape":
        """The same as a classifier of so many classes: a small head of its own, in a language model in place of the one over the vocabulary."""
        head = self.layout._replace(head=(self.layout.head[0], classes), tied=False, head_bias=self.encoder)
        return replace(self, classifies=True, layout=head)

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The matrices of one layer."""
        return self.layout.linears

    @property
    def head_parameters(self) -> int:
        """Parameters of the output head that are its own: none where it is the embedding."""
        inputs, outputs = self.layout.head
        return 0 if self.layout.tied else inputs * outputs + (outputs if self.layout.head_bias else 0)

    @property
    def matrix_parameters(self) -> int:
        """Weights and biases of the matrices of all layers: what a token is multiplied with, and what is stored in 4 or 8 bits."""
        return self.layers * sum(one.parameters for one in self.linears)

    @property
    def parameters(self) -> int:
        """All parameters, a tied head once: sum of `numel` over `model.parameters()`."""
        own = self.matrix_parameters + self.layers * self.layout.norms
        return own + self.layout.lookups + self.layout.around + self.head_parameters

    def matched(self, targets: Iterable[str]) -> tuple[Linear, ...]:
        """The matrices of a layer that the names mean: as peft matches them, equal to the module's name or its end after a dot."""
        wanted = set(targets)
        if WORDS & wanted:
            return self.linears
        return tuple(one for one in self.linears if any(_means(target, one.name, self) for target in wanted))

    @property
    def module_names(self) -> list[str]:
        """What targets are chosen from: the last words of the matrices' names."""
        return sorted({one.name.rpartition(".")[2] for one in self.linears})

    def unmatched(self, targets: Iterable[str]) -> tuple[str, ...]:
        """Names that mean no matrix of the layers."""
        return tuple(sorted(one for one in set(targets) - WORDS if not any(_means(one, linear.name, self) for linear in self.linears)))

    def lora_parameters(self, *, rank: int, targets: Iterable[str]) -> int:
        """A and B of every adapted matrix: rank x (inputs + outputs). Source: Hu et al. 2021, arXiv:2106.09685, section 4.1."""
        return self.layers * rank * sum(one.inputs + one.outputs for one in self.matched(targets))


def shape_of(config: Mapping[str, Any]) -> Shape:
    """The shape of a parsed `config.json`; raises UnknownShape and ShapeInvalid."""
    model_type = config.get("model_type")
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None or not isinstance(model_type, str):
        raise UnknownShape(model_type)
    if config.get("quantization_config"):
        raise ShapeInvalid("its weights are stored quantised; forecast the unquantised base and choose a quantisation")
    known = {**_named(family.defaults, model_type), **_named(config, model_type)}
    for size in _SIZES:
        _require_size(known, size)
    for size in ("intermediate_size", "num_key_value_heads", "head_dim", "n_inner"):
        if known.get(size) is not None:
            _require_size(known, size)
    heads = known["num_attention_heads"]
    if known.get("head_dim") is None and known["hidden_size"] % heads:
        raise ShapeInvalid(f"hidden_size {known['hidden_size']} is not a multiple of num_attention_heads {heads}")
    layout = family.layout(known)
    dropout = next((known[key] for key in ("attention_dropout", "attn_pdrop", "attention_probs_dropout_prob") if key in known), 0.0)
    return Shape(
        model_type=model_type, layers=known["num_hidden_layers"], hidden=known["hidden_size"], inner=_inner(layout),
        heads=heads, kv_heads=known.get("num_key_value_heads") or heads, head_dim=known.get("head_dim") or known["hidden_size"] // heads,
        vocab=known["vocab_size"], context=_context(known, model_type), classifies=family.classifies,
        attention_dropout=float(dropout) if isinstance(dropout, int | float) else 0.0, layout=layout,
    )  # fmt: skip


def _named(config: Mapping[str, Any], model_type: str) -> dict[str, Any]:
    """The config under the names that all families share: gpt2 calls its sizes otherwise."""
    shared = {own: common for common, own in ALIASES.get(model_type, {}).items()}
    return {shared.get(key, key): value for key, value in config.items()}


def _context(known: Mapping[str, Any], model_type: str) -> int:
    """How many tokens a row may have: RoBERTa's first position is the one behind its padding token's number."""
    positions, padding = int(known["max_position_embeddings"]), known.get("pad_token_id", 1)
    return positions - padding - 1 if model_type in {"roberta", "xlm-roberta"} and isinstance(padding, int) else positions


def _inner(layout: Layout) -> int:
    """Width of the MLP: inputs of the matrix that leads back to the hidden size."""
    return layout.linears[-1].inputs


def _require_size(known: Mapping[str, Any], key: str) -> None:
    value = known.get(key)
    if type(value) is not int or not 0 < value < _LARGEST:
        raise ShapeInvalid(f"'{key}' is not a positive whole number")


def _means(target: str, name: str, shape: Shape) -> bool:
    # A full name holds the number of its layer, so it means one layer's matrix; any layer is enough to match.
    full = target.split(".")
    if target.startswith(f"{shape.layout.prefix}.") and len(full) > shape.layout.prefix.count(".") + 2:
        return target.endswith(f".{name}")
    return name == target or name.endswith(f".{target}")
