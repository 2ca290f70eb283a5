"""Runs that begin from an earlier version: its weights learn on, or they stay and a new LoRA learns beside them. Pure, over a version's facts."""

from enum import StrEnum

from ringi.adapters.models import AdapterVersion
from ringi.adapters.schemas import VersionState
from ringi.jobs.contracts.adapters import AdapterFacts
from ringi.jobs.contracts.methods import MOST_RANK, Init, Method
from ringi.jobs.contracts.training import LoraSpec
from ringi.kit.errors import Conflict, InvalidInput
from ringi.training.schemas import TrainingPlan

# What an adapter is, beside how it learns; a run that goes on with one has them from it.
_FORM = ("method", "init", "rank", "alpha", "use_rslora", "target_modules", "rank_pattern", "alpha_pattern")


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


WARM_STARTS = (WarmStartRevoked, WarmStartDiffers, WarmStartNotStackable)


class _Told(StrEnum):
    METHOD = "only a plain LoRA on a plain LoRA is one again"
    RANK = f"their ranks together are above {MOST_RANK}"


def require_standing(version: AdapterVersion, *, reference: str) -> None:
    """Raises WarmStartRevoked."""
    if version.state is VersionState.REVOKED:
        raise WarmStartRevoked(reference)


def begun_from(version: AdapterVersion, plan: TrainingPlan, *, reference: str, stacked: bool) -> LoraSpec:
    """The spec of a run that begins from `version`; raises WarmStartRevoked, WarmStartDiffers and WarmStartNotStackable."""
    require_standing(version, reference=reference)
    facts, spec = AdapterFacts.model_validate(version.facts), plan.resolved()
    if stacked:
        _require_stackable(facts, spec, reference)
        return spec
    form = _form_of(facts, spec)
    untouched = TrainingPlan().model_dump()
    given = {field: getattr(plan, field) for field in _FORM if getattr(plan, field) != untouched[field]}
    wanted = {field: tuple(sorted(set(value))) if field == "target_modules" else value for field, value in given.items()}
    if differing := [field for field, value in wanted.items() if value != form[field]]:
        raise WarmStartDiffers(reference, differing)
    return LoraSpec.model_validate(spec.model_dump() | form)


def _form_of(facts: AdapterFacts, spec: LoraSpec) -> dict[str, object]:
    """Ranks and alphas by module are in the files, which the worker goes by."""
    method = Method.DORA if facts.use_dora else Method(facts.peft_type.lower())
    return {
        "method": method, "init": Init.ZERO, "rank": facts.rank or spec.rank, "alpha": facts.alpha or spec.alpha, "use_rslora": facts.use_rslora,
        "target_modules": facts.target_modules, "rank_pattern": {}, "alpha_pattern": {},
    }  # fmt: skip


def _require_stackable(facts: AdapterFacts, spec: LoraSpec, reference: str) -> None:
    if facts.peft_type != "LORA" or facts.use_dora or facts.replaced_tensors or (spec.method, spec.init) != (Method.LORA, Init.ZERO):
        raise WarmStartNotStackable(reference, _Told.METHOD)
    # The largest rank of a module, from the shapes: a pattern may give it more than the config's own.
    largest = max(tensor.shape[0] for tensor in facts.tensors if tensor.name.endswith(".lora_A.weight"))
    if largest + max([spec.rank, *spec.rank_pattern.values()]) > MOST_RANK:
        raise WarmStartNotStackable(reference, _Told.RANK)
