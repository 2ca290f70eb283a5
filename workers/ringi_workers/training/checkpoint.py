"""What a run needs to go on as if it had never stopped: adapter weights, optimiser, random state, counters.

The learning rate and the batches are functions of the step (plan.Plan), so they need no state of their own. What the run decided on its way
is state: whether rows are packed, how many fit a pass, and what early stopping has seen.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Protocol

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from ringi.kit.errors import RingiError
from ringi_workers.training.plain_lora import ORIGIN
from ringi_workers.training.ranks import ALONE, Ranks

_WEIGHTS = "adapter.safetensors"
_STATE = "state.pt"


class CheckpointForeign(RingiError):
    """The checkpoint belongs to a run with other hyperparameters, rows or base."""

    code, status = "training_checkpoint_foreign", 409

    def __init__(self) -> None:
        super().__init__(
            "The checkpoint was written by a run with other hyperparameters, rows or base revision.",
            next_step="Start the run again without it.",
        )


class CheckpointStore(Protocol):
    """Where checkpoints live between processes."""

    def latest(self) -> Path | None:
        """A folder with the newest whole checkpoint of this run, or None."""

    def save(self, directory: Path, step: int) -> None:
        """Keep the folder's files; the folder is gone after the call."""


@dataclass
class RunState:
    """Counters and decisions of a run across all its processes. Losses in nats per label token; `last_losses` newest last.

    `identity`: what the run is; `lineage`: the part of it that a run which branches off has too ("" in checkpoints from before there were
    branches).

    `packed`: None until it is decided; `by_rows`: with attention row by row. `micro_batch_size`: rows of a pass once memory has run out, `memory_halvings` times. `stale`:
    measurements of the validation loss since the best one, whose weights are kept. `curve`: (step, loss, validation loss), and in `since`
    the losses after its last point, with the last validation loss measured there. `tokens` (read), `cost`, `energy_j` and `gpu_seconds` begin at 0
    in `begun` and are None once a part was not measured, as in checkpoints from before they were counted. `accuracy`: of a classifier, at the last
    measurement; `best_accuracy` at the best one.
    """

    identity: str
    lineage: str = ""
    step: int = 0
    resumed_from: int = 0
    first_loss: float | None = None
    last_losses: list[float] = field(default_factory=list)
    label_tokens: int = 0
    seconds: float = 0.0
    packed: bool | None = None
    by_rows: bool = False
    micro_batch_size: int | None = None
    memory_halvings: int = 0
    best_loss: float | None = None
    best_step: int | None = None
    best_weights: dict[str, torch.Tensor] | None = None
    stale: int = 0
    curve: list[tuple[int, float, float | None]] = field(default_factory=list)
    since: list[float] = field(default_factory=list)
    validation_since: float | None = None
    tokens: int | None = None
    cost: float | None = None
    energy_j: float | None = None
    gpu_seconds: float | None = None
    accuracy: float | None = None
    best_accuracy: float | None = None

    def begun(self) -> "RunState":
        """Nothing is spent yet."""
        return replace(self, seconds=0.0, label_tokens=0, tokens=0, cost=0.0, energy_j=0.0, gpu_seconds=0.0)


def save(
    workspace: Path, model: PeftModel, optimizer: torch.optim.Optimizer, state: RunState, store: CheckpointStore, ranks: Ranks = ALONE
) -> None:
    """Write a checkpoint beside `workspace` and hand it to the store. Of several processes all call it, and the first one writes."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    drawn = ranks.gathered((torch.get_rng_state(), cuda))
    if not ranks.first:
        return
    workspace.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workspace.parent, prefix="checkpoint-") as name:
        directory = Path(name)
        save_file(copy_weights(model), directory / _WEIGHTS)
        # Not copied: the best weights of a whole model are many.
        run = {one.name: getattr(state, one.name) for one in fields(state)}
        document = {"run": run, "optimizer": optimizer.state_dict(), "cpu_rng": drawn[0][0], "cuda_rng": drawn[0][1]}
        if len(drawn) > 1:
            document["other_processes"] = drawn[1:]
        torch.save(document, directory / _STATE)
        store.save(directory, state.step)


def restore(directory: Path, model: PeftModel, optimizer: torch.optim.Optimizer, *, run: RunState, ranks: Ranks = ALONE) -> RunState:
    """Put model, optimiser and random state back; raises `CheckpointForeign` when both identity and lineage are not those of `run`.

    A process that the run did not have when the checkpoint was written keeps the random state that it has.
    """
    document = torch.load(directory / _STATE, weights_only=True, map_location="cpu")
    state = RunState(**document["run"])
    if state.identity != run.identity and state.lineage != run.lineage:
        raise CheckpointForeign
    state.identity, state.lineage = run.identity, run.lineage
    put_weights(model, load_file(directory / _WEIGHTS))
    optimizer.load_state_dict(document["optimizer"])
    drawn = [(document["cpu_rng"], document["cuda_rng"]), *document.get("other_processes", ())]
    if ranks.rank < len(drawn):
        cpu, cuda = drawn[ranks.rank]
        torch.set_rng_state(cpu)
        if torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(cuda)
    state.resumed_from = state.step
    return state


def copy_weights(model: PeftModel) -> dict[str, torch.Tensor]:
    """What is trained, by name, on the CPU."""
    return {name: parameter.detach().to("cpu", copy=True).contiguous() for name, parameter in weights_of(model).items()}


def put_weights(model: PeftModel, tensors: Mapping[str, torch.Tensor]) -> None:
    """The reverse of `copy_weights`."""
    with torch.no_grad():
        for name, parameter in weights_of(model).items():
            parameter.copy_(tensors[name])


def weights_of(model: PeftModel) -> dict[str, torch.nn.Parameter]:
    """What a checkpoint holds of the model, by name."""
    # What PiSSA and OLoRA take away again is frozen, and another device would find it otherwise (plain_lora.py).
    return {name: one for name, one in model.named_parameters() if one.requires_grad or f".{ORIGIN}." in name}
