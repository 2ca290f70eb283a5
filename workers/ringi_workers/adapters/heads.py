"""A base loaded as a classifier, and which bases can be what: language models go on with a text, encoders read it both ways and classify it.

A base has no head for classes of somebody's own, so transformers draws one at random when it loads the base. What was drawn is named here: it has to be trained and
sealed with the adapter, or the next one who loads the base has another head.
"""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft.utils import ModulesToSaveWrapper
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
)

from ringi.adapters.labels import AdapterLabelsInvalid, ClassLabels
from ringi.kit.errors import RingiError

# What transformers calls the head of a classifier; peft trains and saves modules of these names without being asked.
HEADS = ("classifier", "score")
# Between an encoder and its head; some checkpoints were saved without it.
_POOLER = "pooler"
# As patterns that bitsandbytes' integration matches: they stay as they compute.
UNQUANTISED = (*HEADS, f".*{_POOLER}")


class BaseIsEncoder(RingiError):
    """The base reads a text both ways, so it does not write one; transformers would load it all the same, with a head that guesses words it has seen."""

    code, status = "base_is_encoder", 400

    def __init__(self, model_type: str) -> None:
        super().__init__(
            f"The base is an encoder ('{model_type}'): it classifies texts, and goes on with none.",
            next_step="Train it with --task sequence-classification, or take a causal language model as the base.",
            details={"model_type": model_type},
        )


class BaseWithoutClassifier(RingiError):
    """transformers has no classifier for this architecture."""

    code, status = "base_without_classifier", 400

    def __init__(self, model_type: str) -> None:
        super().__init__(
            f"There is no classifier for bases of the family '{model_type}' in transformers.",
            next_step="Take a base of another family (Llama, Qwen, Mistral, Gemma, GPT-2, BERT, RoBERTa), or train the label as a text: --task causal-lm.",
            details={"model_type": model_type},
        )


class BaseIncomplete(RingiError):
    """Weights are missing that no adapter brings: transformers would draw them at random."""

    code, status = "base_incomplete", 400

    def __init__(self, missing: Collection[str]) -> None:
        named = sorted(missing)
        super().__init__(
            f"{len(named)} weights of the base are not in its files, such as {named[0]}.",
            next_step="Register a revision with all weights of the architecture that its config.json names.",
            details={"missing": named[:64]},
        )


class Classifier(NamedTuple):
    """A base with a head for its labels, in eval mode. `made`: names of its weights that the base has not, drawn from torch's random state."""

    model: Any
    made: tuple[str, ...]


def require_language_model(settings: Any) -> None:
    """Raises BaseIsEncoder unless a base of this config writes texts."""
    known, masked = type(settings) in MODEL_FOR_CAUSAL_LM_MAPPING, type(settings) in MODEL_FOR_MASKED_LM_MAPPING
    # What has a head for masked words is an encoder, unless its config turns it into a decoder.
    if masked and not (known and getattr(settings, "is_decoder", False)):
        raise BaseIsEncoder(str(settings.model_type))


def classifier_settings(base: Path, labels: ClassLabels) -> Any:
    """The config of a Hugging Face folder as that of a classifier; raises BaseWithoutClassifier."""
    settings = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    if type(settings) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise BaseWithoutClassifier(str(settings.model_type))
    settings.num_labels = len(labels.names)
    settings.id2label = dict(enumerate(labels.names))
    settings.label2id = {name: place for place, name in enumerate(labels.names)}
    text = settings.get_text_config()
    # Nothing is generated, so nothing is kept for the next token.
    text.use_cache = settings.use_cache = False
    if labels.pad_token_id is not None:
        if not 0 <= labels.pad_token_id < text.vocab_size:
            raise AdapterLabelsInvalid(f"'pad_token_id' is {labels.pad_token_id}, and the base knows {text.vocab_size} tokens")
        text.pad_token_id = settings.pad_token_id = labels.pad_token_id
    return settings


def load_classifier(base: Path, labels: ClassLabels, *, dtype: torch.dtype, device: torch.device, **quantised: Any) -> Classifier:
    """A Hugging Face folder as a classifier: safetensors only, no code from the folder, no network. Raises BaseWithoutClassifier, BaseIncomplete."""
    model: Any
    model, found = AutoModelForSequenceClassification.from_pretrained(
        base, config=classifier_settings(base, labels), dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False,
        # A base that has a head of its own has it for other classes.
        output_loading_info=True, ignore_mismatched_sizes=True, **quantised,
    )  # fmt: skip
    made = {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])}
    if strange := {name for name in made if name.startswith(f"{model.base_model_prefix}.") and _POOLER not in name.split(".")}:
        raise BaseIncomplete(strange)
    if not quantised:
        model.to(device)
    return Classifier(model.eval(), tuple(sorted(made)))


def in_head(name: str) -> bool:
    """Whether a module or tensor of a classifier belongs to its head."""
    return name.partition(".")[0].endswith(HEADS)


def modules_to_save(made: Iterable[str]) -> list[str]:
    """Names of the modules that are sealed whole: the head, and what else was drawn."""
    beside = {name.rpartition(".")[0] for name in made if not in_head(name)}
    return [*HEADS, *sorted(beside)]


def wrapped_heads(model: Any) -> list[Any]:
    """What peft put around modules that are sealed whole."""
    return [module for module in model.modules() if isinstance(module, ModulesToSaveWrapper)]
