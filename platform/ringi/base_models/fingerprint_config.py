"""Part F1 of the base fingerprint: the canonical form of `config.json` and its BLAKE3 digest.

The document is `{"scheme": "f1/1", "defaults": ..., "config": {...}, "train_only": {...}}`. `f1` = BLAKE3-256 of the RFC 8785 form of
the first three; dropouts act in training only, so they are kept beside the identity and not in it. Canonical means: keys without
influence on a forward pass are dropped; rotary settings are in the form of `rope_parameters`; defaults of a known model_type are
filled in from a pinned table (`config_defaults.py`), so absent equals explicit; floats are rounded to float32 and then to 7
significant digits. For a model_type outside the table nothing is filled in, `defaults` is "none", and absent and explicit differ.
"""

import json
import math
import struct
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import rfc8785
from blake3 import blake3
from pydantic import BaseModel, ConfigDict

from ringi.base_models.config_defaults import ALIASES, COMMON, DEFAULTS, DEFAULTS_VERSION, ROPE_THETA, ROTARY
from ringi.kit.digests import canonical_json
from ringi.kit.errors import RingiError

SCHEME = "f1/1"
MAX_CONFIG_BYTES = 4 * 1024 * 1024
_MAX_DEPTH = 32
_MAX_LAYERS = 10_000

DROPPED = (
    "_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache", "output_*", "return_dict", "_attn_implementation*",
    "initializer_range", "gradient_checkpointing",
)  # fmt: skip
# gpt2 and phi3 spell dropout "pdrop".
TRAIN_ONLY = ("*dropout*", "*_pdrop")


class BaseConfigInvalid(RingiError):
    """`config.json` cannot be read as a model configuration."""

    code, status = "base_config_invalid", 400

    def __init__(self, message: str) -> None:
        super().__init__(
            f"The base model's config.json is not acceptable: {message}.", next_step="Correct the file and register the base again."
        )


class ConfigFingerprint(BaseModel):
    """`f1` is "blake3:" + 64 hex; `document` the JSON that explains it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    f1: str
    document: dict[str, Any]

    @property
    def canonical(self) -> bytes:
        """RFC 8785 bytes of the whole document."""
        return canonical_json(self.document)


def parse_config(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw`; raises BaseConfigInvalid for anything else, and for a key that occurs twice."""
    if len(raw) > MAX_CONFIG_BYTES:
        raise BaseConfigInvalid(f"it has {len(raw)} bytes, at most {MAX_CONFIG_BYTES} are read")
    try:
        config = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise BaseConfigInvalid("it is not UTF-8 JSON") from None
    if not isinstance(config, dict):
        raise BaseConfigInvalid("it is not a JSON object")
    return config


def fingerprint_config(config: Mapping[str, Any]) -> ConfigFingerprint:
    """F1 of a parsed `config.json`. Raises BaseConfigInvalid for values that JSON cannot carry exactly or that contradict their key."""
    try:
        body, train_only = _canonical(config, depth=0)
        identity = {"scheme": SCHEME, "defaults": _defaults_of(config), "config": body}
        f1 = "blake3:" + blake3(canonical_json(identity)).hexdigest()
        document = {**identity, "train_only": train_only}
        canonical_json(document)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        raise BaseConfigInvalid("it has a number or a text that JSON cannot carry exactly") from None
    except (TypeError, AttributeError, ZeroDivisionError):
        raise BaseConfigInvalid("a key has a value of the wrong kind") from None
    return ConfigFingerprint(f1=f1, document=document)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """What differs between two documents' identities: sorted lines "dotted.key: old -> new", values as canonical JSON or "absent"."""
    before, after = ({**_flat(side["config"]), "(defaults)": side["defaults"]} for side in (old, new))
    keys = sorted(key for key in before.keys() | after.keys() if before.get(key, _ABSENT) != after.get(key, _ABSENT))
    return tuple(f"{key}: {_shown(before.get(key, _ABSENT))} -> {_shown(after.get(key, _ABSENT))}" for key in keys)


_ABSENT = object()


def _shown(value: object) -> str:
    return "absent" if value is _ABSENT else canonical_json(value).decode()


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            flat.update(_flat(item, f"{prefix}{key}."))
        else:
            flat[prefix + key] = item
    return flat


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise BaseConfigInvalid("a key occurs twice")
    return document


def _known(config: Mapping[str, Any]) -> str | None:
    model_type = config.get("model_type")
    return model_type if isinstance(model_type, str) and model_type in DEFAULTS else None


def _defaults_of(config: Mapping[str, Any]) -> str:
    """Which pinned tables were used: "none" or "transformers-5.23.0/llama", then one "key: table" for each nested one in use."""
    known = _known(config)
    nested = [
        f"{key}: {DEFAULTS_VERSION}/{_known(value)}" for key, value in sorted(config.items()) if _is_nested(key, value) and _known(value)
    ]
    return ", ".join([f"{DEFAULTS_VERSION}/{known}" if known else "none", *nested])


def _is_nested(key: str, value: object) -> bool:
    # The quantisation settings are no model configuration; part F7 will read them, until then they are compared as they are.
    return key.endswith("_config") and key != "quantization_config" and isinstance(value, Mapping)


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _canonical(config: Mapping[str, Any], *, depth: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The canonical body and the train-only part of one configuration, nested ones included."""
    if depth > _MAX_DEPTH:
        raise BaseConfigInvalid("it is nested too deeply")
    known = _known(config)
    aliases = ALIASES.get(known or "", {})
    filled = {aliases.get(key, key): value for key, value in config.items() if not _matches(key, DROPPED)}
    if known is not None:
        filled = {**COMMON, **DEFAULTS[known], **filled}
        _derive(filled, known)
    else:
        filled = {key: value for key, value in filled.items() if value is not None}
    _standardise_rope(filled, known)
    body: dict[str, Any] = {}
    train_only: dict[str, Any] = {}
    for key, value in filled.items():
        if _matches(key, TRAIN_ONLY):
            train_only[key] = _rounded(value, depth)
        elif _is_nested(key, value):
            body[key], nested = _canonical(value, depth=depth + 1)
            if nested:
                train_only[key] = nested
        elif value is not None or key in COMMON or (known and key in DEFAULTS[known]):
            body[key] = _rounded(value, depth)
    return body, train_only


def _derive(config: dict[str, Any], model_type: str) -> None:
    """Fill in what the classes compute from other keys when it is null (their `__post_init__`)."""
    if model_type == "gpt2":
        if config["n_inner"] is None:
            config["n_inner"] = 4 * config["n_embd"]
        return
    if config["num_key_value_heads"] is None:
        config["num_key_value_heads"] = config["num_attention_heads"]
    if config["head_dim"] is None:
        config["head_dim"] = config["hidden_size"] // config["num_attention_heads"]
    if "layer_types" not in DEFAULTS[model_type]:
        return
    if model_type in {"qwen2", "qwen3"} and not config["use_sliding_window"]:
        config["sliding_window"] = None
    if config["layer_types"] is None:
        if config["num_hidden_layers"] > _MAX_LAYERS:
            raise BaseConfigInvalid(f"it has more than {_MAX_LAYERS} layers")
        layers = range(config["num_hidden_layers"])
        if model_type == "gemma2":
            sliding = [layer % 2 == 0 for layer in layers]
        else:
            sliding = [config["sliding_window"] is not None and layer >= config["max_window_layers"] for layer in layers]
        config["layer_types"] = ["sliding_attention" if slides else "full_attention" for slides in sliding]


def _standardise_rope(config: dict[str, Any], known: str | None) -> None:
    """Bring `rope_theta`, `rope_scaling` and `partial_rotary_factor` into `rope_parameters`, as transformers 5 stores them."""
    theta = config.pop("rope_theta", None)
    partial = config.pop("partial_rotary_factor", None)
    parameters = config.pop("rope_scaling", None) or config.pop("rope_parameters", None) or {}
    config.pop("rope_parameters", None)
    rotary = known in ROTARY
    if not isinstance(parameters, Mapping):
        raise BaseConfigInvalid("the rotary settings are not an object")
    if not (parameters or theta is not None or partial is not None or rotary):
        return
    theta = ROPE_THETA if theta is None and rotary else theta
    partial = 1.0 if partial is None and known == "phi3" else partial
    nested = bool(parameters) and all(isinstance(value, Mapping) for value in parameters.values())
    if nested:
        config["rope_parameters"] = {kind: _rope(value, theta, partial, config, known) for kind, value in parameters.items()}
    else:
        config["rope_parameters"] = _rope(parameters, theta, partial, config, known)


def _rope(given: Mapping[str, Any], theta: object, partial: object, config: Mapping[str, Any], known: str | None) -> dict[str, Any]:
    rope = {key: value for key, value in given.items() if value is not None and key != "type"}
    rope.setdefault("rope_type", given.get("type") or "default")
    if known == "phi3" and rope["rope_type"] in {"su", "yarn"}:
        rope["rope_type"] = "longrope"
    for key, value in (("rope_theta", theta), ("partial_rotary_factor", partial)):
        if value is not None:
            rope.setdefault(key, value)
    if known is not None and rope["rope_type"] in {"llama3", "yarn", "longrope"}:
        if config.get("original_max_position_embeddings") is not None:
            rope["original_max_position_embeddings"] = config["original_max_position_embeddings"]
        else:
            rope.setdefault("original_max_position_embeddings", config["max_position_embeddings"])
    # 500000 and 500000.0 are one setting, and above 7 digits only equal after the same rounding.
    return {key: float(value) if isinstance(value, int) and not isinstance(value, bool) else value for key, value in rope.items()}


def _rounded(value: object, depth: int) -> Any:
    """`value` with every float rounded to float32 and to 7 significant digits; what is not finite there becomes its name as text."""
    if depth > _MAX_DEPTH:
        raise BaseConfigInvalid("it is nested too deeply")
    if isinstance(value, float):
        try:
            single: float = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            single = math.copysign(math.inf, value)
        if not math.isfinite(single):
            return "NaN" if math.isnan(single) else "Infinity" if single > 0 else "-Infinity"
        return float(f"{single:.7g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item, depth + 1) for item in value]
    return value
