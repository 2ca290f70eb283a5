"""Rows of a text and its label, half of them Japanese, and tiny encoders with a real WordPiece tokenizer, built in code."""

import json
import random
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, BertModel, PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM

from support.tiny_shapes import make_tiny_shape

# By code point, which is the order in which a run takes them.
LABELS = ("解約", "返金", "配送")
_TEXTS = {
    "返金": ("{n}番の注文の代金を返してください。", "Order {n}: I want my money back."),
    "解約": ("会員{n}です。契約をやめたいです。", "Member {n}: please end my contract."),
    "配送": ("{n}番の荷物が届きません。", "Parcel {n} has not arrived."),
}
SHAPES = ("llama", "qwen3", "mistral", "gemma3", "gpt2", "bert", "roberta")
ENCODERS = ("bert", "roberta")
_SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.15,
}  # fmt: skip


def class_rows(count: int, *, seed: int = 0, numbers: int = 100) -> list[dict[str, str]]:
    """`count` rows with the text's label as the completion, as sealed rows of the format text_label have it."""
    draw = random.Random(seed)
    labels = [draw.choice(LABELS) for _ in range(count)]
    return [{"prompt": draw.choice(_TEXTS[label]).format(n=draw.randrange(numbers)), "completion": label} for label in labels]


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    """As sealed rows: JSON lines with ids."""
    lines = [json.dumps({"id": f"i{number}", **row}, ensure_ascii=False) + "\n" for number, row in enumerate(rows)]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def make_class_rows(path: Path, count: int, *, seed: int = 0) -> Path:
    """Write `class_rows` as JSON lines."""
    return write_rows(path, class_rows(count, seed=seed))


def make_text_label_file(path: Path, count: int) -> Path:
    """A file to add to a dataset: `text` and `label`."""
    rows = [{"text": row["prompt"], "label": row["completion"]} for row in class_rows(count, numbers=100_000)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def word_piece() -> PreTrainedTokenizerFast:
    """A WordPiece of the rows' characters and words, which puts [CLS] before a text and [SEP] behind it. Not trained: that gives another one each time."""
    texts = [text.replace("{n}", "0 1 2 3 4 5 6 7 8 9") for pair in _TEXTS.values() for text in pair]
    letters = sorted({letter for text in texts for letter in text.lower() if not letter.isspace()})
    words = sorted({word for text in texts for word in text.lower().split() if word.isascii() and word.isalpha()} - set(letters))
    vocabulary = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *words])
    tokenizer = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", first), ("[SEP]", last)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]"
    )  # fmt: skip


def make_tiny_encoder(name: str, directory: Path, *, pooler: bool = True, seed: int = 0) -> Path:
    """A BERT or a RoBERTa as it comes from training with masked words; a BERT with `pooler` as its bare encoder is saved, without as BertForMaskedLM."""
    tokenizer = word_piece()
    settings = _SIZES | {"vocab_size": len(tokenizer), "max_position_embeddings": 160, "pad_token_id": tokenizer.pad_token_id}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any
        if name == "roberta":
            model = RobertaForMaskedLM(RobertaConfig(**settings))
        else:
            model = BertModel(BertConfig(**settings)) if pooler else BertForMaskedLM(BertConfig(**settings))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def make_class_base(name: str, directory: Path) -> Path:
    """A base of one of `SHAPES`."""
    return make_tiny_encoder(name, directory) if name in ENCODERS else make_tiny_shape(name, directory)
