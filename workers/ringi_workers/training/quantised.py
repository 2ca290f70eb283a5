"""The base with its frozen matrices in 4 or 8 bits while it trains, by bitsandbytes; on a CPU too.

NF4 with doubly quantised constants is QLoRA's (Dettmers et al. 2023, arXiv:2305.14314), 8 bits are LLM.int8 (Dettmers et al. 2022, arXiv:2208.07339). Embeddings,
norms and the output head stay as they are.
"""

import importlib.metadata
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from ringi.adapters.labels import ClassLabels
from ringi.jobs.contracts.methods import Quantisation
from ringi.kit.errors import RingiError
from ringi_workers.adapters.attach import load_base
from ringi_workers.adapters.heads import UNQUANTISED, Classifier, load_classifier, require_language_model

_PACKAGE = "bitsandbytes"
# It says at every multiplication that it rounds its inputs to 16 bits, which is what 8 bits are.
logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)


class QuantisationUnavailable(RingiError):
    """The worker has no bitsandbytes."""

    code, status = "training_quantisation_unavailable", 409

    def __init__(self, quantisation: Quantisation) -> None:
        super().__init__(
            f"A base in {quantisation} needs {_PACKAGE}, which this worker has not.",
            next_step=f"Install {_PACKAGE} (it belongs to the extra 'worker'), or train without quantisation.",
        )


def load_quantised(base: Path, quantisation: Quantisation, *, dtype: torch.dtype, device: torch.device) -> Any:
    """The causal language model of a Hugging Face folder, computing in `dtype`; raises QuantisationUnavailable, BaseIsEncoder."""
    if quantisation is Quantisation.NONE:
        return load_base(base, dtype=dtype, device=device)
    require_language_model(AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False))
    model: Any = AutoModelForCausalLM.from_pretrained(
        base, quantization_config=_config(quantisation, dtype), dtype=dtype, device_map={"": device}, use_safetensors=True, local_files_only=True,
        trust_remote_code=False,
    )  # fmt: skip
    return _with_whole_gradients(model).eval()


def load_quantised_classifier(
    base: Path, labels: ClassLabels, quantisation: Quantisation, *, dtype: torch.dtype, device: torch.device
) -> Classifier:
    """The same as a classifier, its head as it computes; raises QuantisationUnavailable, and what `load_classifier` raises."""
    if quantisation is Quantisation.NONE:
        return load_classifier(base, labels, dtype=dtype, device=device)
    config = _config(quantisation, dtype, skipped=UNQUANTISED)
    found = load_classifier(base, labels, dtype=dtype, device=device, quantization_config=config, device_map={"": device})
    _with_whole_gradients(found.model)
    return found


def _config(quantisation: Quantisation, dtype: torch.dtype, *, skipped: Sequence[str] = ()) -> BitsAndBytesConfig:
    """`skipped`: modules that stay as they compute; the output head alone where none is named."""
    if importlib.util.find_spec(_PACKAGE) is None:
        raise QuantisationUnavailable(quantisation)
    return BitsAndBytesConfig(
        load_in_4bit=quantisation is Quantisation.NF4, load_in_8bit=quantisation is Quantisation.INT8, bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=list(skipped) or None,
    )  # fmt: skip


def _with_whole_gradients(model: Any) -> Any:
    for module in model.modules():
        # On a CPU with bfloat16 the first pass without gradients would repack the weights for a kernel that has none, and a run that goes on after a
        # validation would train with a part of its gradients missing, in silence.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def stored(quantisation: Quantisation) -> dict[str, str]:
    """What belongs to the provenance of a measurement over such a base."""
    if quantisation is Quantisation.NONE:
        return {}
    return {"quantisation": quantisation.value, _PACKAGE: importlib.metadata.version(_PACKAGE)}
