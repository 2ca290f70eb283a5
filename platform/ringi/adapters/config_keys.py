"""The keys of an `adapter_config.json`, method by method: the config classes of peft 0.21.2. config_gate.py checks by them.

Three groups: keys with a checked value, flags, and keys that must keep an inert default (they reach `importlib`, open files, or change the base while loading). Any
other key is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass

PEFT_VERSION = "0.21.2"


@dataclass(frozen=True)
class Keys:
    """Of one method. `inert`: key -> the values it may have."""

    checked: frozenset[str]
    flags: frozenset[str]
    inert: Mapping[str, tuple[object, ...]]

    @property
    def known(self) -> frozenset[str]:
        """All of them."""
        return self.checked | self.flags | self.inert.keys()

    @property
    def written(self) -> frozenset[str]:
        """Those that a canonical config has: neither what can have one value only, nor which version of the library wrote the file."""
        return (self.checked | self.flags) - {"peft_version", "qalora_group_size"}


_ANY = frozenset({
    "peft_type", "task_type", "base_model_name_or_path", "revision", "peft_version", "target_modules", "modules_to_save",
})  # fmt: skip
_LORA = Keys(
    checked=_ANY | {
        "r", "lora_alpha", "lora_dropout", "exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern",
        "qalora_group_size",
    },
    flags=frozenset({"fan_in_fan_out", "inference_mode", "use_rslora", "use_dora", "lora_bias", "ensure_weight_tying"}),
    inert={
        "auto_mapping": (None,),
        "megatron_config": (None,),
        "megatron_core": ("megatron.core", None),
        "loftq_config": ({}, None),
        "eva_config": (None,),
        "corda_config": (None,),
        "lora_ga_config": (None,),
        "velora_config": (None,),
        "monteclora_config": (None,),
        "arrow_config": (None,),
        "kasa_config": (None,),
        "runtime_config": ({"ephemeral_gpu_offload": False}, None),
        "use_bdlora": (None,),
        "use_qalora": (False,),
        "layer_replication": (None,),
        "target_parameters": (None, []),
        "trainable_token_indices": (None,),
        "alora_invocation_tokens": (None,),
        "bias": ("none",),
        # The other initialisations (pissa, olora, corda, eva, loftq, lora_ga, mica) change the base's weights when the adapter is loaded.
        "init_lora_weights": (True, False, "gaussian", "orthogonal"),
    },
)  # fmt: skip
_IA3 = Keys(
    checked=_ANY | {"exclude_modules", "feedforward_modules"},
    flags=frozenset({"fan_in_fan_out", "inference_mode", "init_ia3_weights"}),
    inert={"auto_mapping": (None,)},
)
_VERA = Keys(
    checked=_ANY | {"r", "vera_dropout", "d_initial", "projection_prng_key", "layers_to_transform", "layers_pattern"},
    flags=frozenset({"fan_in_fan_out", "inference_mode", "init_weights"}),
    # Without its projections in the file an adapter is another one under another torch, which draws other numbers.
    inert={"auto_mapping": (None,), "bias": ("none",), "save_projection": (True,)},
)
KEYS: Mapping[str, Keys] = {"LORA": _LORA, "IA3": _IA3, "VERA": _VERA}
