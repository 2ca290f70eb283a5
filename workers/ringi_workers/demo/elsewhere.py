"""What another team does without Ringi's trainer: pull the base from the hub, train with plain peft, save a folder.

Runs as a process of its own with HF_ENDPOINT and HF_TOKEN set: `python -m ringi_workers.demo.elsewhere REPOSITORY COMMIT ROWS OUT STEPS`.
"""

import json
import random
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

_BATCH = 8
_LENGTH = 96


def train(repository: str, commit: str, rows: Path, out: Path, *, steps: int) -> None:
    """A short LoRA run over the base at `commit`, on the whole text of `rows`; saves the PEFT folder `out`."""
    torch.manual_seed(7)
    tokenizer = AutoTokenizer.from_pretrained(repository, revision=commit)
    base = AutoModelForCausalLM.from_pretrained(repository, revision=commit, dtype=torch.float32)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], revision=commit)
    model = get_peft_model(base, config)
    with rows.open("rb") as lines:
        texts = [_chat(tokenizer, json.loads(line)) for line in lines]
    random.Random(7).shuffle(texts)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for step in range(steps):
        batch = tokenizer(
            texts[step * _BATCH : (step + 1) * _BATCH],
            return_tensors="pt",
            padding=True,
            truncation=True,
            max_length=_LENGTH,
            add_special_tokens=False,
        )
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"  elsewhere: step {step + 1}/{steps}, loss {loss.item():.3f}", flush=True)
    model.save_pretrained(str(out))


def _chat(tokenizer: object, row: dict[str, str]) -> str:
    turns = [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False))  # type: ignore[attr-defined]  # transformers types it loosely


if __name__ == "__main__":
    train(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), steps=int(sys.argv[5]))
