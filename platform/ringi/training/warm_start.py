"""Runs that begin from an earlier version: its weights learn on, or they stay and a new LoRA learns beside them. Pure, over a version's facts."""

from enum import StrEnum
from typing import Any

from ringi.adapters.kinds import FullWeights, require_adapter
from ringi.adapters.labels import CLASSIFIES
from ringi.adapters.models import AdapterVersion
from ringi.adapters.schemas import VersionState
from ringi.jobs.contracts.adapters import AdapterFacts
from ringi.jobs.contracts.base_models import BaseFacts
from ringi.jobs.contracts.methods import ALL_LINEAR, MOST_RANK, Init, Method, TrainingTask
from ringi.jobs.contracts.training import LoraSpec
from ringi.kit.errors import Conflict, InvalidInput
from ringi.training.rates import with_usual_rate
from ringi.training.schemas import TrainingPlan, clashes_of

# What an adapter is, beside how it learns; a run that goes on with one has them from it.
_FORM = ("method", "init", "rank", "alpha", "use_rslora", "target_modules", "rank_pattern", "alpha_pattern", "task")


class WarmStartRevoked(Conflict):
    """Nothing is built on a version that was revoked."""

    code = "training_warm_start_revoked"

    def __init__(self, reference: str) -> None:
        super().__init__(f"The version {reference} was revoked.", next_step="Start from a version that stands, or from none.")


class WarmStartDiffers(InvalidInput):
    """The plan names a form of its own, and the weights that it begins with have another."""

    code = "training_warm_start_differs"

    def __init__(self, reference: str, fields: list[str]) -> None:
        super().__init__(
            f"A run that goes on from {reference} has its form, and the plan asks for another {', '.join(fields)}.",
            next_step="Leave these out, or stack a new LoRA of any form on the version.",
            details={"fields": fields},
        )


class WarmStartNotStackable(InvalidInput):
    """The sum of the two is not a LoRA that could be sealed."""

    code = "training_warm_start_not_stackable"

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(f"Nothing can be stacked on {reference}: {reason}.", next_step="Go on from it instead, or start from none.")


class WarmStartClashes(InvalidInput):
    """What the earlier version is cannot be trained as the plan asks."""

    code = "training_warm_start_clashes"

    def __init__(self, reference: str, found: list[str]) -> None:
        super().__init__(
            f"A run that goes on from {reference} cannot be as the plan asks. {' '.join(found)}",
            next_step="Leave these out of the plan, or stack a new LoRA on the version.",
            details={"reasons": found},
        )


WARM_STARTS = (WarmStartRevoked, WarmStartDiffers, WarmStartClashes, WarmStartNotStackable, FullWeights)


class _Told(StrEnum):
    METHOD = "only a plain LoRA on a plain LoRA is one again"
    MORE = "it has more than the matrices A and B of linear modules, which a sum of LoRAs does not carry"
    TASK = "of a classifier's head there can be one only"
    RANK = f"their ranks together are above {MOST_RANK}"


def require_standing(version: AdapterVersion, *, reference: str) -> None:
    """Raises WarmStartRevoked."""
    if version.state == VersionState.REVOKED:
        raise WarmStartRevoked(reference)


def begun_from(version: AdapterVersion, plan: TrainingPlan, *, reference: str, stacked: bool, base: BaseFacts | None = None) -> LoraSpec:
    """The spec of a run that begins from `version`; raises WarmStartRevoked, FullWeights, WarmStartDiffers and WarmStartNotStackable."""
    require_standing(version, reference=reference)
    require_adapter(version, reference=reference, what="no run begins from it", next_step="Start from an adapter, or from none.")
    facts, spec = AdapterFacts.model_validate(version.facts), plan.resolved(base)
    if stacked:
        _require_stackable(facts, spec, reference)
        return spec
    form = _form_of(facts, spec)
    # What a plan names counts, also where it is what an unnamed one would be: LoRA asked for on a DoRA is refused, not passed over. `all-linear` names no
    # module of its own, so it is what the version has.
    named = plan.model_fields_set - ({"target_modules"} if plan.target_modules == [ALL_LINEAR] else set())
    given = {field: getattr(plan, field) for field in _FORM if field in named and getattr(plan, field) is not None}
    wanted = {field: tuple(sorted(set(value))) if field == "target_modules" else value for field, value in given.items()}
    if differing := [field for field, value in wanted.items() if value != form[field]]:
        raise WarmStartDiffers(reference, differing)
    begun = LoraSpec.model_validate(spec.model_dump() | form)
    if plan.learning_rate is None:
        # The plan did not know the method when it filled in the rate.
        begun = with_usual_rate(begun, base)
    if found := clashes_of(begun):
        raise WarmStartClashes(reference, found)
    return begun


def _form_of(facts: AdapterFacts, spec: LoraSpec) -> dict[str, Any]:
    """Ranks and alphas by module are in the files, which the worker goes by."""
    method = Method.DORA if facts.use_dora else Method(facts.peft_type.lower())
    return {
        "method": method, "init": Init.ZERO, "rank": facts.rank or spec.rank, "alpha": facts.alpha or spec.alpha, "use_rslora": facts.use_rslora,
        "target_modules": facts.target_modules, "rank_pattern": {}, "alpha_pattern": {},
        "task": TrainingTask.SEQUENCE_CLASSIFICATION if facts.task_type == CLASSIFIES else TrainingTask.CAUSAL_LM,
    }  # fmt: skip


def _require_stackable(facts: AdapterFacts, spec: LoraSpec, reference: str) -> None:
    if spec.task is not TrainingTask.CAUSAL_LM:
        raise WarmStartNotStackable(reference, _Told.TASK)
    if facts.peft_type != "LORA" or facts.use_dora or facts.replaced_tensors or (spec.method, spec.init) != (Method.LORA, Init.ZERO):
        raise WarmStartNotStackable(reference, _Told.METHOD)
    if not all(tensor.name.endswith((".lora_A.weight", ".lora_B.weight")) for tensor in facts.tensors):
        raise WarmStartNotStackable(reference, _Told.MORE)
    # The largest rank of a module, from the shapes: a pattern may give it more than the config's own.
    largest = max(tensor.shape[0] for tensor in facts.tensors if tensor.name.endswith(".lora_A.weight"))
    if largest + max([spec.adapter_rank, *spec.rank_pattern.values()]) > MOST_RANK:
        raise WarmStartNotStackable(reference, _Told.RANK)
