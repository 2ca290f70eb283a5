"""A task of lm-evaluation-harness on the running platform: from a YAML beside a suite, by the program, to a decision of the gate."""

import json
from pathlib import Path
from uuid import uuid4

import lm_eval
import pytest

from ringi.cli.contexts import Profile, save_profile
from support.harness_tasks import documents
from support.running_platform import PROJECT
from support.shell import Shell
from support.story import ADAPTER, Ground

SUITE = """
tasks:
- {name: 棚, answering: harness, render: raw, harness: {yaml_file: tasks/shelf.yaml, slices: [site], source: customer}, scorers: [acc, acc_norm]}
- {name: 壊れた, answering: harness, items: [{x: 猫, y: [a]}, {x: 橋, y: [b]}], harness: {config: {doc_to_text: "{{y[7]}}", doc_to_target: x}}, scorers: [exact_match]}
- {name: 選択, answering: choice, choices: [はい, いいえ], scorers: [accuracy], items: [{id: q1, prompt: 猫ですか。, answer: 0}, {id: q2, prompt: 橋ですか。, answer: 1}]}
requirements:
- {task: 棚, metric: acc, tier: supporting, margin: 0.3, slices: {site: advisory}}
off_task: false
"""
SHELF = """
include: common.yaml
task: shelf
dataset_path: json
dataset_kwargs: {data_files: shelf.jsonl}
test_split: train
doc_to_text: "質問: {{question.strip()}}\\n答え:"
"""
COMMON = "output_type: multiple_choice\ndoc_to_choice: options\ndoc_to_target: label\n"


@pytest.fixture
def program(ground: Ground, tmp_path: Path) -> Shell:
    save_profile(
        tmp_path / "config.json", "mine", Profile(server=ground.platform.server, token=ground.platform.tokens["contributor"]), replace=False
    )
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "shelf.yaml").write_text(SHELF, encoding="utf-8")
    (folder / "common.yaml").write_text(COMMON, encoding="utf-8")
    lines = (json.dumps(one, ensure_ascii=False) + "\n" for one in documents(24))
    (folder / "shelf.jsonl").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "suite.yaml").write_text(SUITE, encoding="utf-8")
    return Shell(tmp_path, ground.platform.server)


def test_a_yaml_beside_a_suite_is_sealed_swept_and_gated(ground: Ground, program: Shell) -> None:
    name, mine = f"h{uuid4().hex[:8]}", ("--profile", "mine")
    program.ok("suites", "create", f"{PROJECT}/{name}", *mine)
    made = program.json("suites", "add", f"{PROJECT}/{name}", "suite.yaml", *mine)
    shelf = made["document"]["tasks"][0]
    assert shelf["harness"]["config"]["output_type"] == "multiple_choice"
    assert "harness" not in made["document"]["tasks"][2]
    assert made["facts"]["棚"]["slices"] == {"site=大阪": 11, "site=東京": 13}
    (first, *_) = program.json("suites", "items", f"{PROJECT}/{name}", "--task", "棚", *mine)
    assert (first["document"]["options"], first["source"]) == (documents(2)[0]["options"], "c0")
    assert "棚0" in program.ok("suites", "items", f"{PROJECT}/{name}", "--task", "棚", *mine)
    # Equal files, equal version.
    assert program.json("suites", "add", f"{PROJECT}/{name}", "suite.yaml", *mine)["reference"] == made["reference"]

    done = program.run("gate", f"{PROJECT}/{ADAPTER}:v1", "--suite", name, "--against", "base", "--sweep", *mine)
    assert done.returncode in {0, 1, 3}, done.stderr
    measurements = program.json("measurements", "list", PROJECT, "--filter", f"suite={name}", *mine)
    assert {one["version"] for one in measurements} == {f"{PROJECT}/{ADAPTER}:v1", None}
    client = ground.platform.as_("contributor")
    for one in measurements:
        assert one["runtime"]["lm_eval"] == lm_eval.__version__
        assert one["evidence"]["runtime"] == one["runtime"]
        shown = one["summary"]
        assert (shown["棚"]["metrics"]["acc"]["scored"], shown["選択"]["metrics"]["accuracy"]["scored"]) == (24, 2)
        # What its template reads is not there: no score, a code, and the other tasks went on.
        assert (shown["壊れた"]["metrics"]["exact_match"]["mean"], shown["壊れた"]["problems"]) == (None, {"harness_failed": 2})
        records = program.json("measurements", "records", PROJECT, one["id"], "--limit", "40", *mine)
        assert [record["item"] for record in records if record["task"] == "棚"] == [str(number) for number in range(24)]
        assert {record["tags"]["site"] for record in records if record["task"] == "棚"} == {"大阪", "東京"}
    job = client.jobs.get(measurements[0]["job_id"])
    assert "lm_eval" in job.requirements.engines
    assert any("lm_eval" in one.engines for one in client.workers.all())


def test_a_yaml_that_names_code_is_refused_by_the_program_and_by_the_platform(program: Shell) -> None:
    name, mine = f"{PROJECT}/h{uuid4().hex[:8]}", ("--profile", "mine")
    program.ok("suites", "create", name, *mine)
    (program.home / "tasks" / "shelf.yaml").write_text(SHELF + "process_docs: !function utils.process\n", encoding="utf-8")
    program.refused("suites", "add", name, "suite.yaml", *mine, code="suite_harness_code")
    (program.home / "tasks" / "shelf.yaml").write_text(SHELF.replace("question.strip()", "question.__class__"), encoding="utf-8")
    program.refused("suites", "add", name, "suite.yaml", *mine, code="suite_harness_code")
    (program.home / "tasks" / "shelf.yaml").write_text(SHELF.replace("common.yaml", "../../common.yaml"), encoding="utf-8")
    program.refused("suites", "add", name, "suite.yaml", *mine, code="suite_harness_include")
