"""`ringi gate` without a server: verdict, reports and exit codes from files; and results of lm-evaluation-harness as such files."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ringi.kit.digests import sha256_bytes
from ringi.kit.errors import RingiError
from ringi.measurements import lm_eval
from support.shell import entry_point

Run = Callable[..., tuple[int, str, str]]
SUITE = """
requirements:
  - {task: 道案内, metric: accuracy, margin: 0.05, slices: {区: supporting}}
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The program's entry point in a folder of its own, with no server anywhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RINGI_SERVER", "http://127.0.0.1:9")
    monkeypatch.delenv("RINGI_TOKEN", raising=False)

    return entry_point(capsys)


def write(folder: Path, name: str, wrong: Callable[[int], bool], *, items: int = 400) -> None:
    lines = [
        {"task": "道案内", "item": f"q{n}", "asked": sha256_bytes(str(n).encode()), "tags": {"区": "北" if n % 5 else "南"}, "scores": {"accuracy": float(not wrong(n))}}
        for n in range(items)
    ]  # fmt: skip
    (folder / name).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    write(tmp_path, "before.jsonl", lambda n: n % 20 == 0)
    write(tmp_path, "same.jsonl", lambda n: n % 20 == 0)
    write(tmp_path, "damaged.jsonl", lambda n: n % 20 == 0 or (n % 5 == 0 and n % 2 == 0))
    return tmp_path


OFFLINE = ("--suite-file", "suite.yaml", "--baseline", "before.jsonl", "--candidate")


def test_exit_codes_tell_a_ci_server_the_verdict(run: Run, files: Path) -> None:
    assert run("gate", *OFFLINE, "same.jsonl")[0] == 0
    code, out, _ = run("gate", "decide", *OFFLINE, "damaged.jsonl")
    assert (code, out.splitlines()[0]) == (1, "# NO-GO: damaged.jsonl against before.jsonl")
    assert "区=南" in out
    write(files, "few.jsonl", lambda n: n == 3, items=30)
    write(files, "before.jsonl", lambda n: n == 2, items=30)
    assert run("gate", *OFFLINE, "few.jsonl")[0] == 3


def test_reports_are_written_beside_the_verdict(run: Run, files: Path) -> None:
    code, out, err = run(
        "gate", *OFFLINE, "damaged.jsonl", "--junit", "g.xml", "--markdown", "g.md", "--svg", "g.svg", "--png", "g.png", "--json"
    )
    assert code == 1
    assert json.loads(out)["verdict"] == "NO-GO"
    assert ET.parse(files / "g.xml").find("testsuite/testcase/failure") is not None
    assert (files / "g.md").read_text(encoding="utf-8").startswith("# NO-GO")
    assert (files / "g.svg").read_text(encoding="utf-8").startswith("<svg")
    assert (files / "g.png").read_bytes().startswith(b"\x89PNG")
    assert "Written: g.xml." in err


@pytest.mark.parametrize(
    ("what", "arguments"),
    {
        "a file that is not there": (*OFFLINE, "nowhere.jsonl"),
        "a file that holds no records": ("--suite-file", "suite.yaml", "--baseline", "before.jsonl", "--candidate", "suite.yaml"),
        "a suite without requirements": ("--suite-file", "empty.yaml", "--baseline", "before.jsonl", "--candidate", "same.jsonl"),
        "a suite that is refused": ("--suite-file", "bomb.yaml", "--baseline", "before.jsonl", "--candidate", "same.jsonl"),
        "items that were asked differently": (*OFFLINE, "other.jsonl"),
        "an item twice": (*OFFLINE, "twice.jsonl"),
        "half of what is needed": ("--suite-file", "suite.yaml"),
        "nothing that says what": ("support/bot:v2",),
        "no token": ("support/bot:v2", "--suite", "quality", "--against", "base"),
        "a report that cannot be written": (*OFFLINE, "same.jsonl", "--junit", "no/such/folder/g.xml"),
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_error_is_never_a_verdict(run: Run, files: Path, what: str, arguments: tuple[str, ...]) -> None:
    (files / "empty.yaml").write_text("tasks: []")
    (files / "bomb.yaml").write_text("a: &x [1]\nrequirements: *x")
    same = (files / "same.jsonl").read_text(encoding="utf-8")
    (files / "twice.jsonl").write_text(same + same, encoding="utf-8")
    (files / "other.jsonl").write_text(re.sub(r"sha256:.", "sha256:0", same.replace("sha256:0", "sha256:1")), encoding="utf-8")
    code, out, err = run("gate", *arguments)
    assert code == 2, (what, out, err)
    assert "error: " in err or "Usage" in err


def sample(number: int, *, right: bool, **changes: Any) -> dict[str, Any]:
    """A line as the harness 0.4 writes it for a task of choices."""
    best, other = ("-1.5", "-2.5") if right else ("-2.5", "-1.5")
    return {
        "doc_id": number, "doc": {"question": f"{number}は?", "subject": "法律" if number % 2 else "医学"}, "target": 0, "filter": "none",
        "arguments": {f"gen_args_{n}": {"arg_0": f"問: {number}は?\n答:", "arg_1": text} for n, text in enumerate((" はい", " いいえ"))},
        "resps": [[[best, "False"]], [[other, "False"]]], "filtered_resps": [[best, "False"], [other, "False"]],
        "metrics": ["acc", "acc_norm", "word_perplexity"], "acc": float(right), "acc_norm": float(right), "word_perplexity": [1.0, 3],
        "doc_hash": f"d{number}", "prompt_hash": f"p{number}", "target_hash": "t",
    } | changes  # fmt: skip


def lines(samples: list[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(one, ensure_ascii=False).encode() for one in samples]


def test_results_of_the_harness_are_gated(run: Run, files: Path) -> None:
    before = {number for number in range(300) if number % 20 == 0}
    for name, wrong in (("old", before), ("new", before | set(range(1, 300, 2)))):
        (files / name).mkdir()
        found = [sample(number, right=number not in wrong) for number in range(300)]
        (files / name / "samples_jmmlu_2026-11-01T09-30-00.123.jsonl").write_bytes(b"\n".join(lines(found)))
        given = (f"{name}/samples_jmmlu_2026-11-01T09-30-00.123.jsonl", "--out", f"{name}.jsonl", "--slice", "subject")
        code, out, _ = run("gate", "import-lm-eval", *given, "--suite-out", "from.yaml", "--json")
        assert (code, json.loads(out)) == (0, [{"task": "jmmlu", "items": 300, "metrics": ["acc", "acc_norm", "word_perplexity"]}])
    code, out, err = run("gate", "--suite-file", "from.yaml", "--candidate", "new.jsonl", "--baseline", "old.jsonl")
    assert code == 1, err
    assert "subject=法律" in out
    assert run("gate", "--suite-file", "from.yaml", "--candidate", "old.jsonl", "--baseline", "old.jsonl")[0] == 0


def test_a_sample_keeps_what_was_asked_chosen_and_scored() -> None:
    (one,) = lm_eval.samples("jmmlu", lines([sample(7, right=False)]), slices=["subject", "absent"])
    assert (one.record.item, one.record.choice, one.record.output) == ("7", 1, " いいえ")
    assert one.record.logprobs == (-2.5, -1.5)
    assert one.record.scores == {"acc": 0.0, "acc_norm": 0.0, "word_perplexity": None}
    assert (one.item.choices, one.item.answer, one.record.tags) == ((" はい", " いいえ"), 0, {"subject": "法律"})
    (other,) = lm_eval.samples("jmmlu", lines([sample(7, right=False, prompt_hash="changed")]))
    assert other.record.asked != one.record.asked


def test_filters_of_one_document_are_one_item_with_several_metrics() -> None:
    answers = [
        sample(1, right=True, metrics=["exact_match"], exact_match=score, filter=name, target="42", arguments=[["問: 6*7?", {"until": ["\n"]}]], filtered_resps=["42"])
        for name, score in (("strict", 0.0), ("flexible", 1.0))
    ]  # fmt: skip
    (one,) = lm_eval.samples("gsm", lines(answers))
    assert one.record.scores == {"exact_match,strict": 0.0, "exact_match,flexible": 1.0}
    assert (one.item.references, one.item.choices, one.record.output) == (("42",), (), "42")
    with pytest.raises(RingiError, match="for the second time"):
        lm_eval.samples("gsm", lines([answers[0], answers[0]]))


@pytest.mark.parametrize("line", [b"nothing", b"[]", b"{}", b'{"doc_id": 1}'])
def test_other_files_are_refused(line: bytes) -> None:
    with pytest.raises(RingiError) as refusal:
        lm_eval.samples("t", [line])
    assert refusal.value.code == "lm_eval_samples_unreadable"
    for name in ("results.jsonl", "samples.jsonl", "samples_x.json"):
        with pytest.raises(RingiError):
            lm_eval.task_of(name)
