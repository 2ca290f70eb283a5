"""Scorers of the user's own in a process: what they may give, and every way in which they fail without harm to the rest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ringi.jobs.contracts.scorers import ScoreProblem
from ringi.jobs.contracts.suites import Answer, Item, ScorerSpec
from ringi.kit.digests import sha256_bytes
from ringi.settings import Settings
from ringi_workers.evaluation.grading.custom import GIVEN_UP_AFTER, CustomScorer, is_allowed
from ringi_workers.evaluation.grading.registry import Access, Grading
from support.waiting import until

ASKED = sha256_bytes(b"asked")
MODULE = """
import os, time
import subprocess

def length(item, answer, *, per=1.0):
    print("何か言う", "x" * 100_000)
    return len(answer["output"]) / per

def by_output(item, answer):
    said = answer["output"]
    if said == "crash": os._exit(7)
    if said == "abort": os.abort()
    if said == "hang": time.sleep(600)
    if said == "spin":
        while True: pass
    if said == "children":
        child = subprocess.Popen(["sleep", "600"])
        with open(item["tags"]["folder"] + "/child", "w") as file: file.write(str(child.pid))
        time.sleep(600)
    if said == "memory": return len(bytearray(4 * 1024**3))
    if said == "nan": return float("nan")
    if said == "text": return "0.5"
    if said == "list": return [1.0]
    if said == "none": return None
    if said == "true": return True
    if said == "note": return 1.0, "よい答え"
    if said == "long note": return 1.0, "あ" * 20_000
    if said == "raise": raise ValueError("入力が悪い")
    if said == "high": return 1.5
    if said == "flood": os.write(3, b"x" * 1_000_000)
    if said == "lie": os.write(3, b'{"score": "1"}\\n')
    return 0.5

def environment(item, answer):
    secrets = [name for name in os.environ if name not in {"PATH", "LANG", "LC_CTYPE", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"}]
    return float(len(secrets)), ",".join(secrets)

not_a_function = 5
"""


@pytest.fixture(name="folder")
def modules(tmp_path: Path) -> Path:
    (tmp_path / "house_scorers.py").write_text(MODULE, "utf-8")
    (tmp_path / "broken_scorers.py").write_text("import no_such_module_anywhere\n", "utf-8")
    (tmp_path / "raising_scorers.py").write_text("raise RuntimeError('起動しない')\n", "utf-8")
    return tmp_path


@pytest.fixture(name="grading")
def allowed(folder: Path) -> Iterator[Grading]:
    modules = ("house_scorers", "broken_scorers", "raising_scorers", "absent_scorers")
    with Grading(Access(modules=modules, folder=folder, memory_bytes=512 * 1024**2)) as grading:
        yield grading


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def graded(grading: Grading, function: str, *outputs: str, tags: dict[str, str] | None = None, **told: Any) -> list[Answer]:
    items = [Item(id=f"i{place}", prompt="質問", tags=tags or {}) for place in range(len(outputs))]
    answers = [Answer(item=item.id, asked=ASKED, output=output) for item, output in zip(items, outputs, strict=True)]
    return grading.graded(items, answers, [ScorerSpec(name=function, label="own", parameters=told)])


def test_a_function_scores_every_answer_and_may_print_what_it_likes(grading: Grading) -> None:
    found = graded(grading, "house_scorers:length", "東京", "ab" * 100_000, "", arguments={"per": 2.0})
    assert [answer.scores for answer in found] == [{"own": 1.0}, {"own": 100_000.0}, {"own": 0.0}]
    assert [answer.problem for answer in found] == [None] * 3


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        ("crash", ScoreProblem.SCORER_CRASHED),
        ("abort", ScoreProblem.SCORER_CRASHED),
        ("hang", ScoreProblem.SCORER_TIMED_OUT),
        ("spin", ScoreProblem.SCORER_TIMED_OUT),
        ("memory", ScoreProblem.SCORER_OUT_OF_MEMORY),
        ("nan", ScoreProblem.SCORER_NOT_FINITE),
        ("text", ScoreProblem.SCORER_WRONG_TYPE),
        ("list", ScoreProblem.SCORER_WRONG_TYPE),
        ("raise", ScoreProblem.SCORER_RAISED),
        ("high", ScoreProblem.SCORER_OUT_OF_RANGE),
        ("long note", ScoreProblem.SCORER_OUTPUT_TOO_LARGE),
        ("flood", ScoreProblem.SCORER_OUTPUT_TOO_LARGE),
        ("lie", ScoreProblem.SCORER_WRONG_TYPE),
    ],
)
def test_a_failure_has_its_code_and_no_score_and_the_answers_after_it_are_scored(
    grading: Grading, output: str, problem: ScoreProblem
) -> None:
    found = graded(grading, "house_scorers:by_output", "よい", output, "よい", timeout_s=1.5, low=0, high=1)
    assert [answer.scores["own"] for answer in found] == [0.5, None, 0.5]
    assert [answer.problem for answer in found] == [None, problem, None]
    assert found[1].notes["own"].startswith(problem)


def test_a_true_is_1_a_none_is_not_measured_and_a_note_is_kept(grading: Grading) -> None:
    found = graded(grading, "house_scorers:by_output", "true", "none", "note")
    assert [(answer.scores["own"], answer.problem, answer.notes) for answer in found] == [
        (1.0, None, {}), (None, None, {}), (1.0, None, {"own": "よい答え"}),
    ]  # fmt: skip
    assert graded(grading, "house_scorers:by_output", "よい", binary=True)[0].problem == ScoreProblem.SCORER_OUT_OF_RANGE


def test_nothing_of_the_workers_environment_reaches_the_function(grading: Grading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGI_JUDGE_KEYS", "main=sk-secret")
    monkeypatch.setenv("RINGI_DATABASE_URL", "postgresql://user:secret@db/ringi")
    assert [(answer.scores, answer.notes) for answer in graded(grading, "house_scorers:environment", "x")] == [({"own": 0.0}, {})]


def test_what_hangs_is_ended_with_the_processes_that_it_started(grading: Grading, folder: Path) -> None:
    found = graded(grading, "house_scorers:by_output", "children", tags={"folder": str(folder)}, timeout_s=3)
    assert found[0].problem == ScoreProblem.SCORER_TIMED_OUT
    child = int((folder / "child").read_text())
    # Killed with its group; whoever inherits it takes it away a moment later.
    until(lambda: is_gone(child))


def test_a_scorer_that_dies_each_time_is_given_up_and_the_rest_says_so(grading: Grading) -> None:
    found = graded(grading, "house_scorers:by_output", *["crash"] * GIVEN_UP_AFTER, "よい")
    assert {answer.problem for answer in found} == {ScoreProblem.SCORER_CRASHED}
    assert "not tried" in found[-1].notes["own"]
    # What one arm's answers did to it is nothing of the next arm's.
    grading.try_again()
    assert graded(grading, "house_scorers:by_output", "よい")[0].problem is None


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("absent_scorers:score", ScoreProblem.SCORER_NOT_FOUND),
        ("house_scorers:absent", ScoreProblem.SCORER_NOT_FOUND),
        ("house_scorers:not_a_function", ScoreProblem.SCORER_NOT_FOUND),
        ("broken_scorers:score", ScoreProblem.SCORER_NOT_FOUND),
        ("raising_scorers:score", ScoreProblem.SCORER_RAISED),
        ("os:getpid", ScoreProblem.SCORER_NOT_ALLOWED),
        ("house_scorers_evil:score", ScoreProblem.SCORER_NOT_ALLOWED),
    ],
)
def test_a_function_that_is_not_there_or_not_allowed_scores_nothing(grading: Grading, function: str, problem: ScoreProblem) -> None:
    assert [(answer.scores, answer.problem) for answer in graded(grading, function, "a", "b")] == [({"own": None}, problem)] * 2


def test_by_default_no_module_is_allowed() -> None:
    assert Access.of(Settings()).modules == ()
    assert not is_allowed("house_scorers:length", ())
    assert is_allowed("house.scorers.ja:length", ("house.scorers",))
    assert not is_allowed("house.scorersja:length", ("house.scorers",))


def test_one_process_serves_a_batch_and_is_gone_when_the_job_ends(folder: Path) -> None:
    with Grading(Access(modules=("house_scorers",), folder=folder)) as grading:
        scorer = grading.scorer(ScorerSpec(name="house_scorers:length"))
        assert isinstance(scorer, CustomScorer)
        pids = set()
        for output in ("あ", "いい", "ううう"):
            assert scorer(Item(id="q", prompt="?"), Answer(item="q", asked=ASKED, output=output)) == len(output)
            assert scorer.process is not None
            pids.add(scorer.process.pid)
        assert len(pids) == 1
    assert not psutil.pid_exists(pids.pop())
