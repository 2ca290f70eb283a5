"""A LoRA run by one call of the recipe: its spec, a sink that remembers, checkpoints in a folder."""

import shutil
from pathlib import Path
from uuid import uuid4

import torch

from ringi.jobs.contracts.methods import Quantisation
from ringi.jobs.contracts.parts import Progress
from ringi.jobs.contracts.training import LoraSpec, PriceTable
from ringi_workers.adapters.attach import attach, load_tokenizer
from ringi_workers.training.data import IGNORED, collate, load_examples, pad_id_of
from ringi_workers.training.earlier import Earlier
from ringi_workers.training.quantised import load_quantised
from ringi_workers.training.recipe import TrainedAdapter, train

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SPEC = LoraSpec(
    rank=4, alpha=8, dropout=0.1, target_modules=("q_proj", "v_proj", "o_proj", "up_proj", "down_proj"), use_rslora=False,
    learning_rate=2e-2, epochs=3, max_steps=40, batch_size=8, warmup_fraction=0.1, weight_decay=0.01, max_grad_norm=1.0,
    max_length=96, seed=7, checkpoint_every=6,
)  # fmt: skip


class Follower:
    """A real sink: keeps what it is told and asks for a stop once a step is reached."""

    def __init__(self, *, stop_at: int | None = None, pause_at: int | None = None) -> None:
        self.reports: list[Progress] = []
        self.figures: dict[int, dict[str, float]] = {}
        self._stop_at, self._pause_at = stop_at, pause_at

    def report(self, progress: Progress) -> None:
        self.reports.append(progress)

    def log(self, metrics: dict[str, float], step: int) -> None:
        self.figures[step] = metrics

    def should_stop(self) -> bool:
        return self._stop_at is not None and self._stop_at in self.figures

    def should_pause(self) -> bool:
        return self._pause_at is not None and self._pause_at in self.figures

    def losses(self) -> dict[int, tuple[float, float | None]]:
        """Loss and, where it was measured, validation loss of every step that was seen."""
        return {step: (figures["loss"], figures.get("validation_loss")) for step, figures in self.figures.items()}


class FolderCheckpoints:
    """A checkpoint store in a folder, which holds whole checkpoints only, also after kill -9."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def latest(self) -> Path | None:
        return max(self._folder.glob("[0-9]*"), default=None)

    def save(self, directory: Path, step: int) -> None:
        aside = self._folder / f"part-{uuid4().hex}"
        shutil.copytree(directory, aside)
        # A run that rests at once where it has just saved, saves again.
        shutil.rmtree(self._folder / f"{step:06d}", ignore_errors=True)
        aside.rename(self._folder / f"{step:06d}")


def run(
    base: Path, rows: Path, out: Path, *, spec: LoraSpec = SPEC, sink: Follower | None = None, folder: Path | None = None,
    validation: Path | None = None, branched_at: int | None = None, prices: PriceTable | None = None, earlier: Earlier | None = None,
) -> TrainedAdapter:  # fmt: skip
    store = FolderCheckpoints(folder) if folder is not None else None
    return train(
        spec, base=base, rows=rows, out=out, sink=sink or Follower(), checkpoints=store, base_name="bases/tiny", base_commit=COMMIT,
        validation=validation, branched_at=branched_at, prices=prices, earlier=earlier,
    )  # fmt: skip


def mean_nll(base: Path, rows: Path, adapter: Path | None, quantisation: Quantisation = Quantisation.NONE) -> float:
    """Over all label tokens, from the full logits of one padded batch: another way than the recipe's."""
    model = load_quantised(base, quantisation, dtype=torch.float32, device=torch.device("cpu"))
    model = model if adapter is None else attach(model, adapter)
    tokenizer = load_tokenizer(base)
    batch = collate(load_examples(rows, tokenizer, 96).examples, pad_id_of(tokenizer))
    with torch.inference_mode():
        logits = model(input_ids=batch.ids, attention_mask=batch.mask).logits[:, :-1]
    return float(torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch.labels[:, 1:], ignore_index=IGNORED))
