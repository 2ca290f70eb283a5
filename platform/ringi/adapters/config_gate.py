"""What an `adapter_config.json` may say. Every key is on a list; nothing in it may name code, a file, or a pattern that is run.

The lists are config_keys.py. In PEFT the entries of `target_modules` as text, `rank_pattern`, `alpha_pattern` and `layers_pattern` are run
as regular expressions, so only literal names pass.
"""

import json
import re
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat

from ringi.adapters.config_keys import KEYS, PEFT_VERSION
from ringi.jobs.contracts.methods import MOST_RANK
from ringi.kit.errors import RingiError

MAX_CONFIG_BYTES = 256 * 1024
MAX_RANK, MIN_ALPHA, MAX_ALPHA = MOST_RANK, 1e-6, 65_536.0
MAX_TEXT, MAX_NAMES = 1024, 4096
_LITERAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,511}")
_TASKS = (None, "CAUSAL_LM", "SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")


class AdapterConfigInvalid(RingiError):
    """The file is not JSON, or a value is out of bounds; `details['reason']` says which rule."""

    code, status = "adapter_config_invalid", 400

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(
            f"adapter_config.json is not acceptable: {message}.",
            next_step=f"Save the adapter again with peft {PEFT_VERSION} or correct the value.",
            details={"reason": reason},
        )


class AdapterConfigUnknownKey(RingiError):
    """A key that peft's configuration of the method does not have."""

    code, status = "adapter_config_unknown_key", 400

    def __init__(self, keys: tuple[str, ...], peft_type: str) -> None:
        named = ", ".join(ascii(key) for key in keys)
        super().__init__(
            f"adapter_config.json has keys that peft {PEFT_VERSION} does not know for {peft_type}: {named}.",
            next_step="Remove them; what they would do cannot be checked.",
            details={"keys": [ascii(key) for key in keys]},
        )


class AdapterConfigKeyRefused(RingiError):
    """A known key with a value that is not loaded here."""

    code, status = "adapter_config_key_refused", 400

    def __init__(self, key: str) -> None:
        super().__init__(
            f"adapter_config.json sets '{key}' to something that can run code, open files or rewrite the base while loading.",
            next_step=f"Set '{key}' to its default, and export the adapter so that it needs no other.",
            details={"key": key},
        )


class AdapterTypeUnsupported(RingiError):
    """A PEFT method that is not checked here. AdaLoRA's is one, because as a LoRA with ranks by module it says the same."""

    code, status = "adapter_type_unsupported", 400

    def __init__(self, peft_type: str) -> None:
        super().__init__(
            f"The adapter's peft_type is {peft_type[:40]!a}; supported are {', '.join(KEYS)}.",
            next_step="Train or convert it as a LoRA.",
        )


class AdapterBaseMismatch(RingiError):
    """The adapter names another base model, or another revision of it."""

    code, status = "adapter_base_mismatch", 409

    def __init__(self, field: str, found: str, expected: str) -> None:
        super().__init__(
            f"The adapter's {field} is {found[:200]!a}, but it is being registered for {expected!a}.",
            next_step="Register it under the base revision it was trained on.",
            details={"field": field, "found": found[:200], "expected": expected},
        )


class AdapterBaseRevisionMissing(RingiError):
    """The adapter does not say which base, or which revision of it, it was trained on."""

    code, status = "adapter_base_revision_missing", 400

    def __init__(self, field: str) -> None:
        super().__init__(
            f"adapter_config.json has no '{field}', so nobody can tell what the adapter was trained on.",
            next_step=f"Fill in '{field}' with the base revision of the training (get_peft_model(..., revision=...) of peft does it).",
            details={"field": field},
        )


class ConfigFacts(BaseModel):
    """What the configuration says, checked. `target_modules` is sorted and empty exactly when `all_linear`.

    A method without a rank (IA3), an alpha or a dropout has None there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    peft_type: str
    task_type: str | None
    base_model: str
    base_revision: str
    peft_version: str | None
    rank: int | None
    alpha: FiniteFloat | None
    dropout: FiniteFloat | None
    use_rslora: bool
    use_dora: bool
    lora_bias: bool
    fan_in_fan_out: bool
    all_linear: bool
    target_modules: tuple[str, ...]
    exclude_modules: tuple[str, ...]
    modules_to_save: tuple[str, ...]
    rank_pattern: tuple[tuple[str, int], ...]
    alpha_pattern: tuple[tuple[str, FiniteFloat], ...]


def check_config(raw: bytes, *, expected_base: str | None, expected_commit: str | None) -> ConfigFacts:
    """The facts of an acceptable `adapter_config.json`; raises one of this file's refusals.

    `expected_base` and `expected_commit` are what `base_model_name_or_path` and `revision` must equal; None accepts any, but never none.
    """
    config = _parse(raw)
    _check_keys(config)
    base, revision = _base(config, expected_base, expected_commit)
    _check_layers(config)
    targets = _targets(config)
    task = config.get("task_type")
    if task not in _TASKS:
        raise AdapterConfigInvalid("task_type", f"'task_type' must be null or one of {', '.join(filter(None, _TASKS))}")
    version = config.get("peft_version")
    if version is not None and not (isinstance(version, str) and re.fullmatch(r"[0-9A-Za-z.+@_-]{1,100}", version)):
        raise AdapterConfigInvalid("peft_version", "'peft_version' must be a version")
    return ConfigFacts(
        **_numbers(config),
        task_type=task,
        base_model=base,
        base_revision=revision,
        peft_version=version,
        use_rslora=config.get("use_rslora", False),
        use_dora=config.get("use_dora", False),
        lora_bias=config.get("lora_bias", False),
        fan_in_fan_out=config.get("fan_in_fan_out", False),
        all_linear=targets is None,
        target_modules=targets or (),
        exclude_modules=_names(config, "exclude_modules"),
        modules_to_save=_names(config, "modules_to_save"),
        rank_pattern=tuple((name, _rank(value, "rank_pattern")) for name, value in _pattern(config, "rank_pattern")),
        alpha_pattern=tuple((name, _alpha(value, "alpha_pattern")) for name, value in _pattern(config, "alpha_pattern")),
    )


def _numbers(config: dict[str, Any]) -> dict[str, Any]:
    """What sizes the method, checked; its defaults are peft's."""
    peft_type = config["peft_type"]
    if peft_type == "IA3":
        inner, targets = _names(config, "feedforward_modules"), _targets(config)
        if targets is not None and not set(inner) <= set(targets):
            raise AdapterConfigInvalid("feedforward_modules", "'feedforward_modules' must be among 'target_modules'")
        return {"peft_type": peft_type, "rank": None, "alpha": None, "dropout": None}
    if peft_type == "VERA":
        _number(config.get("d_initial", 0.1), "d_initial", least=-1e6, most=1e6)
        if type(key := config.get("projection_prng_key", 0)) is not int or not 0 <= key < 2**63:
            raise AdapterConfigInvalid("projection_prng_key", "'projection_prng_key' must be a whole number from 0")
        dropout = _number(config.get("vera_dropout", 0.0), "vera_dropout", least=0.0, most=0.999)
        return {"peft_type": peft_type, "rank": _rank(config.get("r", 256), "r"), "alpha": None, "dropout": dropout}
    return {
        "peft_type": peft_type,
        "rank": _rank(config.get("r", 8), "r"),
        "alpha": _alpha(config.get("lora_alpha", 8), "lora_alpha"),
        "dropout": _number(config.get("lora_dropout", 0.0), "lora_dropout", least=0.0, most=0.999),
    }


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(document := dict(pairs)) != len(pairs):
        raise AdapterConfigInvalid("duplicate_key", "a key occurs twice")
    return document


def _parse(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_CONFIG_BYTES:
        raise AdapterConfigInvalid("too_large", f"it has {len(raw)} bytes, at most {MAX_CONFIG_BYTES} are read")
    try:
        config = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise AdapterConfigInvalid("not_json", "it is not UTF-8 JSON") from None
    if not isinstance(config, dict):
        raise AdapterConfigInvalid("not_json", "it is not a JSON object")
    return config


def _check_keys(config: dict[str, Any]) -> None:
    peft_type = config.get("peft_type")
    # First, because the keys of another method would only be called unknown.
    if not isinstance(peft_type, str) or peft_type not in KEYS:
        raise AdapterTypeUnsupported(str(peft_type))
    keys = KEYS[peft_type]
    if unknown := tuple(sorted(key[:80] for key in config.keys() - keys.known)):
        raise AdapterConfigUnknownKey(unknown[:20], peft_type)
    for key, allowed in keys.inert.items():
        # JSON has true and 1 apart, Python's == does not.
        if key in config and not any(type(config[key]) is type(value) and config[key] == value for value in allowed):
            raise AdapterConfigKeyRefused(key)
    for flag in sorted(keys.flags):
        if not isinstance(config.get(flag, False), bool):
            raise AdapterConfigInvalid("flag", f"'{flag}' must be true or false")


def _base(config: dict[str, Any], expected_base: str | None, expected_commit: str | None) -> tuple[str, str]:
    found: list[str] = []
    for field, expected in (("base_model_name_or_path", expected_base), ("revision", expected_commit)):
        value = config.get(field)
        if value is None or value == "":
            raise AdapterBaseRevisionMissing(field)
        if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
            raise AdapterConfigInvalid(field, f"'{field}' must be printable text")
        if expected is not None and value != expected:
            raise AdapterBaseMismatch(field, value, expected)
        found.append(value)
    return found[0], found[1]


def _targets(config: dict[str, Any]) -> tuple[str, ...] | None:
    """Literal names, or None for 'all-linear'."""
    value = config.get("target_modules")
    if value == "all-linear":
        return None
    names = _names({"target_modules": [value]} if isinstance(value, str) else config, "target_modules")
    if not names:
        raise AdapterConfigInvalid("target_modules", "'target_modules' names no module")
    return names


def _is_literal(name: object) -> bool:
    return isinstance(name, str) and _LITERAL.fullmatch(name) is not None


def _names(config: dict[str, Any], key: str) -> tuple[str, ...]:
    value = config.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > MAX_NAMES or not all(map(_is_literal, value)):
        raise AdapterConfigInvalid(key, f"'{key}' must be a list of plain module names; patterns are not run")
    if len(set(value)) != len(value):
        raise AdapterConfigInvalid(key, f"'{key}' names a module twice")
    return tuple(sorted(value))


def _pattern(config: dict[str, Any], key: str) -> list[tuple[str, object]]:
    value = config.get(key)
    if value is None:
        return []
    if not isinstance(value, dict) or len(value) > MAX_NAMES or not all(map(_is_literal, value)):
        raise AdapterConfigInvalid(key, f"'{key}' must map plain module names to numbers; patterns are not run")
    return sorted(value.items())


def _check_layers(config: dict[str, Any]) -> None:
    layers = config.get("layers_to_transform") or []
    listed = layers if isinstance(layers, list) else [layers]
    if len(listed) > MAX_NAMES or not all(type(layer) is int and 0 <= layer < MAX_NAMES for layer in listed):
        raise AdapterConfigInvalid("layers_to_transform", "'layers_to_transform' must be layer numbers")
    pattern = config.get("layers_pattern")
    _names({"layers_pattern": [pattern]} if isinstance(pattern, str) else config, "layers_pattern")


def _rank(value: object, key: str) -> int:
    if type(value) is not int or not 1 <= value <= MAX_RANK:
        raise AdapterConfigInvalid(key, f"a rank in '{key}' must be an integer from 1 to {MAX_RANK}")
    return value


def _number(value: object, key: str, *, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise AdapterConfigInvalid(key, f"'{key}' must be from {least:g} to {most:g}")
    return float(value)


_alpha = partial(_number, least=MIN_ALPHA, most=MAX_ALPHA)
