"""The five formats in the four kinds of files: what is recognised, what is refused, and that equal content is sealed as equal bytes."""

import csv
import io
import json
from typing import Any

import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from ringi.datasets.contents import Chat, Content, Document, Pair, from_sealed
from ringi.datasets.files import file_type_of
from ringi.datasets.reading import DatasetFileUnreadable, DatasetNotUtf8, DatasetRowInvalid, SourceRows, read_rows
from ringi.datasets.validation import Item, as_json_lines
from ringi.jobs.contracts.datasets import FileType, ReadAs, RowFormat
from ringi_workers.datasets.parquet import ALL_READERS

SYSTEM = {"role": "system", "content": "あなたは窓口の担当者です。"}
TOOL = {"type": "function", "function": {"name": "在庫", "parameters": {"type": "object", "properties": {"棚": {"type": "string"}}}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "在庫", "arguments": {"棚": "３番"}}}
CHAT: dict[str, Any] = {
    "messages": [
        SYSTEM,
        {"role": "user", "content": "棚に何がありますか。"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "赤い猫", "tool_call_id": "c1"},
        {"role": "assistant", "content": "赤い猫です。"},
    ],
    "tools": [TOOL],
    "category": "在庫",
}
ROWS: dict[RowFormat, list[dict[str, Any]]] = {
    RowFormat.PROMPT_COMPLETION: [{"prompt": "何時に、\n開きますか。", "completion": '"九時"です。', "category": "店"}],
    RowFormat.CHAT: [CHAT],
    RowFormat.ALPACA: [
        {"instruction": "要約してください。", "input": "長い文。", "output": "文。"},
        {"instruction": "挨拶", "input": "", "output": "はい"},
    ],
    RowFormat.TEXT_LABEL: [{"text": "カードが届きません", "label": "card_arrival"}],
    RowFormat.DOCUMENTS: [{"text": "第一条　この規程は、\n貸出しについて定める。", "id": "R-1"}],
}
CONTENTS: dict[RowFormat, list[Content]] = {
    RowFormat.PROMPT_COMPLETION: [Pair("何時に、\n開きますか。", '"九時"です。')],
    RowFormat.CHAT: [Chat(tuple(CHAT["messages"]), (TOOL,))],
    RowFormat.ALPACA: [Pair("要約してください。\n長い文。", "文。"), Pair("挨拶", "はい")],
    RowFormat.TEXT_LABEL: [Pair("カードが届きません", "card_arrival")],
    RowFormat.DOCUMENTS: [Document("第一条　この規程は、\n貸出しについて定める。")],
}


def as_jsonl(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0])
    writer.writeheader()
    writer.writerows({name: value if isinstance(value, str) else json.dumps(value) for name, value in row.items()} for row in rows)
    return out.getvalue().encode()


def as_yaml(rows: list[dict[str, Any]]) -> bytes:
    return yaml.safe_dump(json.loads(json.dumps(rows)), allow_unicode=True).encode()


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


WRITERS = {FileType.JSONL: as_jsonl, FileType.CSV: as_csv, FileType.YAML: as_yaml, FileType.PARQUET: as_parquet}


def read(content: bytes, asked: ReadAs | None = None) -> SourceRows:
    return read_rows(io.BytesIO(content), asked, readers=ALL_READERS)


@pytest.mark.parametrize("row_format", RowFormat)
@pytest.mark.parametrize("file_type", FileType)
def test_each_format_in_each_kind_of_file_is_recognised_and_says_the_same(row_format: RowFormat, file_type: FileType) -> None:
    content = WRITERS[file_type](ROWS[row_format])
    found = read(content)
    assert (found.row_format, found.file_type) == (row_format, file_type)
    assert [row.content for row in found.rows] == CONTENTS[row_format]
    assert found == read(content, ReadAs(row_format=row_format, file_type=file_type))
    # What is sealed is read again as it was, and as the same bytes, whichever file it came from.
    sealed = list(as_json_lines(Item("0" * 16, row) for row in found.rows))
    again = [from_sealed(json.loads(line), row.line) for line, row in zip(sealed, found.rows, strict=True)]
    assert again == [*found.rows]
    assert sealed == list(as_json_lines(Item("0" * 16, row) for row in read(as_jsonl(ROWS[row_format])).rows))


def test_a_conversation_of_one_question_and_one_answer_is_the_pair_that_it_is() -> None:
    turns = [{"role": "user", "content": "何時？"}, {"role": "assistant", "content": "九時"}]
    assert read(as_jsonl([{"messages": turns}])).rows[0].content == Pair("何時？", "九時")
    assert isinstance(read(as_jsonl([{"messages": [SYSTEM, *turns]}])).rows[0].content, Chat)


def test_arguments_of_a_call_are_read_as_an_object_also_where_they_are_written_as_text() -> None:
    written = {**CALL, "function": {"name": "在庫", "arguments": '{"棚": "３番"}'}}
    messages = [CHAT["messages"][1], {"role": "assistant", "content": None, "tool_calls": [written]}]
    content = read(as_jsonl([{"messages": messages, "tools": [TOOL]}])).rows[0].content
    assert isinstance(content, Chat)
    assert content.messages[1] == {"role": "assistant", "content": "", "tool_calls": [CALL]}


USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": []}, "not a list of turns"),
        ({"messages": [USER]}, "the last turn is not the assistant's"),
        ({"messages": [USER, SYSTEM, ANSWER]}, "a system turn does not come first"),
        ({"messages": [{"role": "bot", "content": "a"}, ANSWER]}, "turn 1 has the role 'bot', and needed is one of system, user"),
        ({"messages": [{"role": "user", "content": ["a"]}, ANSWER]}, "turn 1 has no text"),
        ({"messages": [USER, {**ANSWER, "weight": 0}]}, "turn 2 has the unknown field 'weight'"),
        ({"messages": [{**USER, "tool_calls": [CALL]}, ANSWER]}, "turn 1 has 'tool_calls'"),
        ({"messages": [USER, ANSWER], "tools": "在庫"}, "'tools' is not a list"),
        ({"messages": [USER, ANSWER], "prompt": "a"}, "'prompt' stands beside messages"),
        ({"messages": [USER, {"role": "assistant", "content": "\x00"}]}, "NUL"),
        ({"text": "a"}, "'messages' is missing"),
    ],
)
def test_a_turn_that_is_none_is_refused_with_its_line_and_what_was_needed(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(DatasetRowInvalid) as refusal:
        read(as_jsonl([{"messages": [USER, ANSWER]}, row]))
    (only,) = refusal.value.details["reasons"]
    assert only["line"] == 2
    assert reason in only["reason"]
    assert refusal.value.details["format"] == "chat"
    assert '"messages"' in refusal.value.next_step


def test_rows_are_read_as_what_was_said_and_not_as_what_they_look_like() -> None:
    rows = as_jsonl([{"text": "届きません", "label": "card_arrival"}])
    assert read(rows, ReadAs(row_format=RowFormat.DOCUMENTS)).rows[0].content == Document("届きません")
    with pytest.raises(DatasetRowInvalid, match=r"as alpaca .line 1: 'instruction' is missing"):
        read(rows, ReadAs(row_format=RowFormat.ALPACA))


def test_a_cell_of_csv_may_hold_line_breaks_and_a_fault_names_the_line_of_the_file() -> None:
    content = 'prompt,completion\r\n"一行目\r\n二行目",はい\r\n\r\nあ,い,う\r\n'.encode()
    with pytest.raises(DatasetRowInvalid) as refusal:
        read(content)
    assert refusal.value.details["reasons"] == [{"line": 5, "reason": "3 cells, and the header has 2"}]
    assert read(content.partition("あ".encode())[0]).rows[0].content == Pair("一行目\r\n二行目", "はい")
    with pytest.raises(DatasetRowInvalid, match="line 2: not valid CSV"):
        read(b'prompt,completion\n"a"b,c\n')
    with pytest.raises(DatasetFileUnreadable, match="twice in its header"):
        read(b"prompt,completion,prompt\na,b,c\n")


@pytest.mark.parametrize("mark", [";", "\t"])
def test_what_a_spreadsheet_writes_between_cells_may_be_another_mark_than_a_comma(mark: str) -> None:
    content = f'prompt{mark}completion{mark}店\r\n"一, 二{mark} 三"{mark}はい、どうぞ{mark}東\r\n'
    found = read(content.encode("utf-8-sig"))
    assert found.file_type is FileType.CSV
    assert found.rows[0].content == Pair(f"一, 二{mark} 三", "はい、どうぞ")
    assert found.rows[0].tags == {"店": "東"}


@pytest.mark.parametrize("asked", [None, ReadAs(file_type=FileType.CSV)])
@pytest.mark.parametrize("header", ["prompt|completion", "\ufeff質問|回答", '"prompt, ja"|completion'])
def test_a_table_with_bars_between_its_columns_is_told_which_marks_are_read(header: str, asked: ReadAs | None) -> None:
    with pytest.raises(DatasetFileUnreadable, match="stand between '\\|'") as refusal:
        read(f"{header}\r\n何時,に|九時\r\n".encode(), asked)
    assert "a comma, a semicolon or a tab" in refusal.value.next_step


def test_a_bar_is_a_letter_of_what_is_separated_otherwise_and_of_json() -> None:
    assert read("prompt,completion,a|b\n何時|に,九時,c\n".encode()).rows[0].tags == {"a|b": "c"}
    with pytest.raises(DatasetRowInvalid, match="not valid CSV"):
        read(b'prompt,completion,a|b\n"a"b,c,d\n')
    with pytest.raises(DatasetRowInvalid, match="not valid JSON"):
        read(b'{"prompt": "a|b"\n')


def test_a_table_without_the_columns_of_a_format_is_told_why_it_is_no_table() -> None:
    with pytest.raises(DatasetRowInvalid) as refusal:
        read("質問,回答\n何時,九時\n".encode())
    assert "names the columns of no format" in refusal.value.next_step
    with pytest.raises(DatasetRowInvalid) as refusal:
        read(b'{"prompt": "a"\n')
    assert "columns" not in refusal.value.next_step


def test_csv_of_another_encoding_is_named_and_a_byte_order_mark_is_accepted() -> None:
    text = "prompt,completion\n何時,九時\n"
    with pytest.raises(DatasetNotUtf8, match="Shift_JIS"):
        read(text.encode("cp932"))
    assert read(text.encode("utf-8-sig")).findings == {"byte_order_mark": [1]}


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("- prompt: a\n  completion: b\n- [1]\n", 3, "not a mapping"),
        ("- prompt: a\n  completion: b\n- prompt: {\n", 4, "not valid YAML"),
        ("- &a\n  prompt: a\n  completion: b\n- *a\n", 4, "aliases are not read"),
        ("- prompt: a\n  prompt: b\n  completion: c\n", 1, "a field occurs twice"),
    ],
)
def test_yaml_that_cannot_be_read_is_refused_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(DatasetRowInvalid) as refusal:
        read(text.encode())
    (only,) = refusal.value.details["reasons"]
    assert (only["line"], reason in only["reason"]) == (line, True), only


def test_scalars_of_yaml_are_the_text_that_was_written() -> None:
    content = "- {prompt: ノルウェー, completion: no, version: 1e3}\n".encode()
    row = read(content, ReadAs(file_type=FileType.YAML)).rows[0]
    assert (row.content, row.tags) == (Pair("ノルウェー", "no"), {"version": "1e3"})


def test_parquet_leaves_out_what_is_null_and_writes_numbers_as_text() -> None:
    row = read(as_parquet([{"text": "a", "label": 3, "split": None}, {"text": "b", "label": 4, "split": "test"}])).rows
    assert [(one.content, one.tags) for one in row] == [(Pair("a", "3"), {}), (Pair("b", "4"), {"split": "test"})]
    with pytest.raises(DatasetFileUnreadable, match="cannot be read"):
        read(b"PAR1 and nothing more PAR1")
    with pytest.raises(DatasetFileUnreadable, match="not read here"):
        read_rows(io.BytesIO(as_parquet([{"text": "a"}])))


def test_what_looks_like_no_file_we_know_is_read_as_json_lines() -> None:
    assert file_type_of(b"plain words\n") is FileType.JSONL
    with pytest.raises(DatasetRowInvalid, match="line 1: not valid JSON"):
        read(b"plain words\n")


def test_a_row_of_parquet_is_no_longer_than_a_line_of_other_formats_however_small_the_file() -> None:
    content = as_parquet([{"text": "a"}, {"text": "あ" * (6 * 2**20)}])
    assert len(content) < 2**21
    with pytest.raises(DatasetFileUnreadable, match="Row 2 has 1887"):
        read(content)
