import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from ringi_workers.training.data import (
    IGNORED,
    Example,
    NoLabelTokens,
    UnreadableRow,
    collate,
    encode_row,
    epoch_batches,
    load_examples,
    render_prompt,
)
from support.tiny_model import make_tiny_rows, make_tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tiny_tokenizer()


def learnt(tokenizer: PreTrainedTokenizerFast, example: Example) -> str:
    text = tokenizer.decode([token for token in example.labels if token != IGNORED])
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize("completion", ["Yes, on that shelf there is a red cat.", "はい、棚には青い猫があります。", "𠮷野家 🍜", " spaced"])
def test_labels_are_the_completion_and_its_end_of_turn_and_nothing_else(tokenizer: PreTrainedTokenizerFast, completion: str) -> None:
    example = encode_row(tokenizer, "棚に what?", completion, max_length=256)
    assert learnt(tokenizer, example) == completion + "<|end|>"
    assert tokenizer.decode(list(example.input_ids[: example.labels_from])) == render_prompt(tokenizer, "棚に what?")


def test_a_base_without_chat_template_learns_completion_and_eos() -> None:
    tokenizer = make_tiny_tokenizer(chat_template=False)
    example = encode_row(tokenizer, "What?", "猫です。", max_length=64)
    assert tokenizer.decode(list(example.input_ids)) == "What?\n猫です。<|end|>"
    assert learnt(tokenizer, example) == "猫です。<|end|>"


def test_a_generation_prompt_with_more_text_than_the_history_falls_back_to_the_common_text() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = str(tokenizer.chat_template).replace("assistant\n{% endif %}", "assistant\n<think></think>{% endif %}")
    assert learnt(tokenizer, encode_row(tokenizer, "What?", "赤い猫", max_length=64)) == "赤い猫<|end|>"


def test_a_merge_across_the_border_is_learnt_because_it_carries_completion_text() -> None:
    tokenizer = make_tiny_tokenizer()
    # Nothing stands between prompt and completion, so the tokenizer merges across the border.
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['content'] }}{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    )
    whole = tokenizer("shelf<|end|>", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(whole) == ["s", "helf", "<|end|>"]
    example = encode_row(tokenizer, "she", "lf", max_length=64)
    assert (list(example.input_ids), example.labels_from) == (whole, 1)
    other = encode_row(tokenizer, "a she", "lf", max_length=64)
    assert learnt(tokenizer, other).endswith("helf<|end|>")


def test_a_long_prompt_loses_its_left_and_the_completion_stays_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    example = encode_row(tokenizer, "far away " * 50 + "near", "a red cat.", max_length=32)
    assert len(example.input_ids) == 32
    assert learnt(tokenizer, example) == "a red cat.<|end|>"
    assert "near" in tokenizer.decode(list(example.input_ids[: example.labels_from]))


def test_a_completion_longer_than_the_limit_keeps_its_beginning_behind_one_prompt_token(tokenizer: PreTrainedTokenizerFast) -> None:
    example = encode_row(tokenizer, "What?", "red cat, " * 50, max_length=16)
    assert (len(example.input_ids), example.labels_from) == (16, 1)
    assert learnt(tokenizer, example).startswith("red cat")


def test_rows_without_completion_are_skipped_and_counted(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": ""}, {"prompt": "a", "completion": " \u3000\n"}]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    loaded = load_examples(path, tokenizer, 64)
    assert (len(loaded.examples), loaded.skipped) == (1, 2)


def test_rows_that_are_all_empty_are_refused(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": ""}\n' * 3, encoding="utf-8")
    with pytest.raises(NoLabelTokens, match="None of the 3 rows") as refusal:
        load_examples(path, tokenizer, 64)
    assert (refusal.value.code, refusal.value.status) == ("training_no_label_tokens", 400)


@pytest.mark.parametrize(
    "line", [b"{", b"[1]", b'{"prompt": "a"}', b'{"prompt": "a", "completion": 7}', b'{"prompt": "\xff", "completion": "b"}']
)
def test_a_malformed_line_is_named(tokenizer: PreTrainedTokenizerFast, tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "a", "completion": "b"}\n' + line + b"\n")
    with pytest.raises(UnreadableRow, match="Line 2"):
        load_examples(path, tokenizer, 64)


def test_batches_depend_on_seed_and_epoch_only_and_hold_every_example_once(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    examples = load_examples(make_tiny_rows(tmp_path / "rows.jsonl", 50), tokenizer, 64).examples
    first = epoch_batches(examples, batch_size=8, seed=3, epoch=1)
    assert first == epoch_batches(examples, batch_size=8, seed=3, epoch=1)
    assert sorted(index for batch in first for index in batch) == list(range(50))
    assert first != epoch_batches(examples, batch_size=8, seed=3, epoch=2)
    assert first != epoch_batches(examples, batch_size=8, seed=4, epoch=1)


def test_a_batch_is_padded_on_the_right_and_padding_is_not_learnt() -> None:
    batch = collate([Example((5, 6, 7), 2), Example((8, 9), 1)], pad_id=0)
    assert batch.ids.tolist() == [[5, 6, 7], [8, 9, 0]]
    assert batch.mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.labels.tolist() == [[IGNORED, IGNORED, 7], [IGNORED, 9, IGNORED]]
