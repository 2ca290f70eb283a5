"""The recipe in `benchmarks.training_to_accuracy`: the twenty lines of Trainer and peft, in an environment of its own, whose weights are kept.

`training_peer_curve.py BASE ROWS RATE EPOCHS EVERY FOLDER` keeps the adapter of every EVERY rows in FOLDER and prints one line of JSON: of each the
seconds of the steps until then, and the rows.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

from datasets import Dataset  # type: ignore[attr-defined]  # the peers' library, not the folder of our tests

ACCUMULATION = 4


class Curve(TrainerCallback):  # type: ignore[misc]  # transformers says nothing of its type
    """Adds up the seconds of the steps alone, and keeps the adapter after every so many rows."""

    def __init__(self, folder: Path, every: int) -> None:
        self._folder, self._every = folder, every
        self._begun, self._seconds = 0.0, 0.0
        self.kept: list[dict[str, object]] = []

    def on_step_begin(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        self._begun = time.perf_counter()

    def on_step_end(self, _args: Any, state: Any, _control: Any, *, model: Any, **_: Any) -> None:
        self._seconds += time.perf_counter() - self._begun
        rows = state.global_step * ACCUMULATION
        if rows % self._every == 0:
            name = f"{rows}.safetensors"
            weights = {key: one.detach().clone() for key, one in model.named_parameters() if one.requires_grad}
            save_file(weights, self._folder / name)
            self.kept.append({"seconds": self._seconds, "rows": rows, "weights": name})


def main() -> None:
    """The twenty lines."""
    base, source, rate, epochs, every, folder = sys.argv[1:]
    transformers.utils.logging.set_verbosity_error()
    rows = [json.loads(line) for line in Path(source).read_text(encoding="utf-8").splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(base)
    lora: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(**lora))
    texts = Dataset.from_list([{"text": f"{row['prompt']}\n{row['completion']}{tokenizer.eos_token}"} for row in rows])
    data = texts.map(lambda row: tokenizer(row["text"], truncation=True, max_length=128), remove_columns=["text"])
    curve = Curve(Path(folder), int(every))
    with tempfile.TemporaryDirectory() as out:
        args = TrainingArguments(
            output_dir=out, num_train_epochs=float(epochs), learning_rate=float(rate), per_device_train_batch_size=1,
            gradient_accumulation_steps=ACCUMULATION, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, logging_strategy="no", seed=0,
        )  # fmt: skip
        collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
        Trainer(model=model, args=args, train_dataset=data, data_collator=collator, callbacks=[curve]).train()
    print(json.dumps(curve.kept))


if __name__ == "__main__":
    main()
