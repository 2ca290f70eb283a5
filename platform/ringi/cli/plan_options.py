"""How a training run is carried out, as options of `ringi train`; what they do is told in docs/training.md."""

from functools import cache
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from ringi.cli.errors import Usage, plain
from ringi.jobs.contracts.methods import USUAL_RANK, Init, Method, Quantisation, TrainingTask
from ringi.jobs.contracts.training import Packing, Schedule
from ringi.training.schemas import TrainingPlan

_MICRO_BATCH = "Rows of one pass; a step then takes several. All rows of the step unless given."
_CHECKPOINTING = "Compute activations twice to keep fewer: less memory, about a third more time."
_TARGETS = "A module to adapt; repeat it. Or all-linear (so unless given), or suggested: what peft recommends for the base's family."
_OWN = "NAME=NUMBER for the modules whose name is or ends so; repeat it."
_RATE = "Peak learning rate; unless given what suits method and base (0.0003 for LoRA over a Llama of 8B)."
_METHOD = "What is trained: LoRA, DoRA, AdaLoRA, IA3, VeRA; or every weight of the base (full), to compare with."
_TASK = "To write texts, or to say which of the rows' labels (返金, 解約, …) a text has."
_PATIENCE = "End after so many validation losses in a row that are no better; the best weights are kept."

# How a bound that is itself no value is said; typer shows the others.
_OPEN = {"exclusiveMinimum": "above", "exclusiveMaximum": "below"}


@cache
def _fields() -> dict[str, Any]:
    found: dict[str, Any] = TrainingPlan.model_json_schema()["properties"]
    return {name: one["anyOf"][0] if "anyOf" in one else one for name, one in found.items()}


def of_plan(field: str, text: str, **shown: Any) -> Any:
    """An option with the bounds of the plan's field; `shown` goes to typer."""
    bounds = _fields()[field]
    least, most = bounds.get("minimum"), bounds.get("maximum")
    if bounds["type"] == "integer" and "exclusiveMaximum" in bounds:
        most = bounds["exclusiveMaximum"] - 1
        bounds = {name: one for name, one in bounds.items() if name != "exclusiveMaximum"}
    words = [f"{word} {bounds[name]:g}" for name, word in _OPEN.items() if name in bounds]
    # With one bound that is a value and one that is not, both are said in words: a range would tell half.
    if words:
        words = [*([f"from {least:g}"] if least is not None else []), *words, *([f"at most {most:g}"] if most is not None else [])]
        return typer.Option(help=f"{text} {', '.join(words).capitalize()}.", **shown)
    return typer.Option(help=text, min=least, max=most, **shown)


Alpha = Annotated[float | None, of_plan("alpha", "Scale; twice the rank unless given.", show_default=False)]
Dropped = Annotated[float, of_plan("dropout", "Share of inputs dropped while training.")]
Epochs = Annotated[int, of_plan("epochs", "Passes over the rows.")]
MostSteps = Annotated[int | None, of_plan("max_steps", "Stop after so many steps.", show_default=False)]
RowsOfAStep = Annotated[int, of_plan("batch_size", "Rows a step.")]
WarmUp = Annotated[float, of_plan("warmup_fraction", "Share of the steps that warm up.")]
Decay = Annotated[float, of_plan("weight_decay", "How strongly weights are drawn to zero.")]
ClippedTo = Annotated[float, of_plan("max_grad_norm", "Gradients are clipped to this norm.")]
TokensOfARow = Annotated[int, of_plan("max_length", "Tokens of a row; longer prompts are cut.")]
Seed = Annotated[int, of_plan("seed", "Seed of everything random.")]
StepsBetweenSnapshots = Annotated[int, of_plan("checkpoint_every", "Steps between checkpoints.")]
RowsOfAPass = Annotated[int | None, of_plan("micro_batch_size", _MICRO_BATCH, show_default=False)]
PackingMode = Annotated[
    Packing, typer.Option(help="Rows behind each other without padding: where the base keeps them apart, always, never.")
]
TokensOfAPack = Annotated[int, of_plan("pack_length", "Tokens of packed rows; a longer row stands alone.")]
AfterWarmUp = Annotated[Schedule, typer.Option(help="How the learning rate goes on after the warm-up.")]
FewerActivations = Annotated[bool, typer.Option("--gradient-checkpointing", help=_CHECKPOINTING)]
Patience = Annotated[int | None, of_plan("early_stopping_patience", _PATIENCE, show_default=False)]
StepsBetweenLosses = Annotated[int, of_plan("evaluate_every", "Steps between validation losses, with early stopping.")]
Targets = Annotated[list[str] | None, typer.Option(help=_TARGETS, show_default=False)]
# Nothing where they are not named: a run that begins with an earlier version has its form, and is refused where another one is named.
WhatIsTrained = Annotated[Method | None, typer.Option(help=_METHOD, show_default=str(Method.LORA))]
HowItBegins = Annotated[
    Init | None,
    typer.Option(help="How LoRA begins: with B at zero, or from the base's weights by PiSSA or OLoRA.", show_default=str(Init.ZERO)),
]
PeakRate = Annotated[float | None, of_plan("learning_rate", _RATE, show_default=False)]
RatioOfRates = Annotated[float | None, of_plan("lora_plus_ratio", "LoRA+: how many times the rate of A that of B is.", show_default=False)]
RankOfMatrices = Annotated[int | None, of_plan("rank", f"Rank of the LoRA matrices; {USUAL_RANK} unless given.", show_default=False)]
OwnRanks = Annotated[list[str] | None, typer.Option(help=f"A rank of its own: {_OWN}", show_default=False)]
OwnAlphas = Annotated[list[str] | None, typer.Option(help=f"An alpha of its own: {_OWN}", show_default=False)]

StartFrom = Annotated[
    str | None, typer.Option(help="Begin with this version of the adapter (v3, latest, a channel), in its form.", show_default=False)
]
Stacked = Annotated[bool, typer.Option("--stacked", help="Leave that version as it is, and train a new LoRA beside it.")]

HowStored = Annotated[Quantisation, typer.Option(help="How the frozen base is stored while training: nf4 is QLoRA.")]

WhatIsLearnt = Annotated[TrainingTask | None, typer.Option(help=_TASK, show_default=str(TrainingTask.CAUSAL_LM))]
ScaledByRoot = Annotated[bool | None, typer.Option("--use-rslora", help="Scale by the square root of the rank.", show_default=False)]


# Options whose names are not those of the plan's fields, because one is given many times.
_OPTIONS = {"target_modules": "--target-module", "rank_pattern": "--rank-of", "alpha_pattern": "--alpha-of"}


class BadPlan(Usage):
    """A hyperparameter outside its bounds, or several that do not go together."""

    code = "bad_plan"

    def __init__(self, error: ValidationError) -> None:
        reasons = [{"where": _option(*one["loc"]), "what": plain(one["msg"])} for one in error.errors()]
        super().__init__(
            "These hyperparameters cannot be a run's.",
            next_step="Change what is named; bounds are in ringi train --help, which go together in docs/training-methods.md.",
            details={"reasons": reasons},
        )


def _option(field: str | int = "", *within: str | int) -> str:
    """As it is written on the command line; nothing of a plan as a whole."""
    named = _OPTIONS.get(str(field), f"--{field}".replace("_", "-")) if field else "options"
    keys = [str(one) for one in within if isinstance(one, str)]
    return " ".join([named, *keys])


def checked_plan(**values: object) -> TrainingPlan:
    """The plan, in which what was not named is left to the platform; raises BadPlan."""
    try:
        return TrainingPlan.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise BadPlan(error) from None


def by_module(given: list[str] | None) -> dict[str, float | str]:
    """`q_proj=8` and its like, by name; what is no number stays text, which the plan refuses by name. A part without `=` has no number."""
    return {name: _number(text) for name, _, text in (one.partition("=") for one in given or [])}


def _number(text: str) -> float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
