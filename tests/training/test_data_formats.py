"""What is learnt of conversations and documents, by templates that mark it and by templates that do not."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from ringi.datasets.contents import Chat, Document, from_sealed
from ringi_workers.training.conversations import NoChatTemplate, TemplateRefuses
from ringi_workers.training.data import (
    IGNORED,
    Example,
    encode_answer,
    encode_chat,
    encode_document,
    encode_row,
    load_examples,
)
from support.tiny_model import make_tiny_tokenizer

SYSTEM = {"role": "system", "content": "窓口の担当者です。"}
TOOL = {"type": "function", "function": {"name": "stock", "parameters": {"type": "object", "properties": {}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "stock", "arguments": {"shelf": "3"}}}
MESSAGES = (
    SYSTEM,
    {"role": "user", "content": "棚に何が？"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "a red cat", "tool_call_id": "c1"},
    {"role": "assistant", "content": "赤い猫です。"},
    {"role": "user", "content": "ほかには？"},
    {"role": "assistant", "content": "ありません。"},
)
CHAT = Chat(MESSAGES, (TOOL,))
# System, tools, calls and results, as the templates of Qwen and Hermes write them.
_SAID = (
    "{{ message['content'] }}{% for call in message['tool_calls'] or [] %}<call>{{ call['function'] | tojson }}</call>{% endfor %}<|end|>"
)
WITH_TOOLS = (
    "{% if tools %}<|start|>tools\n{{ tools | tojson }}<|end|>\n{% endif %}"
    "{% for message in messages %}<|start|>{{ message['role'] }}\nSAID{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
PLAIN = WITH_TOOLS.replace("SAID", _SAID)
MARKED = WITH_TOOLS.replace(
    "SAID", "{% if message['role'] == 'assistant' %}{% generation %}" + _SAID + "{% endgeneration %}{% else %}" + _SAID + "{% endif %}"
)
# The last answer begins with an empty block of thoughts, which the history does not have (Qwen3).
THINKING = PLAIN.replace(
    "{{ message['role'] }}\n", "{{ message['role'] }}\n{% if loop.last and message['role'] == 'assistant' %}<think></think>{% endif %}"
)
SPOKEN = ['<call>{"name": "stock", "arguments": {"shelf": "3"}}</call><|end|>', "赤い猫です。<|end|>", "ありません。<|end|>"]


def tokenizer_with(template: str | None) -> PreTrainedTokenizerFast:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def learnt(tokenizer: PreTrainedTokenizerFast, example: Example) -> list[str]:
    """The runs of tokens that carry loss, as text."""
    runs: list[list[int]] = [[]]
    for label in example.labels:
        if label == IGNORED:
            runs.append([])
        else:
            runs[-1].append(label)
    return [str(tokenizer.decode(run)) for run in runs if run]


@pytest.mark.parametrize("template", [PLAIN, MARKED])
def test_every_turn_of_the_assistant_is_learnt_and_nothing_else(template: str) -> None:
    tokenizer = tokenizer_with(template)
    example = encode_chat(tokenizer, CHAT, max_length=2000)
    assert learnt(tokenizer, example) == SPOKEN
    whole = str(tokenizer.decode(list(example.input_ids)))
    for told in ("窓口の担当者です。", '"type": "function"', "a red cat"):
        assert told in whole


def test_marks_of_a_template_and_rendering_up_to_each_turn_give_the_same_labels() -> None:
    marked, plain = (encode_chat(tokenizer_with(template), CHAT, max_length=2000) for template in (MARKED, PLAIN))
    assert marked == plain


def test_a_template_that_writes_the_last_turn_otherwise_than_the_history_still_has_every_turn_learnt() -> None:
    tokenizer = tokenizer_with(THINKING)
    chat = Chat(tuple(message for message in MESSAGES if not message.get("tool_calls")))
    assert learnt(tokenizer, encode_chat(tokenizer, chat, max_length=2000)) == ["赤い猫です。<|end|>", "<think></think>ありません。<|end|>"]


def test_the_last_turn_alone_carries_labels_where_a_row_is_a_question() -> None:
    row = from_sealed({"id": "a", "messages": list(MESSAGES), "tools": [TOOL]}, 1)
    for template in (PLAIN, MARKED):
        tokenizer = tokenizer_with(template)
        assert learnt(tokenizer, encode_answer(tokenizer, row, max_length=2000)) == SPOKEN[-1:]


def test_a_conversation_that_is_a_pair_is_encoded_as_the_pair() -> None:
    tokenizer = make_tiny_tokenizer()
    chat = Chat(({"role": "user", "content": "棚に what?"}, {"role": "assistant", "content": "赤い猫です。"}))
    assert encode_chat(tokenizer, chat, max_length=256) == encode_row(tokenizer, "棚に what?", "赤い猫です。", max_length=256)


def test_an_assistant_that_speaks_first_is_learnt_from_its_first_word() -> None:
    tokenizer = tokenizer_with(PLAIN)
    chat = Chat(({"role": "assistant", "content": "いらっしゃいませ。"}, *MESSAGES[1:2], MESSAGES[4]))
    assert learnt(tokenizer, encode_chat(tokenizer, chat, max_length=2000)) == ["いらっしゃいませ。<|end|>", "赤い猫です。<|end|>"]


@settings(max_examples=60, deadline=None)
@given(st.integers(8, 400))
def test_too_long_a_conversation_loses_its_left_and_never_its_labels(max_length: int) -> None:
    tokenizer = tokenizer_with(PLAIN)
    whole, cut = (encode_chat(tokenizer, CHAT, max_length=length) for length in (4000, max_length))
    assert len(cut.input_ids) == min(max_length, len(whole.input_ids))
    assert cut.labels[0] == IGNORED
    last = learnt(tokenizer, cut)[-1]
    assert SPOKEN[-1].endswith(last) or SPOKEN[-1].startswith(last.rstrip("\ufffd"))
    assert all(label in {IGNORED, token} for label, token in zip(cut.labels, cut.input_ids, strict=True))


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (
            "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% endfor %}",
            "System role",
        ),
        ("{% for m in messages %}{% if m['role'] != 'tool' %}{{ m['content'] }}{% endif %}{% endfor %}", "turn 4, of the role 'tool'"),
        (PLAIN.replace("{% if tools %}", "{% if false %}"), "no place for tools"),
        # How many turns there are stands at the beginning, as the tools of Mistral stand before the last question.
        ("{{ messages | length }}" + PLAIN, "before turn 3 otherwise once more follows"),
    ],
)
def test_what_a_template_cannot_write_is_refused_and_not_left_out(template: str, why: str) -> None:
    with pytest.raises(TemplateRefuses, match=why):
        encode_chat(tokenizer_with(template), CHAT, max_length=256)


def test_a_base_without_chat_template_reads_no_conversations() -> None:
    with pytest.raises(NoChatTemplate):
        encode_chat(tokenizer_with(None), CHAT, max_length=256)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 64))
def test_every_token_of_a_document_is_learnt_once_however_it_is_cut(max_length: int) -> None:
    tokenizer = make_tiny_tokenizer()
    text = "第一条　棚には赤い猫がいる。\n" * 5
    pieces = list(encode_document(tokenizer, text, max_length=max_length))
    assert all(len(piece.input_ids) <= max_length for piece in pieces)
    labelled = [label for piece in pieces for label in piece.labels if label != IGNORED]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    # The tiny tokenizer puts no token before a text, so the very first has nothing to be predicted from.
    assert labelled == [*ids[1:], tokenizer.eos_token_id]


def test_rows_of_every_shape_are_loaded_from_one_file(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "prompt": "What?", "completion": "a cat"}, {"id": "b", "messages": list(MESSAGES), "tools": [TOOL]},
        {"id": "c", "text": "猫" * 200, "category": "x"}, {"id": "d", "prompt": "What?", "completion": ""},
    ]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    loaded = load_examples(path, tokenizer_with(PLAIN), 64)
    pieces = len(list(encode_document(make_tiny_tokenizer(), Document("猫" * 200).text, max_length=64)))
    assert (len(loaded.examples), loaded.skipped) == (2 + pieces, 1)
