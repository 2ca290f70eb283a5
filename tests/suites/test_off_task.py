"""General prompts that every sweep asks: they are sealed with a suite, and the gate sees text that is corrupted while the task is kept."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from safetensors.numpy import load_file, save_file

from ringi.cli.contexts import Profile, save_profile
from ringi.gates.schemas import DecideGate
from ringi.gating.schemas import Verdict
from ringi.jobs.contracts.parts import Progress
from ringi.measurements.schemas import RequestSweep
from ringi.storage.blobs import store_at
from ringi.suites import off_task_probe, sealing
from ringi.suites.schemas import AddSuiteVersion
from ringi_workers.evaluation.swapping import SwappableBase
from ringi_workers.evaluation.sweep import Measured, sweep
from support.own_api import store_url
from support.running_platform import PROJECT
from support.shell import Shell
from support.story import ADAPTER, DATASET, Ground, registered
from support.tiny_model import make_tiny_base


class Quiet:
    """Nobody looks, and nobody stops it."""

    def report(self, progress: Progress) -> None:
        """Nothing."""

    def should_stop(self) -> bool:
        """Never."""
        return False


def body(**more: Any) -> AddSuiteVersion:
    """A task that any adapter keeps: its margin is wider than what can be lost."""
    task = {"name": "faq", "answering": "exact", "scorers": ["exact"], "max_length": 256, "dataset": {"version": DATASET}}
    return AddSuiteVersion.model_validate(
        {"tasks": [task], "requirements": [{"task": "faq", "metric": "exact", "tier": "supporting", "margin": 0.9}], **more}
    )


def test_the_probe_goes_with_every_suite_but_with_one_that_has_it() -> None:
    probe = off_task_probe.beside(["faq"])
    names = [draft.task.name for draft in probe.drafts]
    assert len(names) == len(set(names)) == 8
    assert {one.task for one in probe.requirements} == set(names)
    assert sum(len(draft.items) for draft in probe.drafts) >= 200
    assert off_task_probe.beside(["faq", names[0]]) == off_task_probe.NOTHING


def test_a_suite_says_that_it_asks_general_prompts_or_that_it_does_not(ground: Ground) -> None:
    suites, name = ground.platform.as_("contributor").suites, f"o{uuid4().hex[:8]}"
    suites.create(PROJECT, name)
    whole = suites.add_version(PROJECT, name, body())
    assert whole.document.tasks[0].name == "faq"
    assert sum(task.name.startswith(off_task_probe.PREFIX) for task in whole.document.tasks) == 8
    bare = suites.add_version(PROJECT, name, body(off_task=False))
    assert [task.name for task in bare.document.tasks] == ["faq"]
    assert bare.digest != whole.digest
    assert suites.add_version(PROJECT, name, body()).digest == whole.digest


def test_the_program_says_that_a_probe_of_ones_own_stands_in_for_the_shipped_one(ground: Ground, tmp_path: Path) -> None:
    profile = Profile(server=ground.platform.server, token=ground.platform.tokens["contributor"])
    save_profile(tmp_path / "config.json", "mine", profile, replace=False)
    shell, name = Shell(tmp_path, ground.platform.server), f"{PROJECT}/o{uuid4().hex[:8]}"
    shell.ok("suites", "create", name, "--profile", "mine")
    for probe, said in (("faq", False), ("off-task-own", True)):
        task = {
            "name": probe,
            "answering": "likelihood",
            "scorers": ["nll"],
            "items": [{"id": "q", "prompt": "猫", "references": ["はい"]}],
        }
        (tmp_path / "suite.json").write_text(json.dumps({"tasks": [task]}), encoding="utf-8")
        done = shell.run("suites", "add", name, "suite.json", "--profile", "mine")
        assert (done.returncode, "off-task probe of its own" in done.stderr) == (0, said), done.stderr


def test_a_suite_that_requires_nothing_decides_nothing_with_the_probe_either(ground: Ground) -> None:
    suites, name = ground.platform.as_("contributor").suites, f"o{uuid4().hex[:8]}"
    suites.create(PROJECT, name)
    asked = suites.add_version(PROJECT, name, body(requirements=[]))
    assert len(asked.document.tasks) == 9
    assert asked.document.requirements == ()


def test_the_probe_is_asked_of_a_base_without_a_chat_template_too(tmp_path: Path) -> None:
    folder = make_tiny_base(tmp_path / "base")
    base = SwappableBase(folder)
    base.tokenizer.chat_template = None
    draft = next(one for one in off_task_probe.beside([]).drafts if one.task.name == "off-task-knowledge-en")
    sealed = sealing.seal([draft], [])
    (result,) = sweep(base, {"base": None}, [(sealed.document.tasks[0], draft.items)], sink=Quiet())
    assert isinstance(result, Measured)
    assert [answer.problem for answer in result.answers] == [None] * len(draft.items)
    assert all(answer.scores["nll"] for answer in result.answers)


@pytest.fixture(scope="module")
def corrupted(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> str:
    """v1 of the adapter, with a hundred times the effect: nothing of the base's language is left."""
    folder = tmp_path_factory.mktemp("corrupted")
    store = store_at(store_url(ground.platform))
    for file in ground.platform.as_("contributor").adapters.version(PROJECT, ADAPTER, "v1").files:
        (folder / file.path).write_bytes(b"".join(store.open(file.digest)))
    stronger(folder)
    return registered(ground.platform, folder).reference.partition("/")[2]


def stronger(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    save_file({name: tensor * 100 for name, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})


def test_the_gate_names_corrupted_general_text_although_the_task_is_within_its_margin(ground: Ground, corrupted: str) -> None:
    client, name = ground.platform.as_("contributor"), f"o{uuid4().hex[:8]}"
    client.suites.create(PROJECT, name)
    client.suites.add_version(PROJECT, name, body())
    swept = client.sweeps.request(PROJECT, RequestSweep(suite=name, versions=[corrupted], include_base=True))
    ground.platform.succeeded(swept.job_id)
    gate = client.gates.decide(PROJECT, DecideGate(candidate=corrupted, baseline="base", suite=name))
    by_task = {task.task: task.verdict for task in gate.document.decision.tasks}
    assert by_task["faq"] is Verdict.GO
    blamed = {task for task, verdict in by_task.items() if verdict is Verdict.NO_GO}
    assert blamed
    assert all(task.startswith(off_task_probe.PREFIX) for task in blamed)
    assert gate.verdict is Verdict.NO_GO
