"""Inspect an adapter that was trained elsewhere; what is known of any adapter's tensors and effect."""

from uuid import UUID

from pydantic import FiniteFloat

from ringi.jobs.contracts.parts import BaseRef, Contract, FileRef, Part
from ringi.kit.digests import Digest

# Where a PEFT method stands of an adapter: the version is the weights of a whole model, and holds no adapter.
FULL_WEIGHTS = "FULL"


class TensorFact(Part):
    """One tensor of an adapter file, read from the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]


class AdapterFacts(Part):
    """What the adapter's files say and how they meet the base. Module names are the base's own full names.

    `rank` and `alpha` are None for a method that has none: IA3 has neither, VeRA no alpha. With the `peft_type` FULL the files are a whole model:
    there are no modules, and all tensors replace the base's. `labels`: what the classes of a classifier mean, in
    the order of its logits; empty for a language model.
    """

    peft_type: str
    task_type: str | None
    rank: int | None
    alpha: FiniteFloat | None
    use_rslora: bool
    use_dora: bool
    target_modules: tuple[str, ...]
    # Base modules that carry adapter weights, resolved against the base.
    adapted_modules: tuple[str, ...]
    # Tensors in the file that match nothing in the base; expected tensors that the file does not fill.
    unmatched_tensors: tuple[str, ...]
    unfilled_tensors: tuple[str, ...]
    # Base tensors that loading would replace (modules_to_save, embedding base_layer).
    replaced_tensors: tuple[str, ...]
    non_finite_tensors: tuple[str, ...]
    tensors: tuple[TensorFact, ...]
    parameters: int
    labels: tuple[str, ...] = ()


class EffectFacts(Part):
    """The effect proof's measurement. `change`: largest absolute logit difference with and without the adapter on the probe
    prompts. `noise`: largest difference between two passes of the bare base with other batch shapes. Logits, no unit.
    """

    prompts: int
    probe_digest: Digest
    change: FiniteFloat | None
    noise: FiniteFloat | None
    dtype: str


class InspectPayload(Contract):
    """Check a PEFT folder that was trained elsewhere."""

    adapter_id: UUID
    adapter_name: str
    base: BaseRef
    files: tuple[FileRef, ...]


class InspectResult(Contract):
    """`files` are the canonical files to seal (weights as they came, config rewritten)."""

    files: tuple[FileRef, ...]
    facts: AdapterFacts
    effect: EffectFacts
    runtime: dict[str, str]
