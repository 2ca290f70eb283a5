"""What the processes of a run do together, scene after scene, in one start of them; also by one process alone, to compare with."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig, get_peft_model

from ringi.jobs.contracts.methods import Method
from ringi.jobs.contracts.training import LoraSpec, Packing
from ringi.kit.errors import RingiError
from ringi_workers.training.checkpoint import RunState, copy_weights
from ringi_workers.training.data import encode_row
from ringi_workers.training.loop import Loop
from ringi_workers.training.packing import Layout
from ringi_workers.training.plan import Plan
from ringi_workers.training.ranks import ALONE, Ranks
from ringi_workers.training.recipe import train
from ringi_workers.training.spending import Meter
from support.recipes import COMMIT, SPEC, FolderCheckpoints, Follower
from support.tiny_model import make_tiny_tokenizer, tiny_rows
from support.tiny_shapes import tiny_shape

Losses = dict[int, tuple[float, float | None]]
# 41 rows: every sixth step has a single one, so that all processes but the first have none.
ROWS = 41
WHOLE = LoraSpec.model_validate(
    SPEC.model_dump()
    | {
        "packing": Packing.ON, "pack_length": 256, "micro_batch_size": 3, "dropout": 0.0, "max_steps": 14, "checkpoint_every": 5,
        "early_stopping_patience": 50, "evaluate_every": 4, "learning_rate": 5e-3,
    }
)  # fmt: skip
DROPPING = WHOLE.model_copy(update={"dropout": 0.1, "max_steps": 12, "early_stopping_patience": None, "checkpoint_every": 4})
OF_METHODS = {
    method: WHOLE.model_copy(update={"method": method, "early_stopping_patience": None}) for method in (Method.ADALORA, Method.IA3)
}


class Seen(NamedTuple):
    """What every process of some steps has, by rank: its error's code, step, halvings of memory, rows a pass, and the sum of its weights."""

    losses: Losses
    places: list[tuple[str | None, int, int, int | None, float]]
    details: dict[str, Any]


def learn(
    base: Path, rows: Path, out: Path, ranks: Ranks, *, spec: LoraSpec = WHOLE, unseen: Path | None = None, folder: Path | None = None
) -> Losses:
    """The losses of a whole run, exported to `out`."""
    torch.set_num_threads(1)
    sink = Follower()
    train(
        spec, base=base, rows=rows, out=out, sink=sink, checkpoints=None if folder is None else FolderCheckpoints(folder), base_name="bases/tiny",
        base_commit=COMMIT, validation=unseen, ranks=ranks,
    )  # fmt: skip
    return sink.losses()


def steps(ranks: Ranks, *, room: int | None = None, spoilt: int | None = None, stop_at: int | None = None) -> Seen:
    """Six steps of a loop. The last process has room for `room` rows a pass; row `spoilt` has no finite loss; the first is asked to stop."""
    tokenizer = make_tiny_tokenizer()
    rows = [encode_row(tokenizer, row["prompt"], row["completion"], max_length=96) for row in tiny_rows(32)]
    torch.manual_seed(5)
    model: Any = get_peft_model(
        tiny_shape("llama"), LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    )
    if spoilt is not None:
        others = {token for index, row in enumerate(rows) if index != spoilt for token in row.input_ids}
        spare = next(token for token in range(3, 500) if token not in others)
        rows[spoilt] = rows[spoilt]._replace(input_ids=(spare, *rows[spoilt].input_ids[1:]))
        model.get_input_embeddings().weight.data[spare] = float("nan")
    if room is not None and ranks.rank == ranks.size - 1:
        model.register_forward_pre_hook(_refusing(room), with_kwargs=True)
    plan = Plan(SPEC.model_copy(update={"max_steps": 6, "weight_decay": 0.0}), tuple(rows))
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=1e-2)
    state, sink = RunState(identity="x"), Follower(stop_at=stop_at if ranks.first else None)
    loop = Loop(plan, model.train(), optimizer, Layout(True, 1024, 0, 8), sink, None, Meter(torch.device("cpu"), None), ranks)
    code, details = None, dict[str, Any]()
    try:
        loop.run(state, None, workspace=Path("nowhere"))
    except RingiError as refusal:
        code, details = refusal.code, refusal.details
    weights = sum(float(tensor.abs().sum()) for tensor in copy_weights(model).values())
    return Seen(sink.losses(), ranks.gathered((code, state.step, state.memory_halvings, state.micro_batch_size, weights)), details)


def _refusing(room: int) -> Any:
    def refuse(_module: Any, _args: Any, given: dict[str, Any]) -> None:
        if int((given["position_ids"] == 0).sum()) > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    return refuse


def scenes(base: Path, rows: Path, unseen: Path, out: Path, folder: Path, *, ranks: Ranks = ALONE, **_: Any) -> dict[str, Any]:
    """Everything, by name. `folder`: the snapshot of a run in one process."""
    return {
        "whole": learn(base, rows, out / "whole", ranks, unseen=unseen),
        "gone on": learn(base, rows, out / "gone-on", ranks, unseen=unseen, folder=folder),
        **{method.value: learn(base, rows, out / method.value, ranks, spec=spec) for method, spec in OF_METHODS.items()},
        "dropping": learn(base, rows, out / "dropping", ranks, spec=DROPPING),
        "room": steps(ranks, room=3),
        "spoilt": steps(ranks, spoilt=13),
        "stopped": steps(ranks, stop_at=3),
    }
