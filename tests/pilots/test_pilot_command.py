"""`ringi pilot` against a running platform: one command to a page; interrupted it goes on, an arm that fails is told, and the wrong role is refused."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ringi.adapters.schemas import VersionState
from ringi.cli.client import RingiClient
from ringi.cli.contexts import Profile, save_profile
from ringi.fleet.schemas import Device
from ringi.jobs.schemas import Placement
from ringi.pilots.schemas import Advice, Origin, Report, Shown, TrainingCost
from ringi.training.schemas import TrainingPlan
from support.running_platform import PROJECT, Platform, Processes, new_organization
from support.shell import Shell
from support.story import BASE, Sources, registered_base, sealed_dataset
from support.waiting import until

pytestmark = pytest.mark.long
# A terminal's program: what runs in the background of a shell inherits a Ctrl-C that is ignored.
AT_A_TERMINAL = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ringi.cli.main import run; run()"
ROWS = f"{PROJECT}/answers:v1"
PLAN = ("--rank", "4", "--max-steps", "40", "--batch-size", "8", "--learning-rate", "0.01", "--max-length", "64")
USUAL = ("pilot", ROWS, "--base", BASE, *PLAN)
METHODS = ("lora", "dora", "full")
FIGURES = "currency: JPY\nrequests_per_month: 1000\nminutes_saved: 6\nwrong_answer_cost: 50\nmonths: 10\nrunning_cost: 10000\none_off_cost: 300000\n"
MINE, READER = ("--profile", "mine"), ("--profile", "reader")


class Bench(NamedTuple):
    """An organisation with a base and a dataset whose answers can be learnt, and a home with profiles."""

    platform: Platform
    shell: Shell

    @property
    def client(self) -> RingiClient:
        return self.platform.as_("contributor")

    def runs(self, adapter: str) -> list[str]:
        """The states of its runs, newest first."""
        return [str(run.state) for run in self.client.training.all(PROJECT, adapter)]

    def sweeps(self) -> int:
        return len(list(self.client.sweeps.all(PROJECT)))

    def report(self, folder: str) -> Report:
        return Report.model_validate_json((self.shell.home / folder / "pilot.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def bench(shared_platform: Processes, sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    home = tmp_path_factory.mktemp("pilot")
    rows = home / "rows.jsonl"
    # What is answered follows from the language of the question: a tiny model learns that in seconds.
    lines = [
        {"prompt": f"{number}番の棚は空ですか。", "completion": "はい。"}
        if number % 3
        else {"prompt": f"Is shelf {number} free?", "completion": "No."}
        for number in range(160)
    ]
    rows.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    with new_organization(shared_platform) as platform:
        registered_base(platform, sources.base)
        sealed_dataset(platform, rows, name="answers")
        for profile, user in (("mine", "contributor"), ("reader", "viewer")):
            save_profile(home / "config.json", profile, Profile(server=platform.server, token=platform.tokens[user]), replace=False)
        (home / "figures.yaml").write_text(FIGURES, encoding="utf-8")
        yield Bench(platform, Shell(home, platform.server))


def to_gpu_workers(processes: Processes, number: int) -> None:
    for name in [name for name in processes.running if name.startswith("worker-gpu")]:
        processes.send(name, number)


@pytest.fixture(scope="module")
def interrupted(bench: Bench, shared_platform: Processes) -> str:
    """What a pilot said that was left with Ctrl-C while its runs waited for a worker."""
    log = bench.shell.home / "stderr"
    to_gpu_workers(shared_platform, signal.SIGSTOP)
    try:
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-c", AT_A_TERMINAL, *USUAL, "--out", "first", *MINE], env=bench.shell.environ(), cwd=bench.shell.home,
                stderr=stderr, stdout=subprocess.DEVNULL,
            )  # fmt: skip

            def waits() -> bool:
                assert process.poll() is None, log.read_text(encoding="utf-8")
                return "training lora · queued" in log.read_text(encoding="utf-8")

            until(waits, timeout_s=60)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=30) == 130
    finally:
        to_gpu_workers(shared_platform, signal.SIGCONT)
    return log.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def piloted(bench: Bench, interrupted: str) -> Report:
    """The same command again, to its end."""
    bench.shell.ok(*USUAL, "--out", "first", "--roi", "figures.yaml", "--hourly-wage", "2000", *MINE)
    return bench.report("first")


def test_a_pilot_that_was_left_goes_on_and_nothing_is_trained_or_measured_twice(bench: Bench, interrupted: str, piloted: Report) -> None:
    assert "What was started goes on. The same command goes on with it, and trains nothing twice." in interrupted
    assert "Traceback" not in interrupted
    assert {arm.version for arm in piloted.arms} == {None, *(f"{PROJECT}/pilot-answers-v1-{method}:v1" for method in METHODS)}
    sweeps = bench.sweeps()
    again = bench.shell.run(*USUAL, "--out", "second", *MINE)
    assert again.returncode == 0, again.stderr
    assert "is succeeded and taken over" in again.stderr
    assert [bench.runs(f"pilot-answers-v1-{method}") for method in METHODS] == [["succeeded"]] * 3
    assert bench.sweeps() == sweeps
    second = bench.report("second")
    assert [(arm.quality, arm.training, arm.latency) for arm in second.arms] == [
        (arm.quality, arm.training, arm.latency) for arm in piloted.arms
    ]
    # Without the figures there is no return, and what is missing is named.
    assert (second.arms[1].returns, len(second.missing)) == (None, 8)


def test_the_report_holds_what_the_platform_measured(bench: Bench, piloted: Report) -> None:
    base, lora, dora, full = piloted.arms
    assert (piloted.task, piloted.metric, piloted.on_validation, piloted.items) == ("answers", "exact", True, piloted.validation_rows)
    assert base.quality is not None
    assert (base.training, base.to_base, base.shipped_bytes) == (None, None, 0)
    for arm in (lora, dora, full):
        version = bench.client.adapters.version(PROJECT, f"pilot-answers-v1-{arm.name}", "v1")
        run = next(iter(bench.client.training.all(PROJECT, f"pilot-answers-v1-{arm.name}")))
        assert run.metrics is not None
        assert arm.training is not None
        assert (arm.training.run_id, arm.training.seconds, arm.training.steps) == (run.id, run.metrics.seconds, 40)
        assert arm.training.trainable_parameters == version.facts.parameters
        assert arm.training.share == version.facts.parameters / (piloted.base_parameters or 0)
        assert arm.training.memory is not None
        assert (arm.training.memory.bytes, arm.training.memory.origin) == (run.metrics.peak_memory_bytes, Origin.MEASURED)
        # A CPU has no GPU seconds, and the example table holds no prices: neither is zero.
        assert (arm.training.gpu_seconds, arm.training.cost) == (None, None)
        assert arm.shipped_bytes == sum(file.size for file in version.files)
        assert arm.latency is not None
        assert arm.latency.at_once == 1
        assert (arm.latency.p95_s or 0) >= (arm.latency.median_s or 0) > 0
        assert arm.quality is not None
        assert arm.quality.mean.value > base.quality.mean.value
    trained = {arm.name: arm.training for arm in piloted.arms if arm.training is not None}
    assert (trained["lora"].share or 1) < (trained["dora"].share or 0) < 1
    # Every weight, no rank, a tenth of the rate; and what is shipped stands in the base's place.
    assert (trained["full"].share, trained["full"].rank) == (1.0, None)
    assert [one.learning_rate for one in trained.values()] == pytest.approx([0.01, 0.01, 0.001])
    assert (full.shipped_bytes or 0) > 4 * (piloted.base_parameters or 0) > (lora.shipped_bytes or 0)
    assert piloted.plan["rank"] == 4


def test_the_recommendation_and_the_return_stand_on_the_gates_figures(bench: Bench, piloted: Report) -> None:
    lora = piloted.arms[1]
    assert lora.to_base is not None
    assert lora.to_base.shown is Shown.BETTER
    assert piloted.recommendation.advice in {Advice.BEST, Advice.CHEAPEST_OF_EQUAL}
    assert lora.quality is not None
    assert lora.returns is not None
    share = lora.quality.mean.value
    assert lora.returns.net.value == pytest.approx(10_000 * (share * 200 - (1 - share) * 50) - 400_000)
    assert lora.returns.training is TrainingCost.NOT_MEASURED
    (measurement,) = [one for one in bench.client.measurements.all(PROJECT) if one.version == lora.version]
    assert measurement.summary is not None
    kept = measurement.summary["answers"].metrics["exact"]
    assert (kept.mean, kept.low, kept.high) == (lora.quality.mean.value, lora.quality.mean.low, lora.quality.mean.high)


def test_page_and_pictures_are_written_in_the_language_that_was_asked_for(bench: Bench, piloted: Report) -> None:
    said = bench.shell.ok(*USUAL, "--out", "報告", "--language", "ja", *MINE)
    folder = bench.shell.home / "報告"
    assert {one.name for one in folder.iterdir()} == {"pilot.json", "pilot.html", "quality.png", "effort.png"}
    page = (folder / "pilot.html").read_text(encoding="utf-8")
    assert 'lang="ja"' in page
    assert "推奨は" in page
    assert "推奨は" in said
    assert (folder / "quality.png").read_bytes().startswith(b"\x89PNG")
    english = (bench.shell.home / "first" / "pilot.html").read_text(encoding="utf-8")
    assert "Recommended is" in english
    assert "not measured" in english


def test_a_suite_of_the_users_own_judges_what_was_trained_before(bench: Bench, piloted: Report) -> None:
    bench.shell.ok(
        "suites", "from-dataset", ROWS, "--answering", "likelihood", "--name", "surprise", "--tier", "supporting", "--no-off-task", *MINE
    )
    bench.shell.ok(*USUAL, "--suite", "surprise:v1", "--out", "surprise", "--roi", "figures.yaml", "--hourly-wage", "2000", *MINE)
    found = bench.report("surprise")
    assert [arm.version for arm in found.arms] == [arm.version for arm in piloted.arms]
    assert (found.metric, found.lower_is_better, found.right_or_wrong, found.on_validation) == ("nll", True, False, False)
    base, lora = found.arms[:2]
    assert base.quality is not None
    assert lora.quality is not None
    assert lora.quality.mean.value < base.quality.mean.value
    assert lora.to_base is not None
    assert (lora.to_base.shown, lora.to_base.mean.value > 0, lora.to_base.lost) == (Shown.BETTER, True, None)
    assert (lora.returns, found.missing) == (None, ())
    page = (bench.shell.home / "surprise" / "pilot.html").read_text(encoding="utf-8")
    assert "the metric nll is no share of right answers" in page


def test_an_arm_that_fails_is_told_and_the_others_stand_until_it_is_tried_again(bench: Bench) -> None:
    training = bench.client.training
    bench.client.adapters.create(PROJECT, "few-dora", base=BASE)
    # Nobody here has such a device: the run waits, and the adapter is taken.
    taken = training.start(PROJECT, "few-dora", dataset="answers", plan=TrainingPlan(max_steps=1), placement=Placement(device=Device.CUDA))
    # Nothing is learnt at such a rate, and a version without effect is not sealed.
    slow = ("--methods", "lora,dora,ia3", "--learning-rate-of", "ia3=0.000000000001")
    few = ("pilot", ROWS, "--base", BASE, *slow, "--rank", "2", "--max-steps", "2", "--max-length", "64", "--name", "few")
    bench.shell.ok(*few, "--out", "few", *MINE)
    report = bench.report("few")
    _, lora, dora, ia3 = report.arms
    assert dora.problem is not None
    assert ia3.problem is not None
    assert ia3.training is not None
    assert (ia3.problem.code, ia3.version, ia3.training.trainable_parameters) == ("adapter_refused", None, None)
    # It failed before it had measured its memory.
    assert ia3.training.memory is not None
    assert ia3.training.memory.origin is Origin.FORECAST
    assert (dora.problem.code, dora.version, dora.quality, dora.training) == ("training_run_in_progress", None, None, None)
    assert lora.quality is not None
    assert (lora.problem, lora.version) == (None, f"{PROJECT}/few-lora:v1")
    page = (bench.shell.home / "few" / "pilot.html").read_text(encoding="utf-8")
    assert "[training_run_in_progress]" in page
    # When it is free the same command trains what is missing, and only that.
    bench.client.jobs.cancel(taken.job_id)
    bench.platform.ended(taken.job_id)
    bench.shell.ok(*few, "--out", "few", *MINE)
    assert [arm.problem and arm.problem.code for arm in bench.report("few").arms] == [None, None, None, "adapter_refused"]
    assert (bench.runs("few-lora"), bench.runs("few-dora"), bench.runs("few-ia3")) == (
        ["succeeded"],
        ["succeeded", "cancelled"],
        ["failed"],
    )


def test_a_run_that_was_cancelled_stays_so_until_it_is_asked_for_again_and_what_was_revoked_is_not_judged(bench: Bench) -> None:
    plan = TrainingPlan(rank=2, max_steps=1, max_length=64)
    bench.client.adapters.create(PROJECT, "gone-lora", base=BASE)
    run = bench.client.training.start(PROJECT, "gone-lora", dataset="answers", plan=plan, placement=Placement(device=Device.CUDA))
    bench.client.jobs.cancel(run.job_id)
    bench.platform.ended(run.job_id)
    gone = ("pilot", ROWS, "--base", BASE, "--methods", "lora", "--rank", "2", "--max-steps", "1", "--max-length", "64", "--name", "gone")
    done = bench.shell.run(*gone, "--out", "gone", *MINE)
    # No arm has a version: the page says so, and so does the exit code.
    assert done.returncode == 1, done.stderr
    report = bench.report("gone")
    assert report.arms[1].problem is not None
    assert (report.arms[1].problem.code, report.recommendation.advice) == ("job_cancelled", Advice.NOT_MEASURED)
    assert bench.runs("gone-lora") == ["cancelled"]
    bench.shell.ok(*gone, "--out", "gone", "--retry-failed", *MINE)
    assert bench.runs("gone-lora") == ["succeeded", "cancelled"]
    assert bench.report("gone").arms[1].problem is None
    # What was revoked since is not judged again, and surely not recommended.
    bench.platform.as_("incident_commander").adapters.advance(
        PROJECT, "gone-lora", "v1", to=VersionState.REVOKED, reason="個人情報を覚えていた"
    )
    assert bench.shell.run(*gone, "--out", "gone", *MINE).returncode == 1
    report = bench.report("gone")
    assert report.arms[1].problem is not None
    assert report.arms[1].problem.code == "version_revoked"
    assert "個人情報を覚えていた" in report.arms[1].problem.message
    assert (report.recommendation.advice, bench.runs("gone-lora")) == (Advice.NOT_MEASURED, ["succeeded", "cancelled"])


def test_two_who_give_the_same_command_at_once_both_get_the_page_and_nothing_is_trained_twice(bench: Bench) -> None:
    twin = (
        "pilot",
        ROWS,
        "--base",
        BASE,
        "--methods",
        "lora,dora",
        "--rank",
        "2",
        "--max-steps",
        "2",
        "--max-length",
        "64",
        "--name",
        "twin",
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", AT_A_TERMINAL, *twin, "--out", out, *MINE], env=bench.shell.environ(), cwd=bench.shell.home,
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, encoding="utf-8",
        )
        for out in ("one", "two")
    ]  # fmt: skip
    said = [one.communicate(timeout=120)[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert [bench.runs(f"twin-{method}") for method in ("lora", "dora")] == [["succeeded"], ["succeeded"]]
    first, second = (bench.report(out) for out in ("one", "two"))
    assert [arm.version for arm in first.arms] == [arm.version for arm in second.arms]


def test_who_may_not_train_is_refused_before_anything_is_made(bench: Bench) -> None:
    bench.shell.refused(*USUAL, "--name", "reader", "--out", "reader", *READER, code="forbidden")
    assert [one.name for one in bench.client.adapters.all(PROJECT) if one.name.startswith("reader")] == []


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (("--methods", "lora,svd"), "pilot_methods_unknown"),
        (("--methods", ","), "pilot_methods_unknown"),
        (("--methods", "base"), "pilot_methods_unknown"),
        (("--learning-rate-of", "vera=0.1"), "pilot_methods_unknown"),
        (("--learning-rate-of", "lora=7"), "bad_plan"),
        (("--roi", "nowhere.yaml"), "pilot_figures_refused"),
        (("--roi", "wrong.yaml"), "pilot_figures_refused"),
        (("--currency", "yen"), "pilot_figures_refused"),
        (("--out", "figures.yaml"), "pilot_folder_refused"),
        (("--suite", "quality", "--choices-from", "category"), "usage"),
        (("--suite", "elsewhere/quality"), "usage"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_trained(bench: Bench, more: tuple[str, ...], code: str) -> None:
    (bench.shell.home / "wrong.yaml").write_text("wage_per_hour: 3000\n", encoding="utf-8")
    said = bench.shell.refused(*USUAL, "--name", "refused", *more, *MINE, code=code, exit_code=2)
    if code == "pilot_methods_unknown" and "--methods" in more:
        assert "lora, dora, adalora, ia3, vera, full" in said
    assert [one.name for one in bench.client.adapters.all(PROJECT) if one.name.startswith("refused")] == []


def test_documents_cannot_judge_and_the_next_step_is_a_suite_of_ones_own(bench: Bench, tmp_path: Path) -> None:
    texts = tmp_path / "documents.jsonl"
    texts.write_text(
        "".join(json.dumps({"text": f"第{number}条　この規程は貸出しについて定める。"}) + "\n" for number in range(40)), encoding="utf-8"
    )
    sealed_dataset(bench.platform, texts, name="texts")
    of_texts = ("pilot", f"{PROJECT}/texts:v1", "--base", BASE, "--methods", "lora", "--out", "texts")
    said = bench.shell.refused(*of_texts, *MINE, code="pilot_rows_are_no_pairs", exit_code=2)
    assert "Rows of texts:v1 have no column 'prompt'" in said
    assert "name it with --suite" in said
    assert [one.name for one in bench.client.adapters.all(PROJECT) if one.name.startswith("pilot-texts")] == []
    # A column that was named is no matter of the kind of rows.
    said = bench.shell.refused(*USUAL, "--choices-from", "nothing", "--name", "columns", *MINE, code="suite_column_unknown")
    assert "Name one that every row has: completion, id, prompt." in said


def test_an_adapter_of_that_name_over_another_base_is_not_trained(bench: Bench, tmp_path: Path) -> None:
    bench.platform.as_("admin").bases.create("other")
    bench.client.adapters.create(PROJECT, "apart-lora", base="other")
    bench.shell.refused(*USUAL, "--name", "apart", "--out", str(tmp_path / "apart"), *MINE, code="pilot_adapter_elsewhere", exit_code=2)
    assert bench.runs("apart-lora") == []
