"""A tiny Llama and a real byte-level BPE tokenizer, built in code in under two seconds and saved as an ordinary Hugging Face folder.

The initial weights are wide, so that a LoRA on the linear layers alone can move the logits: a model drawn with the usual 0.02 has
logits so small that no training of its hidden layers could lower the loss by much.
"""

import json
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHAT_TEMPLATE = (
    "{% for message in messages %}<|start|>{{ message['role'] }}\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
VOCAB_SIZE = 512

# Matrices this small are only slowed down by threads: on a busy machine, sixteen times.
torch.set_num_threads(1)

_COLOURS = ("red", "blue", "green", "white", "black", "golden", "silver", "purple")
_THINGS = ("cat", "lamp", "river", "letter", "window", "bridge", "garden", "clock", "train", "stone")
_IRO = ("赤い", "青い", "緑の", "白い", "黒い", "金の", "銀の", "紫の")
_MONO = ("猫", "灯り", "川", "手紙", "窓", "橋", "庭", "時計", "電車", "石")


def tiny_rows(count: int, *, seed: int = 0) -> list[dict[str, str]]:
    """`count` prompt/completion rows, every third one Japanese; completions share a form that some dozens of steps can learn."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        if number % 3 == 2:
            thing = draw.choice(_IRO) + draw.choice(_MONO)
            rows.append({"prompt": f"{number}番の棚に何がありますか。", "completion": f"はい、棚には{thing}があります。"})
        else:
            thing = f"{draw.choice(_COLOURS)} {draw.choice(_THINGS)}"
            rows.append({"prompt": f"What is on shelf {number}?", "completion": f"Yes, on that shelf there is a {thing}."})
    return rows


def make_tiny_rows(path: Path, count: int, *, seed: int = 0) -> Path:
    """Write `tiny_rows` as JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in tiny_rows(count, seed=seed)), encoding="utf-8")
    return path


def make_tiny_tokenizer(*, chat_template: bool = True) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on the tiny rows: every text is encodable, `<|end|>` is end of turn and of sequence."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<|pad|>", "<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [text for row in tiny_rows(200, seed=1) for text in row.values()]
    tokenizer.train_from_iterator(["user\n", "assistant\n", *texts], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|start|>",
        eos_token="<|end|>",
        chat_template=CHAT_TEMPLATE if chat_template else None,
    )


def make_tiny_base(directory: Path, *, seed: int = 0, layers: int = 2, hidden_size: int = 64) -> Path:
    """Save the model (float32, one safetensors file) and its tokenizer under `directory`; equal arguments give equal weights."""
    tokenizer = make_tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.15,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
