"""Meet an adapter with its base: load the base, match every tensor both ways, and only then let peft load it.

`PeftModel.from_pretrained` says nothing when tensors find no module or modules find no tensor (compatibility 2.1). So the names and
shapes that the config promises on this base are built first, without memory, on torch's meta device, and compared with the file's header.
"""

import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import peft
import torch
import transformers
from peft import IA3Config, LoraConfig, PeftConfig, PeftModel, VeraConfig, get_peft_model, get_peft_model_state_dict
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase

from ringi.adapters.config_gate import ConfigFacts, check_config
from ringi.adapters.labels import CLASSIFIES, LABELS, AdapterLabelsMissing, ClassLabels, parse_labels
from ringi.adapters.weights import read_header
from ringi.jobs.contracts.adapters import AdapterFacts, TensorFact
from ringi.kit.errors import RingiError
from ringi_workers.adapters.heads import classifier_settings, require_language_model
from ringi_workers.training.export import CONFIG_FILE, WEIGHTS_FILE

_PREFIX = "base_model.model."
_LOADED_NAME = "default"
_CONFIGS: Mapping[str, type[PeftConfig]] = {"LORA": LoraConfig, "IA3": IA3Config, "VERA": VeraConfig}
# How the part of a tensor's name begins that peft adds to its module's; and what all modules of a VeRA share.
_PARTS, _SHARED = ("lora_", "ia3_", "vera_lambda_"), frozenset({"base_model.vera_A", "base_model.vera_B"})


class AdapterShapeMismatch(RingiError):
    """A tensor belongs to a module of the base but has another shape."""

    code, status = "adapter_shape_mismatch", 400

    def __init__(self, tensor: str, *, expected: tuple[int, ...], found: tuple[int, ...]) -> None:
        super().__init__(
            f"The tensor '{tensor}' has shape {list(found)}, but on this base it must be {list(expected)}.",
            next_step="Register the adapter under the base it was trained on.",
            details={"tensor": tensor, "expected": list(expected), "found": list(found)},
        )


class AdapterUndecodable(RingiError):
    """The folder is not a readable PEFT folder."""

    code, status = "adapter_undecodable", 400

    def __init__(self, reason: str) -> None:
        super().__init__(f"The adapter cannot be read: {reason}.", next_step=f"It needs {CONFIG_FILE} and {WEIGHTS_FILE}.")


class Structure(NamedTuple):
    """Names as in an adapter file. `expected`: what the config promises on this base; `replaceable`: what loading would overwrite."""

    expected: dict[str, tuple[int, ...]]
    replaceable: dict[str, tuple[int, ...]]


def base_dtype(base: Path, device: torch.device) -> torch.dtype:
    """The dtype to train over: bf16 on CUDA; on a CPU bf16 where the base is stored so and the CPU multiplies it, else float32.

    A base stored in bf16 loses nothing, and its matrix products run about twice as fast on CPUs with AVX512-BF16 or AMX.
    """
    if device.type == "cuda":
        return torch.bfloat16
    stored = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False).dtype
    capabilities = torch.cpu.get_capabilities()
    quick = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))
    return torch.bfloat16 if quick and stored == torch.bfloat16 else torch.float32


def load_base(base: Path, *, dtype: torch.dtype, device: torch.device) -> Any:
    """The causal language model of a Hugging Face folder: safetensors only, no code from the folder, no network. Raises BaseIsEncoder."""
    require_language_model(AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False))
    model: Any = AutoModelForCausalLM.from_pretrained(
        base, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False
    )
    return model.to(device).eval()


def load_tokenizer(base: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hugging Face folder."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    return tokenizer


def runtime_facts(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Versions, device and dtype, for the provenance of a measurement."""
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "device": f"{device.type} ({named})",
        "dtype": str(dtype).removeprefix("torch."),
    }


class ReadConfig(NamedTuple):
    """`adapter_config.json` as it is, and what the gate made of it."""

    document: dict[str, Any]
    checked: ConfigFacts


def read_config(folder: Path, *, base_name: str | None, base_commit: str | None) -> ReadConfig:
    """The checked `adapter_config.json`; raises AdapterUndecodable, or what `config_gate.check_config` raises."""
    try:
        raw = (folder / CONFIG_FILE).read_bytes()
    except OSError as error:
        raise AdapterUndecodable(f"{CONFIG_FILE} is missing") from error
    checked = check_config(raw, expected_base=base_name, expected_commit=base_commit)
    return ReadConfig(json.loads(raw), checked)


def read_labels(folder: Path, config: Mapping[str, Any]) -> ClassLabels | None:
    """What the classes of the PEFT folder with this config mean; None for a language model. Raises AdapterLabelsMissing, AdapterLabelsInvalid."""
    if config.get("task_type") != CLASSIFIES:
        return None
    try:
        return parse_labels((folder / LABELS).read_bytes())
    except OSError as error:
        raise AdapterLabelsMissing from error


def _bare(base: Path, labels: ClassLabels | None) -> Any:
    """The base's modules without its weights; raises BaseIsEncoder, BaseWithoutClassifier."""
    if labels is not None:
        return AutoModelForSequenceClassification.from_config(classifier_settings(base, labels), trust_remote_code=False)
    settings = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    require_language_model(settings)
    return AutoModelForCausalLM.from_config(settings, trust_remote_code=False)


def _structure(base: Path, config: Mapping[str, Any], labels: ClassLabels | None) -> Structure:
    with torch.device("meta"):
        model = _bare(base, labels)
        own = {_PREFIX + name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        try:
            adapted: PeftModel = get_peft_model(model, _CONFIGS[config["peft_type"]](**{**config, "inference_mode": False}))
        except ValueError:
            # peft refuses a config none of whose targets is in the base: then it promises nothing here.
            return Structure({}, own)
        state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    expected = {name: tuple(tensor.shape) for name, tensor in state.items()}
    # An adapted module's own weight hides behind `base_layer`; a file that names it would overwrite the base.
    inside = {name: tuple(tensor.shape) for name, tensor in adapted.state_dict().items() if ".base_layer." in name}
    return Structure(expected, {name: shape for name, shape in (own | inside).items() if name not in expected})


def _module_of(tensor: str) -> str | None:
    """The base module that an adapter tensor belongs to: what stands before its `lora_…`, `ia3_…` or `vera_lambda_…` component."""
    parts = tensor.removeprefix(_PREFIX).split(".")
    index = next((number for number, part in enumerate(parts) if part.startswith(_PARTS)), None)
    return None if index is None else ".".join(parts[:index])


def non_finite(weights: Path, tensors: Iterable[TensorFact]) -> tuple[str, ...]:
    """Names of those tensors of a safetensors file that hold NaN or infinity."""
    with safe_open(weights, framework="pt") as file:
        return tuple(tensor.name for tensor in tensors if not bool(torch.isfinite(file.get_tensor(tensor.name)).all()))


def adapter_facts(folder: Path, *, base: Path) -> AdapterFacts:
    """What the PEFT folder says and how its tensors meet the base; loads no base weights.

    Raises AdapterShapeMismatch, AdapterUndecodable, and the refusals of `read_labels`, `config_gate.check_config` and `weights.read_header`.
    """
    config, checked = read_config(folder, base_name=None, base_commit=None)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise AdapterUndecodable(f"{WEIGHTS_FILE} is missing")
    tensors = tuple(
        sorted((tensor.fact for tensor in read_header(weights, file_size=weights.stat().st_size).tensors), key=lambda t: t.name)
    )
    labels = read_labels(folder, config)
    structure = _structure(base, config, labels)
    known = structure.expected | structure.replaceable
    for tensor in tensors:
        if tensor.name in known and tensor.shape != known[tensor.name]:
            raise AdapterShapeMismatch(tensor.name, expected=known[tensor.name], found=tensor.shape)
    present = {tensor.name for tensor in tensors}
    matched = (present & known.keys()) - _SHARED
    modules = {name: _module_of(name) for name in matched}
    # What is matched but is no adapter's tensor is a tensor of the base itself: modules_to_save, or a base_layer.
    replaced = {name.removeprefix(_PREFIX).replace(".base_layer.", ".") for name, module in modules.items() if module is None}
    return AdapterFacts(
        peft_type=config["peft_type"],
        task_type=config.get("task_type"),
        rank=checked.rank,
        alpha=checked.alpha,
        use_rslora=config.get("use_rslora", False),
        use_dora=config.get("use_dora", False),
        target_modules=tuple(sorted([named] if isinstance(named := config["target_modules"], str) else named)),
        adapted_modules=tuple(sorted({module for module in modules.values() if module is not None})),
        unmatched_tensors=tuple(sorted(present - known.keys())),
        unfilled_tensors=tuple(sorted(structure.expected.keys() - present)),
        replaced_tensors=tuple(sorted(replaced)),
        non_finite_tensors=non_finite(weights, tensors),
        tensors=tensors,
        parameters=sum(torch.Size(tensor.shape).numel() for tensor in tensors),
        labels=labels.names if labels is not None else (),
    )


def attach(model: Any, folder: Path) -> PeftModel:
    """Load the PEFT folder onto the loaded base (safetensors only, nothing fetched), in eval mode."""
    return PeftModel.from_pretrained(model, str(folder), adapter_name=_LOADED_NAME, use_safetensors=True, local_files_only=True).eval()
