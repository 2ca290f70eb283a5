"""What a run needs to go on as if it had never stopped: adapter weights, optimiser, random state, counters.

The learning rate and the batches are functions of the step (recipe.Plan), so they need no state of their own.
"""

import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from ringi.kit.errors import RingiError

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
    """Counters of a run across all its processes. Losses in nats per label token; `last_losses` newest last."""

    identity: str
    step: int = 0
    resumed_from: int = 0
    first_loss: float | None = None
    last_losses: list[float] = field(default_factory=list)
    label_tokens: int = 0
    seconds: float = 0.0


def save(workspace: Path, model: PeftModel, optimizer: torch.optim.Optimizer, state: RunState, store: CheckpointStore) -> None:
    """Write a checkpoint beside `workspace` and hand it to the store."""
    workspace.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workspace.parent, prefix="checkpoint-") as name:
        directory = Path(name)
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in _weights(model).items()}, directory / _WEIGHTS)
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        document = {"run": asdict(state), "optimizer": optimizer.state_dict(), "cpu_rng": torch.get_rng_state(), "cuda_rng": cuda}
        torch.save(document, directory / _STATE)
        store.save(directory, state.step)


def restore(directory: Path, model: PeftModel, optimizer: torch.optim.Optimizer, *, identity: str) -> RunState:
    """Put model, optimiser and random state back; raises `CheckpointForeign` when `identity` is another run's."""
    document = torch.load(directory / _STATE, weights_only=True, map_location="cpu")
    state = RunState(**document["run"])
    if state.identity != identity:
        raise CheckpointForeign
    tensors = load_file(directory / _WEIGHTS)
    with torch.no_grad():
        for name, parameter in _weights(model).items():
            parameter.copy_(tensors[name])
    optimizer.load_state_dict(document["optimizer"])
    torch.set_rng_state(document["cpu_rng"])
    if torch.cuda.is_available() and len(document["cuda_rng"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(document["cuda_rng"])
    state.resumed_from = state.step
    return state


def _weights(model: PeftModel) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
