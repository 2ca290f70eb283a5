"""Facts and effect of a PEFT folder, whether trained here or elsewhere, and its canonical files. The platform judges them."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from ringi.jobs.contracts.adapters import AdapterFacts, EffectFacts
from ringi_workers.adapters.attach import adapter_facts, load_base, load_tokenizer, read_config, runtime_facts
from ringi_workers.adapters.effect import measure_effect, measure_other_model
from ringi_workers.adapters.full_weights import full_weights_facts, is_full_weights, read_full_weights
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
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_base(base, dtype=torch.float32, device=device)
    effect = measure_effect(model, load_tokenizer(base), folder, facts, task_prompts=task_prompts)
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
    """Write the canonical files of `folder` to `out` (weights byte for byte, config rewritten) and measure them there.

    Raises what `measure` raises, and AdapterBaseMismatch or AdapterBaseRevisionMissing when the config does not name this base.
    """
    config = read_config(folder, base_name=base_name, base_commit=base_commit).document
    document = canonical_config(config, base_name=base_name, base_commit=base_commit)
    out.mkdir(parents=True, exist_ok=True)
    if (folder / WEIGHTS_FILE).is_file():
        shutil.copyfile(folder / WEIGHTS_FILE, out / WEIGHTS_FILE)
    write_config(document, out)
    measured = measure(out, base=base, task_prompts=task_prompts)
    return Inspected(measured.facts, measured.effect, out, measured.runtime)
