"""One peer of `benchmarks.training_vs_peers`, in an environment of its own: what a user writes with Trainer and peft, or with TRL.

`training_peer.py KIND BASE ROWS SECONDS` prints one line of JSON: real tokens and seconds of the loop's steps after the first two.
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
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from datasets import Dataset  # type: ignore[attr-defined]  # the peers' library, not the folder of our tests

WARM_STEPS = 2
LORA: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}


class Clock(TrainerCallback):  # type: ignore[misc]  # transformers says nothing of its type
    """Tokens without padding and seconds of the steps after the first ones; ends the run when its time is over."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._begun, self._cpu_begun = seconds, 0.0, 0.0
        self.tokens, self.steps, self.elapsed, self.cpu = 0, 0, 0.0, 0.0

    def saw(self, inputs: dict[str, Any]) -> None:
        mask = inputs.get("attention_mask")
        self.tokens += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.perf_counter()
        if state.global_step == WARM_STEPS:
            self._begun, self._cpu_begun, self.tokens = now, time.process_time(), 0
        elif state.global_step > WARM_STEPS:
            self.steps, self.elapsed = state.global_step - WARM_STEPS, now - self._begun
            self.cpu = time.process_time() - self._cpu_begun
            control.should_training_stop = self.elapsed >= self._seconds


def counting(kind: type[Any], clock: Clock) -> type[Any]:
    """The trainer, whose batches are counted on their way."""

    class Counting(kind):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            clock.saw(inputs)
            return super().training_step(model, inputs, *args, **kwargs)

    return Counting


def arguments(folder: str, **more: Any) -> dict[str, Any]:
    """What all kinds share: nothing is saved, logged or reported."""
    return {
        "output_dir": folder, "num_train_epochs": 100, "learning_rate": 2e-4, "save_strategy": "no", "report_to": [], "use_cpu": not torch.cuda.is_available(),
        "disable_tqdm": True, "logging_strategy": "no", "seed": 0,
    } | more  # fmt: skip


def with_trainer(base: str, rows: list[dict[str, str]], clock: Clock, folder: str, *, batch: int, accumulation: int) -> None:
    """The twenty lines."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(**LORA))
    texts = Dataset.from_list([{"text": f"{row['prompt']}\n{row['completion']}{tokenizer.eos_token}"} for row in rows])
    data = texts.map(lambda row: tokenizer(row["text"], truncation=True, max_length=128), remove_columns=["text"])
    settings = arguments(folder, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)
    collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    args = TrainingArguments(**settings)
    counting(Trainer, clock)(model=model, args=args, train_dataset=data, data_collator=collator, callbacks=[clock]).train()


def with_trl(base: str, rows: list[dict[str, str]], clock: Clock, folder: str, *, batch: int, packing: bool, tokens: int) -> None:
    """SFTTrainer in bf16 on prompts and completions: `batch` rows a step, or one pack of `tokens`."""
    from trl import SFTConfig, SFTTrainer  # type: ignore[import-not-found]  # noqa: PLC0415  # the other kinds do without

    data = Dataset.from_list([{"prompt": f"{row['prompt']}\n", "completion": row["completion"]} for row in rows])
    packed = {"packing": True, "max_length": tokens, "per_device_train_batch_size": 1}
    plain = {"max_length": 2048, "per_device_train_batch_size": batch}
    settings = arguments(
        folder, bf16=True, model_init_kwargs={"dtype": "bfloat16"}, gradient_checkpointing=False, **(packed if packing else plain)
    )
    trainer = counting(SFTTrainer, clock)
    trainer(model=base, args=SFTConfig(**settings), train_dataset=data, peft_config=LoraConfig(**LORA), callbacks=[clock]).train()


def main() -> None:
    """Run one kind."""
    kind, base, source, seconds, tokens = sys.argv[1:]
    transformers.utils.logging.set_verbosity_error()
    rows = [json.loads(line) for line in Path(source).read_text(encoding="utf-8").splitlines()]
    clock = Clock(float(seconds))
    with tempfile.TemporaryDirectory() as folder:
        if kind == "recipe":
            with_trainer(base, rows, clock, folder, batch=1, accumulation=4)
        elif kind == "trainer16":
            with_trainer(base, rows, clock, folder, batch=16, accumulation=1)
        else:
            with_trl(base, rows, clock, folder, batch=4 if kind == "trl_4" else 16, packing=kind == "trl_packed", tokens=int(tokens))
    print(json.dumps({"tokens": clock.tokens, "seconds": clock.elapsed, "cpu_seconds": clock.cpu, "steps": clock.steps}))


if __name__ == "__main__":
    main()
