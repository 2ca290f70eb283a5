"""The base with its frozen matrices in 4 or 8 bits while it trains, by bitsandbytes; on a CPU too.

NF4 with doubly quantised constants is QLoRA's (Dettmers et al. 2023, arXiv:2305.14314), 8 bits are LLM.int8 (Dettmers et al. 2022, arXiv:2208.07339). Embeddings,
norms and the output head stay as they are.
"""

import importlib.metadata
import importlib.util
import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from ringi.jobs.contracts.methods import Quantisation
from ringi.kit.errors import RingiError
from ringi_workers.adapters.attach import load_base

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
    """The causal language model of a Hugging Face folder, computing in `dtype`; raises QuantisationUnavailable."""
    if quantisation is Quantisation.NONE:
        return load_base(base, dtype=dtype, device=device)
    if importlib.util.find_spec(_PACKAGE) is None:
        raise QuantisationUnavailable(quantisation)
    config = BitsAndBytesConfig(
        load_in_4bit=quantisation is Quantisation.NF4, load_in_8bit=quantisation is Quantisation.INT8, bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype,
    )  # fmt: skip
    model: Any = AutoModelForCausalLM.from_pretrained(
        base, quantization_config=config, dtype=dtype, device_map={"": device}, use_safetensors=True, local_files_only=True,
        trust_remote_code=False,
    )  # fmt: skip
    for module in model.modules():
        # On a CPU with bfloat16 the first pass without gradients would repack the weights for a kernel that has none, and a run that goes on after a
        # validation would train with a part of its gradients missing, in silence.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model.eval()


def stored(quantisation: Quantisation) -> dict[str, str]:
    """What belongs to the provenance of a measurement over such a base."""
    if quantisation is Quantisation.NONE:
        return {}
    return {"quantisation": quantisation.value, _PACKAGE: importlib.metadata.version(_PACKAGE)}
