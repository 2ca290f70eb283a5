"""Facts and effect of a PEFT folder, whether trained here or elsewhere, and its canonical files. The platform judges them."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from ringi.adapters.labels import LABELS
from ringi.jobs.contracts.adapters import AdapterFacts, EffectFacts
from ringi_workers.adapters.attach import adapter_facts, load_base, load_tokenizer, read_config, read_labels, runtime_facts
from ringi_workers.adapters.effect import measure_class_effect, measure_effect, measure_other_model
from ringi_workers.adapters.full_weights import full_weights_facts, is_full_weights, read_full_weights
from ringi_workers.adapters.heads import load_classifier
from ringi_workers.training.classes import padding_of, padding_of_base
from ringi_workers.training.export import WEIGHTS_FILE, canonical_config, write_config


class Measured(NamedTuple):
    """What was measured on an adapter, and the versions, device and dtype it was measured with."""

    facts: AdapterFacts
    effect: EffectFacts
    runtime: dict[str, str]


class Inspected(NamedTuple):
    """The same, and the folder with the files to seal."""

    facts: AdapterFacts
    effect: EffectFacts
    directory: Path
    runtime: dict[str, str]


def measure(folder: Path, *, base: Path, task_prompts: Sequence[str] = ()) -> Measured:
    """Facts and effect of the PEFT folder on the Hugging Face folder `base`, in float32, on the GPU if there is one.

    Raises AdapterShapeMismatch, AdapterUndecodable, and the refusals of the config gate and the header reader.
    """
    if is_full_weights(folder):
        return measure_full_weights(folder, base=base, task_prompts=task_prompts)
    facts = adapter_facts(folder, base=base)
    labels = read_labels(folder, {"task_type": facts.task_type})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = load_tokenizer(base)
    if labels is None:
        model = load_base(base, dtype=torch.float32, device=device)
        effect = measure_effect(model, tokenizer, folder, facts, task_prompts=task_prompts)
    else:
        loaded = load_classifier(base, labels, dtype=torch.float32, device=device)
        # What neither the base nor the adapter has would be drawn at random by everyone who loads the two.
        drawn = {f"base_model.model.{name}" for name in loaded.made} - {tensor.name for tensor in facts.tensors}
        facts = facts.model_copy(update={"unfilled_tensors": tuple(sorted({*facts.unfilled_tensors, *drawn}))})
        effect = measure_class_effect(
            loaded.model, tokenizer, folder, facts, pad_id=padding_of(tokenizer, labels), task_prompts=task_prompts
        )
    return Measured(facts, effect, runtime_facts(device, torch.float32))


def measure_full_weights(folder: Path, *, base: Path, task_prompts: Sequence[str] = ()) -> Measured:
    """Facts and effect of a model that stands alone, beside the base that it was trained from. Raises FullWeightsUnreadable."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded = read_full_weights(folder, dtype=torch.float32, device=device)
    facts = full_weights_facts(folder, unmatched=loaded.unmatched, unfilled=loaded.unfilled)
    model = load_base(base, dtype=torch.float32, device=device)
    effect = measure_other_model(model, loaded.model, load_tokenizer(base), task_prompts=task_prompts)
    return Measured(facts, effect, runtime_facts(device, torch.float32))


def inspect_adapter(
    folder: Path, *, base: Path, base_name: str, base_commit: str, out: Path, task_prompts: Sequence[str] = ()
) -> Inspected:
    """Write the canonical files of `folder` to `out` (weights byte for byte, config and labels rewritten) and measure them there.

    Raises what `measure` raises, and AdapterBaseMismatch or AdapterBaseRevisionMissing when the config does not name this base.
    """
    config = read_config(folder, base_name=base_name, base_commit=base_commit).document
    document = canonical_config(config, base_name=base_name, base_commit=base_commit)
    out.mkdir(parents=True, exist_ok=True)
    if (folder / WEIGHTS_FILE).is_file():
        shutil.copyfile(folder / WEIGHTS_FILE, out / WEIGHTS_FILE)
    if (labels := read_labels(folder, config)) is not None:
        # Which token is padding is said once and for all: how a head reads a row depends on it.
        known = {} if labels.pad_token_id is not None else {"pad_token_id": padding_of_base(base, load_tokenizer(base))}
        (out / LABELS).write_bytes(labels.model_copy(update=known).canonical)
    write_config(document, out)
    measured = measure(out, base=base, task_prompts=task_prompts)
    return Inspected(measured.facts, measured.effect, out, measured.runtime)
