"""Full fine-tuning: every weight of the base learns, and what is sealed is a model that stands alone. In place of an adapter (methods.py, export.py).

Weights learn in float32, also where their products are computed in bfloat16 (mixed precision, Micikevicius et al. 2018, arXiv:1710.03740, section 3.1):
bfloat16 has eight bits of precision, so an update below about a 500th of its weight would be lost at every step. They are stored as the base is.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import AutoConfig

from ringi.adapters.manifest import FORMATS
from ringi.jobs.contracts.adapters import FULL_WEIGHTS
from ringi.kit.digests import canonical_json
from ringi.kit.errors import RingiError
from ringi_workers.adapters.full_weights import MARK, load_full_weights
from ringi_workers.training.data import Example
from ringi_workers.training.export import CONFIG_FILE
from ringi_workers.training.packing import TOLERANCE, Layout, computes_in, set_attention, token_losses
from ringi_workers.training.row_attention import NAME as BY_ROWS

# Of a base's files, those that are no weights and that transformers or a lawyer may ask for. No code, and no adapter.
_TEXT, _TERMS = (".json", ".jinja", ".txt", ".model"), ("LICENSE", "LICENCE", "NOTICE")
# Training rows on which the sealed files must lose what the trained weights lose.
_SAMPLE = 64
# How far these losses may lie apart where bfloat16 is in play: embeddings and norms are rounded by storing alone, matrices for every product before.
_ROUNDED = 5e-2
# Of dimensions: a matrix has two, and what has fewer (biases, norms) is not decayed.
_MATRIX = 2


class BaseQuantised(RingiError):
    """The base is stored in few bits, which are not trained."""

    code, status = "training_base_quantised", 400

    def __init__(self) -> None:
        super().__init__(
            "The base is stored quantised, and rounded weights cannot be trained.",
            next_step="Fine-tune the base that it was made from, or train an adapter.",
        )


class SealedWeightsDiffer(RingiError):
    """Storing the weights as the base is stored took away what they had learnt."""

    code, status = "training_sealed_weights_differ", 400

    def __init__(self, trained: float, sealed: float, dtype: str) -> None:
        super().__init__(
            f"On some training rows the trained weights lose {trained:.4g} nats a token, and as they would be sealed, in {dtype}, {sealed:.4g}.",
            next_step="Train on a revision of the base that is stored in float32.",
            details={"trained": repr(trained), "sealed": repr(sealed), "dtype": dtype},
        )


class Losses(NamedTuple):
    """Mean negative log-likelihood per label token in nats on the same training rows: with the trained weights, with the sealed files."""

    trained_loss: float
    sealed_loss: float


def all_weights(model: Any, *, computing: torch.dtype) -> Any:
    """The base in train mode with every weight learning; it must be loaded in float32. Raises BaseQuantised."""
    if getattr(model.config, "quantization_config", None) is not None:
        raise BaseQuantised
    model.requires_grad_(requires_grad=True)
    model.computing = computing
    return model


def weight_groups(model: Any, decay: float) -> list[dict[str, Any]]:
    """For the optimiser: matrices decay; biases and norms do not, as in GPT-3 (Brown et al. 2020) and in the `Trainer` of transformers."""
    weights = [one for one in model.parameters() if one.requires_grad]
    return [
        {"params": [one for one in weights if one.ndim >= _MATRIX], "weight_decay": decay},
        {"params": [one for one in weights if one.ndim < _MATRIX], "weight_decay": 0.0},
    ]


def stored_dtype(base: Path) -> torch.dtype:
    """That of the base's files, by its config; float32 where it does not say."""
    said = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False).dtype
    return said if isinstance(said, torch.dtype) else torch.float32


def precisions(base: Path) -> dict[str, str]:
    """For the provenance of a measurement: what weights learnt in, and what they are stored in."""
    return {"weights": "float32", "stored": _name(stored_dtype(base))}


def export_weights(model: Any, directory: Path, *, base: Path, base_name: str, base_commit: str) -> Path:
    """Write the model with deterministic bytes, cast to what the base is stored in: `model` stays so. Everything but weights is the base's own file."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix="weights-") as aside:
        # What is tied stays tied: the library writes it once.
        model.to(stored_dtype(base)).save_pretrained(aside)
        for file in Path(aside).iterdir():
            # Its config and its generation config name the library's version.
            if file.name.endswith((".safetensors", ".safetensors.index.json")):
                shutil.move(file, directory / file.name)
    for file in sorted(base.iterdir()):
        if file.is_file() and _goes_along(file):
            shutil.copyfile(file, directory / file.name)
    mark = {"format": FORMATS[FULL_WEIGHTS], "base_model_name_or_path": base_name, "revision": base_commit}
    (directory / MARK).write_bytes(canonical_json(mark))
    return directory


def seal(
    model: Any, directory: Path, examples: Sequence[Example], layout: Layout, *, base: Path, base_name: str, base_commit: str
) -> Losses:
    """Write the model, read it again from its files, and compare both on some training rows. Raises SealedWeightsDiffer, FullWeightsUnreadable."""
    some = examples[:: -(-len(examples) // _SAMPLE)]
    device, computing, stored = model.device, computes_in(model), stored_dtype(base)
    trained = mean_loss(model, some, layout)
    export_weights(model, directory, base=base, base_name=base_name, base_commit=base_commit)
    again = load_full_weights(directory, dtype=computing, device=device)
    if layout.by_rows:
        set_attention(again, BY_ROWS)
    sealed = mean_loss(again, some, layout)
    tolerance = TOLERANCE[torch.float32] if {computing, stored} == {torch.float32} else _ROUNDED
    # Written so that NaN is no agreement.
    if not abs(sealed - trained) <= tolerance * max(1.0, trained):
        raise SealedWeightsDiffer(trained, sealed, _name(stored))
    return Losses(trained, sealed)


def mean_loss(model: Any, examples: Sequence[Example], layout: Layout) -> float:
    """Mean negative log-likelihood per label token in nats, without dropout."""
    model.eval()
    total, labels = 0.0, 0
    with torch.inference_mode():
        for one in layout.passes(sorted(examples, key=lambda example: len(example.input_ids))):
            total += float(token_losses(model, one).sum(dtype=torch.float64))
            labels += len(one.targets)
    return total / labels


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _goes_along(file: Path) -> bool:
    if file.name.endswith(".index.json") or file.name == CONFIG_FILE:
        return False
    return file.suffix in _TEXT or file.stem.upper() in _TERMS
