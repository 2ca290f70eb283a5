"""Tasks of lm-evaluation-harness in a suite: what is sealed of them, and that a YAML is data and runs nothing."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ringi.kit.errors import RingiError
from ringi.suites.harness_files import beside
from ringi.suites.harness_patterns import WordsRefused, check_pattern, compiled, replaced
from ringi.suites.harness_words import names_of
from support.harness_tasks import CHOOSING, WRITING, documents, harness_task, sealed, with_items

WANTED = {"task": "棚", "metric": "acc", "tier": "supporting", "margin": 0.3, "slices": {"site": "advisory"}}


def changed(config: Mapping[str, Any] = CHOOSING, **changes: Any) -> dict[str, Any]:
    return harness_task({**config, **changes})


def test_documents_become_items_with_slices_and_the_yaml_is_part_of_the_suite() -> None:
    made = sealed([harness_task(harness={"source": "customer"})], [WANTED])
    ((task, items),) = with_items(made)
    assert (task.count, made.facts["棚"].slices) == (9, {"site=大阪": 4, "site=東京": 5})
    assert [(item.id, item.source) for item in items[:3]] == [("0", "c0"), ("1", "c0"), ("2", "c1")]
    assert items[1].document == documents()[1]
    assert task.harness is not None
    assert task.harness.config is not None
    assert task.harness.config["doc_to_choice"] == "options"
    assert [(one.name, one.metric) for one in task.scorers] == [("lm_eval", "acc"), ("lm_eval", "acc_norm")]
    # What a document of before looks like is the same JSON as before.
    plain = {
        "name": "p",
        "answering": "choice",
        "choices": ["a", "b"],
        "scorers": ["accuracy"],
        "items": [{"id": "1", "prompt": "?", "answer": 0}],
    }
    assert b"harness" not in sealed([plain]).content
    assert "document" not in next(iter(sealed([plain]).files.values())).decode()


def test_the_digest_changes_with_the_yaml_the_data_and_the_rendering_and_with_nothing_else() -> None:
    first = sealed([harness_task()]).digest
    assert sealed([harness_task()]).digest == first
    # Where a file of data lies and what its split is called says nothing of what is asked.
    assert sealed([changed(dataset_path="json", test_split="test")]).digest == first
    others = [
        changed(doc_to_text="{{question}} 答え:"),
        changed(target_delimiter=""),
        harness_task(items=documents()[:8]),
        harness_task(items=[{**documents()[0], "question": "別の質問"}, *documents()[1:]]),
        harness_task(render="chat"),
        harness_task(system="簡潔に。"),
    ]
    assert len({first, *(sealed([one]).digest for one in others)}) == 7


def test_generation_is_said_by_the_yaml_and_shown_as_the_decoding_of_the_task() -> None:
    metrics: list[Any] = ["exact_match", {"name": "exact_match", "parameters": {"filter": "whole"}, "label": "em"}]
    (task,) = sealed([harness_task(WRITING, scorers=metrics)]).document.tasks
    assert (task.decoding.stop, task.decoding.max_new_tokens, task.decoding.temperature) == (("。", "\n"), 8, 0.0)
    assert [one.metric for one in task.scorers] == ["exact_match,strict", "em"]


def test_of_a_task_that_the_library_knows_by_name_the_first_documents_are_items_by_their_number() -> None:
    told = {"config": None, "task": "arc_easy", "limit": 40, "slices": ["grade"]}
    wanted = {**WANTED, "slices": {"grade=3": "supporting"}, "must_pass": ["39"]}
    made = sealed([harness_task(harness=told, items=None)], [wanted])
    ((task, items),) = with_items(made)
    assert (task.count, [item.id for item in items]) == (40, [str(number) for number in range(40)])
    assert task.harness is not None
    assert (task.harness.task, task.harness.config, task.harness.slices) == ("arc_easy", None, ("grade",))


NAMED: dict[str, Any] = {"config": None, "task": "arc_easy"}
REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "a function": ("suite_harness_code", changed(process_docs="!function utils.process")),
    "a function as a text": ("suite_harness_code", changed(doc_to_text="!function utils.text")),
    "a class": ("suite_harness_code", changed({**CHOOSING, "class": "tasks.Mine"})),
    "a dataset made by code": ("suite_harness_code", changed(custom_dataset="make.dataset")),
    "unsafe code": ("suite_harness_code", changed(unsafe_code=True)),
    "a dataset of the hub": ("suite_harness_code", changed(dataset_path="allenai/ai2_arc")),
    "a dataset script": ("suite_harness_code", changed(dataset_path="./script.py", dataset_name="x")),
    "files of data without a folder": ("suite_harness_code", changed(dataset_path="json", dataset_kwargs={"data_files": "/etc/passwd"})),
    "a prompt from a file": ("suite_harness_code", changed(use_prompt="/etc/prompts.yaml:x")),
    "a metric to be fetched": ("suite_harness_code", changed(metric_list=[{"metric": "someone/metric"}])),
    "a metric of another library": ("suite_harness_code", changed(metric_list=[{"metric": "acc", "hf_evaluate": True}])),
    "a template that leaves its document": ("suite_harness_code", changed(doc_to_text="{{ question.__class__.__mro__ }}")),
    "the same by an index": ("suite_harness_code", changed(doc_to_text="{{ question['__class__'] }}")),
    "the same by a filter": ("suite_harness_code", changed(doc_to_text="{{ question|attr('upper') }}")),
    "a call of what is no method": ("suite_harness_code", changed(doc_to_text="{{ question.format(1) }}")),
    "an import": ("suite_harness_code", changed(doc_to_text="{% import '/etc/passwd' as x %}{{ question }}")),
    "no template": ("suite_harness_code", changed(doc_to_text="{{ question ")),
    "a template of the examples": (
        "suite_harness_code", changed(num_fewshot=1, fewshot_config={"samples": documents(2), "doc_to_text": "{{ lipsum.__globals__ }}"}),
    ),
    "a pattern that looks ahead": ("suite_harness_code", changed(WRITING, filter_list=[
        {"name": "x", "filter": [{"function": "regex", "regex_pattern": "(?=(a+)+)$"}]}])),
    "a text that doubles": ("suite_harness_code", changed(doc_to_text="{% set a='x' %}" + "{% set a=a~a %}" * 40 + "{{a}}{{question}}")),
    "a loop within a loop": ("suite_harness_code", changed(
        doc_to_text="{% for a in range(9) %}{% for b in range(9) %}{{question}}{% endfor %}{% endfor %}")),
    "a long range": ("suite_harness_code", changed(doc_to_text="{% for a in range(99999) %}{{question}}{% endfor %}")),
    "a loop that calls itself": ("suite_harness_code", changed(doc_to_text="{% for a in options recursive %}{{loop(options)}}{% endfor %}")),
    "a namespace": ("suite_harness_code", changed(doc_to_text="{% set n = namespace(x='a') %}{% set n.x = n.x~n.x %}{{n.x}}")),
    "a macro": ("suite_harness_code", changed(doc_to_text="{% macro m() %}{{m()}}{% endmacro %}{{m()}}")),
    "a text many times": ("suite_harness_code", changed(doc_to_text="{{question * 999999999}}")),
    "a power": ("suite_harness_code", changed(doc_to_text="{{9 ** 9 ** 9}}")),
    "an include": ("suite_harness_include", changed(include="../other.yaml")),
    "an unknown key": ("suite_harness_invalid", changed(doc_to_txt="x")),
    "a field that no document has": ("suite_harness_invalid", changed(doc_to_text="{{ qestion }}")),
    "a metric of the whole": ("suite_harness_invalid", changed(metric_list=[{"metric": "f1", "aggregation": "mean"}])),
    "perplexity of texts": ("suite_harness_invalid", changed(output_type="loglikelihood_rolling")),
    "drawing": ("suite_harness_invalid", changed(WRITING, generation_kwargs={"do_sample": True, "temperature": 0.7})),
    "examples that are not there": ("suite_harness_invalid", changed(num_fewshot=3)),
    "a custom filter": ("suite_harness_invalid", changed(WRITING, filter_list=[{"name": "x", "filter": [{"function": "custom"}]}])),
    "a metric that the yaml has not": ("suite_metric_unknown", harness_task(scorers=["acc_bytes"])),
    "a filter that the yaml has not": (
        "suite_scorer_unfit", harness_task(WRITING, scorers=[{"name": "exact_match", "parameters": {"filter": "none"}}]),
    ),
    "a scorer of ours": ("suite_metric_unknown", harness_task(scorers=["accuracy"])),
    "one metric twice": ("suite_scorer_unfit", harness_task(scorers=["acc", "acc"])),
    "decoding beside the yaml": ("suite_harness_invalid", harness_task(decoding={"max_new_tokens": 5})),
    "no yaml at all": ("suite_harness_invalid", harness_task(harness={"config": None})),
    "a name and a yaml": ("suite_harness_invalid", harness_task(harness={"task": "arc_easy"})),
    "another way of answering": ("suite_harness_invalid", harness_task(answering="choice", choices=["a", "b"])),
    "no documents": ("suite_no_items", harness_task(items=[])),
    "a field of two kinds": ("suite_item_invalid", harness_task(items=[*documents(), {**documents()[0], "label": "2"}])),
    "a slice of no field": ("suite_column_unknown", harness_task(harness={"slices": ["region"]})),
    "an id twice": ("suite_duplicate_item", harness_task(harness={"id": "site"})),
    "documents of a named task": ("suite_harness_invalid", harness_task(harness={**NAMED, "limit": 5})),
    "a named task without a limit": ("suite_harness_invalid", harness_task(harness=NAMED, items=None)),
    "a requirement for a slice that nobody makes": ("suite_slice_empty", harness_task(harness={"slices": []})),
}  # fmt: skip


@pytest.mark.parametrize(("code", "task"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_sealed_is_refused_by_its_code(code: str, task: dict[str, Any]) -> None:
    with pytest.raises(RingiError) as refused:
        sealed([task], [WANTED])
    assert refused.value.code == code, str(refused.value)
    assert refused.value.next_step


def test_templates_as_tasks_of_the_library_use_them_are_read() -> None:
    assert names_of("{{passage}}\n{{question.strip()}} {{['A', 'B'][label]}}") == {"passage", "question", "label"}
    assert names_of("{% for c in choices %}{{loop.index}}. {{c|trim}}\n{% endfor %}") >= {"choices"}
    assert names_of("{{answer.split('#### ')[-1] if answer else ''}}{{ text|regex_replace('[ ]+', ' ') }}") == {"answer", "text"}
    with pytest.raises(WordsRefused):
        names_of("{{ text|regex_replace(pattern, ' ') }}")


@pytest.mark.parametrize(
    "pattern",
    [r"#### (\-?[0-9\.\,]+)", r"(-?[$0-9.,]{2,})|(-?[0-9]+)", r"答え(?:は|：)\s*([A-D])", r"(?:\d{3},)*\d{3}", r"\b(Yes|No|yes|no)\b"],
)
def test_patterns_as_tasks_use_them_are_taken(pattern: str) -> None:
    check_pattern(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=a)b",
        "(?<=答え)a",
        "(?!a)b",
        r"(a)\1",
        "(?P<x>a)(?P=x)",
        "a*+b",
        "(?>a)b",
        "(?:a{900}){900}",
        "(",
        "a" * 1001,
        r"\bはい\b",
        r"\b\w+",
        r"[\W]",
    ],
)
def test_patterns_that_cannot_run_in_linear_time_or_are_none_are_refused(pattern: str) -> None:
    with pytest.raises(WordsRefused):
        check_pattern(pattern)


@pytest.mark.parametrize("pattern", ["a?" * 40 + "a" * 40, "(?:aa|a.)" * 40 + "b", "(?:a{0,99})" * 12 + "b", ".*.*.*.*x", "(?:(a+)+)+$"])
def test_patterns_that_hang_in_python_are_refused_or_end(pattern: str) -> None:
    """In Python's `re` none of them ends on these texts; here each has an end that a test can wait for."""
    check_pattern(pattern)
    for text in ("a" * 40, "a" * 3000, "a" * 2999 + "あ"):
        assert len(compiled(pattern).findall(text)) <= len(text) + 1
        assert len(replaced(pattern, "", text)) <= len(text)


TEXTS = [
    "答えは(Ａ)です。 x_1 ٣ ½ 12,345.6\n#### -7", "", "あ\u3000い\u00a0う\x1cえ\x85お", "[a]^-\\ {,3} $5.20|$7", "Yes, no. yes",
    "".join(map(chr, range(1, 0x3100))),
]  # fmt: skip


@pytest.mark.parametrize(
    "pattern",
    [
        r"\w+", r"\W+", r"\d+", r"\D+", r"\s", r"\S+", r"[\w.]+", r"[^\s]+", r"[\S]+", r"[\s\S]{1,9}", r"[^\d\s]+", r"[]a]", r"[^]a]+", r"[a[:w]",
        r"\{,3}", r"x{,2}", r"[\u3040-\u309f]+", r"(-?[$0-9.,]{2,})|(-?[0-9]+)", r"#### (\-?[0-9\.\,]+)", r"(?i)\b(YES|NO)\b", r"答えは\((.)\)", r"\Ax|\n\Z",
        r"[\b]|\\", r"(?P<x>Y)?es", r"(?s)a.*?い", "",
    ],
)  # fmt: skip
def test_a_pattern_finds_what_it_finds_in_python(pattern: str) -> None:
    check_pattern(pattern)
    for text in TEXTS:
        assert compiled(pattern).findall(text) == re.findall(pattern, text)
        assert replaced(pattern, r"<\g<0>\n本>", text, 2) == re.sub(pattern, r"<\g<0>\n本>", text, count=2)


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder


def test_a_yaml_with_its_include_and_its_data_is_read_from_the_suites_folder(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "suite",
        base__yaml="output_type: multiple_choice\ndoc_to_target: label\ndoc_to_text: '{{x}}'\n",
        shelf__yaml=(
            "task: shelf\ninclude: base.yaml\ndataset_path: json\ndataset_kwargs:\n  data_files: {train: a.jsonl, test: rows.jsonl}\n"
            "test_split: test\ndoc_to_text: '{{question}}'\ndoc_to_choice: [no, yes]\n"
        ),
        rows__jsonl="{}\n",
    )
    config, data = beside(folder, "shelf.yaml", task="棚")
    assert data == (folder / "rows.jsonl").resolve()
    # The file itself wins over what it includes; `no` is a text.
    assert (config["doc_to_text"], config["doc_to_choice"], config["output_type"]) == ("{{question}}", ["no", "yes"], "multiple_choice")
    assert "include" not in config


FILES: dict[str, tuple[str, str]] = {
    "a function": ("suite_harness_code", "task: x\nprocess_docs: !function utils.process\n"),
    "a function in a list": ("suite_harness_code", "task: x\nmetric_list:\n  - metric: !function utils.score\n"),
    "another tag": ("suite_yaml_refused", "task: !!python/name:os.system x\n"),
    "an include outside": ("suite_harness_include", "include: ../secret.yaml\n"),
    "an absolute include": ("suite_harness_include", "include: /etc/hostname\n"),
    "an include that is a link outside": ("suite_harness_include", "include: link.yaml\n"),
    "an include of nothing": ("suite_harness_include", "include: nothing.yaml\n"),
    "an include of itself": ("suite_harness_include", "include: task.yaml\n"),
    "data outside": ("suite_harness_include", "dataset_path: json\ndataset_kwargs: {data_files: ../secret.yaml}\n"),
    "data of the net": ("suite_harness_include", "dataset_path: json\ndataset_kwargs: {data_files: 'https://example.com/x.jsonl'}\n"),
    "arguments of a loader": (
        "suite_harness_code",
        "dataset_path: json\ndataset_kwargs: {data_files: rows.jsonl, trust_remote_code: true}\n",
    ),
}


@pytest.mark.parametrize(("code", "text"), FILES.values(), ids=FILES)
def test_a_yaml_reads_nothing_outside_its_folder_and_names_no_code(code: str, text: str, tmp_path: Path) -> None:
    write(tmp_path, secret__yaml="task: secret\n")
    folder = write(tmp_path / "suite", task__yaml=text, rows__jsonl="{}\n")
    (folder / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    with pytest.raises(RingiError) as refused:
        beside(folder, "task.yaml", task="棚")
    assert refused.value.code == code, str(refused.value)
