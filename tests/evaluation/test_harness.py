"""Tasks of lm-evaluation-harness on the loaded model: as our own answering, as the library's own model, for every arm, and nothing runs code."""

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval.utils
import pytest
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from tokenizers.processors import TemplateProcessing

from ringi.jobs.contracts.suites import Answer, Answering, Harness, Item, ScorerSpec, Task
from ringi_workers.evaluation.harness import library
from ringi_workers.evaluation.harness.loading import facts, load
from ringi_workers.evaluation.swapping import SwappableBase
from ringi_workers.evaluation.sweep import Measured, NotMeasured, SweepStopped, sweep
from support.following import Follower
from support.harness_tasks import CHOOSING, OPTIONS, WRITING, documents, harness_task, sealed, with_items
from support.tiny_model import make_tiny_base
from support.tiny_shapes import make_tiny_adapter

Tasks = Sequence[tuple[Task, Sequence[Item]]]
# Twice the same question, and two that stand in the examples.
SHOTS = {"num_fewshot": 2, "fewshot_config": {"samples": documents(5), "sampler": "default"}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> SwappableBase:
    return SwappableBase(make_tiny_base(tmp_path_factory.mktemp("harness") / "tiny", seed=3))


@pytest.fixture(scope="module")
def arms(base: SwappableBase) -> dict[str, Path | None]:
    """The bare base and an adapter."""
    return {"base": None, "適合器": make_tiny_adapter(base.folder, base.folder.parent / "adapter", seed=1)}


def measured(base: SwappableBase, arms: Mapping[str, Path | None], tasks: Tasks, *, batch_size: int = 4) -> dict[tuple[str, str], Measured]:
    found: dict[tuple[str, str], Measured] = {}
    for one in sweep(base, arms, tasks, sink=Follower(), batch_size=batch_size):
        assert isinstance(one, Measured), one
        found[one.arm, one.task] = one
    return found


def said(one: Measured) -> list[Answer]:
    """What was answered, times apart."""
    return [answer.model_copy(update={"seconds": None}) for answer in one.answers]


def test_the_librarys_choices_have_the_likelihoods_and_scores_of_our_own(base: SwappableBase, arms: dict[str, Path | None]) -> None:
    items = [
        {
            "id": str(number), "prompt": f"質問: {one['question'].strip()}\n答え:", "choices": OPTIONS, "answer": one["label"],
            "tags": {"site": one["site"]},
        }
        for number, one in enumerate(documents())
    ]  # fmt: skip
    own = {
        "name": "自前", "answering": "choice", "render": "raw", "delimiter": " ", "items": items,
        "scorers": [{"name": "accuracy", "label": "acc"}, {"name": "accuracy_chars", "label": "acc_norm"}],
    }  # fmt: skip
    found = measured(base, arms, with_items(sealed([harness_task(), own])))
    for arm in arms:
        pairs = list(zip(found[arm, "棚"].answers, found[arm, "自前"].answers, strict=True))
        for theirs, ours in pairs:
            assert theirs.logprobs == pytest.approx(ours.logprobs, abs=1e-4)
            assert (theirs.item, theirs.scores, theirs.choice, theirs.tags) == (ours.item, ours.scores, ours.choice, ours.tags)
            assert theirs.prompt_tokens == ours.prompt_tokens > 0
    scores = {score for one in found.values() for answer in one.answers for score in answer.scores.values()}
    assert scores == {0.0, 1.0}, "the test needs right and wrong answers"
    assert found["base", "棚"].answers[0].logprobs != found["適合器", "棚"].answers[0].logprobs
    assert found["base", "棚"].operations.scoring == ("tree",)


def by_the_library(model: Any, tokenizer: Any, task: Task, items: Sequence[Item]) -> list[dict[str, Any]]:
    """Its samples with its own model class, as its own evaluator makes them."""
    loaded = load(task, items)
    assert loaded.refusal is None
    chat = task.render == "chat"
    loaded.built.set_fewshot_seed(seed=1234)
    # A copy, because its model class adds a padding token to the tokenizer.
    lm = HFLM(pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=1, max_length=512)
    tasks = {"tasks": {task.name: loaded.built}, "groups": {}, "group_map": {}}
    found = evaluate(
        lm=lm, task_dict=tasks, bootstrap_iters=0, apply_chat_template=chat, fewshot_as_multiturn=chat, system_instruction=task.system
    )  # fmt: skip
    samples: list[dict[str, Any]] = found["samples"][task.name]
    return samples


@pytest.mark.parametrize("render", ["raw", "chat"])
def test_choices_with_examples_are_those_of_the_librarys_own_model(base: SwappableBase, arms: dict[str, Path | None], render: str) -> None:
    made = harness_task({**CHOOSING, **SHOTS, "description": "棚の質問です。\n"}, render=render, system="短く答えて。")
    ((task, items),) = with_items(sealed([made]))
    found = measured(base, arms, [(task, items)])
    for arm, adapter in arms.items():
        with base.arm(adapter) as model:
            theirs = by_the_library(model, base.tokenizer, task, items)
        for one, sample in zip(found[arm, "棚"].answers, theirs, strict=True):
            assert one.logprobs == pytest.approx([value for value, _ in sample["filtered_resps"]], abs=1e-3)
            assert one.scores == {"acc": sample["acc"], "acc_norm": sample["acc_norm"]}


@pytest.mark.parametrize("render", ["raw", "chat"])
def test_texts_are_those_of_the_librarys_own_model(base: SwappableBase, arms: dict[str, Path | None], render: str) -> None:
    metrics: list[Any] = ["exact_match", {"name": "exact_match", "parameters": {"filter": "whole"}}]
    ((task, items),) = with_items(sealed([harness_task(WRITING, render=render, scorers=metrics)]))
    found = measured(base, arms, [(task, items)])
    for arm, adapter in arms.items():
        with base.arm(adapter) as model:
            theirs = by_the_library(model, base.tokenizer, task, items)
        texts = {sample["doc_id"]: sample["resps"][0][0] for sample in theirs}
        filtered = {(sample["doc_id"], sample["filter"]): sample for sample in theirs}
        for place, one in enumerate(found[arm, "棚"].answers):
            assert one.output == texts[place]
            assert one.scores["exact_match,strict"] == filtered[place, "strict"]["exact_match"]
            assert one.scores["exact_match,whole"] == filtered[place, "whole"]["exact_match"]
            assert 0 < one.output_tokens <= 8
        assert any(texts.values()), "the test needs texts"
    assert found["base", "棚"].operations.tokens_per_s
    assert said(found["base", "棚"]) != said(found["適合器", "棚"])


def test_answers_are_the_same_again_in_any_order_of_arms_and_for_any_batch_size(base: SwappableBase, arms: dict[str, Path | None]) -> None:
    tasks = with_items(sealed([harness_task({**CHOOSING, **SHOTS}), harness_task(WRITING, name="文", scorers=["exact_match"])]))
    first = measured(base, arms, tasks)
    again = measured(base, dict(reversed(arms.items())), tasks)
    assert {key: said(one) for key, one in again.items()} == {key: said(one) for key, one in first.items()}
    for key, one in measured(base, arms, tasks, batch_size=1).items():
        for other, answer in zip(first[key].answers, one.answers, strict=True):
            assert (answer.scores, answer.output) == (other.scores, other.output)
            assert answer.logprobs == pytest.approx(other.logprobs, abs=1e-3)


def test_a_base_that_begins_every_text_with_a_token_does_so_for_the_library(base: SwappableBase, tmp_path: Path) -> None:
    begun = SwappableBase(make_tiny_base(tmp_path / "begun"))
    tokenizer: Any = begun.tokenizer
    first = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{first} $A", special_tokens=[(first, tokenizer.bos_token_id)])
    assert tokenizer("猫")["input_ids"][0] == tokenizer.bos_token_id
    ((task, items),) = with_items(sealed([harness_task()]))
    with begun.arm(None) as model:
        theirs = by_the_library(model, tokenizer, task, items)
    found = measured(begun, {"base": None}, [(task, items)])["base", "棚"]
    for one, sample in zip(found.answers, theirs, strict=True):
        assert one.logprobs == pytest.approx([value for value, _ in sample["filtered_resps"]], abs=1e-3)
    assert found.answers[0].prompt_tokens == measured(base, {"base": None}, [(task, items)])["base", "棚"].answers[0].prompt_tokens + 1


def test_one_likelihood_says_whether_greedy_decoding_would_give_it(base: SwappableBase) -> None:
    told = {"task": "x", "output_type": "loglikelihood", "doc_to_text": "{{question}}", "doc_to_target": "{{' ' ~ options[label]}}"}
    ((task, items),) = with_items(sealed([harness_task(told, scorers=["acc"])]))
    one = measured(base, {"base": None}, [(task, items)])["base", "棚"]
    with base.arm(None) as model:
        theirs = by_the_library(model, base.tokenizer, task, items)
    assert [answer.scores["acc"] for answer in one.answers] == [float(sample["acc"]) for sample in theirs]
    for answer, sample in zip(one.answers, theirs, strict=True):
        assert answer.logprobs == pytest.approx([sample["filtered_resps"][0][0]], abs=1e-3)


def test_what_cannot_be_asked_or_be_right_has_its_code_and_no_score(base: SwappableBase) -> None:
    rows = [*documents(4), {**documents(2)[0], "label": 9}, {**documents(2)[0], "question": "長い棚" * 400}]
    ((task, items),) = with_items(sealed([harness_task(items=rows, max_length=256)]))
    answers = measured(base, {"base": None}, [(task, items)])["base", "棚"].answers
    assert [answer.problem for answer in answers] == [None] * 4 + ["answer_out_of_range", "prompt_too_long"]
    assert [answer.scores["acc"] is None for answer in answers] == [False] * 4 + [True, True]


def test_a_base_without_a_chat_template_has_the_code_of_every_task(base: SwappableBase, tmp_path: Path) -> None:
    bare = SwappableBase(make_tiny_base(tmp_path / "bare"))
    bare.tokenizer.chat_template = None
    raw = harness_task(name="生")
    found = measured(bare, {"base": None}, with_items(sealed([harness_task(render="chat"), raw])))
    assert {answer.problem for answer in found["base", "棚"].answers} == {"no_chat_template"}
    assert {answer.problem for answer in found["base", "生"].answers} == {None}


def unsealed(config: dict[str, Any]) -> tuple[Task, list[Item]]:
    """A task that sealing would have refused."""
    items = [Item(id=str(number), document=one) for number, one in enumerate(documents())]
    task = Task(
        name="棚", answering=Answering.HARNESS, items="sha256:" + "0" * 64, count=len(items), render="raw", harness=Harness(config=config),
        scorers=(ScorerSpec(name="lm_eval", label="acc", parameters={"metric": "acc"}),),
    )  # fmt: skip
    return task, items


def test_a_template_that_got_past_sealing_finds_no_way_out_of_its_document(base: SwappableBase, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    way_out = "{{ question.__class__.__mro__[1].__subclasses__()|length }}"
    worse = "{{ cycler.__init__.__globals__['os'].system('touch " + str(mark) + "') }}"
    for template in (way_out, worse):
        # In the library's own environment both run: the test is about something.
        assert lm_eval.utils.apply_template(template, documents()[0]).isdigit()
        mark.unlink(missing_ok=True)
        task, items = unsealed({**CHOOSING, "doc_to_text": template})
        tasks = [(task, items), *with_items(sealed([harness_task(name="生")]))]
        found = measured(base, {"base": None}, tasks)
        assert {answer.problem for answer in found["base", "棚"].answers} == {"harness_failed"}
        assert all(answer.scores["acc"] is None and "SecurityError" in answer.notes["acc"] for answer in found["base", "棚"].answers)
        assert {answer.problem for answer in found["base", "生"].answers} == {None}
    assert not mark.exists()


def test_where_the_library_fails_while_it_asks_the_arm_is_not_measured_and_other_tasks_are(
    base: SwappableBase, arms: dict[str, Path | None]
) -> None:
    # The library looks at the first document when it builds the task, and at the others when it asks.
    rows = [*documents(3), {**documents(2)[0], "label": 9}]
    broken = harness_task({**WRITING, "doc_to_target": "{{options[label]}}"}, items=rows, scorers=["exact_match"])
    tasks = with_items(sealed([harness_task(name="生"), broken]))
    (_, (task, items)) = tasks
    assert load(task, items).refusal is None
    found = {(one.arm, one.task): one for one in sweep(base, arms, tasks, sink=Follower(), batch_size=4)}
    for arm in arms:
        failed, other = found[arm, "棚"], found[arm, "生"]
        assert isinstance(failed, NotMeasured)
        assert (failed.code, "UndefinedError" in failed.message) == ("harness_failed", True)
        assert isinstance(other, Measured)
        assert {answer.problem for answer in other.answers} == {None}


def test_what_the_device_raises_ends_the_sweep_as_in_any_other_task(tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    tasks = with_items(sealed([harness_task()]))
    own = SwappableBase(make_tiny_base(tmp_path / "broken"))
    with own.arm(None) as model:
        layer: Any = model
        layer.get_input_embeddings().register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        list(sweep(own, {"base": None}, tasks, sink=Follower()))


def test_a_sweep_is_stopped_within_such_a_task_and_shows_its_progress(base: SwappableBase) -> None:
    tasks = with_items(sealed([harness_task()]))
    follower = Follower()
    list(sweep(base, {"base": None}, tasks, sink=follower, batch_size=1))
    assert (follower.seen[-1].step, follower.seen[-1].total) == (9, 9)
    assert len({report.step for report in follower.seen}) > 3
    with pytest.raises(SweepStopped):
        list(sweep(base, {"base": None}, tasks, sink=Follower(reports=3), batch_size=1))


def test_what_the_template_makes_of_a_document_is_another_question_than_the_document(base: SwappableBase, tmp_path: Path) -> None:
    bare = SwappableBase(make_tiny_base(tmp_path / "bare"))
    bare.tokenizer.chat_template = None
    asked: dict[str, list[str]] = {}
    for render in ("auto", "chat", "raw"):
        tasks = with_items(sealed([harness_task(render=render)]))
        for name, model in (("with", base), ("without", bare)):
            if (render, name) != ("chat", "without"):
                asked[f"{render} {name}"] = [one.asked for one in measured(model, {"base": None}, tasks)["base", "棚"].answers]
    assert asked["auto with"] == asked["chat with"]
    assert asked["auto without"] == asked["raw without"] == asked["raw with"]
    assert not set(asked["auto with"]) & set(asked["auto without"])


def test_the_version_belongs_to_the_runtime(base: SwappableBase) -> None:
    ((task, items),) = with_items(sealed([harness_task()]))
    assert facts([load(task, items)]) == {"lm_eval": lm_eval.__version__}
    assert facts([]) == {}
    # What could not be built is another measurement than what could, and is not taken over once it can.
    refused = load(*unsealed({**CHOOSING, "doc_to_text": "{{ question.__class__.__mro__ }}"}))
    assert facts([refused]) == {"lm_eval": lm_eval.__version__, "lm_eval 棚": "harness_failed"}


NAMED = """
import json, sys
from ringi.jobs.contracts.suites import Answering, Harness, Item, ScorerSpec, Task
from ringi_workers.evaluation.harness.loading import facts, load
found = {}
for name, count, slices in json.loads(sys.argv[1]):
    task = Task(
        name=name, answering=Answering.HARNESS, items="sha256:" + "0" * 64, count=count, render="raw",
        harness=Harness(task=name, slices=slices), scorers=(ScorerSpec(name="lm_eval", label="acc", parameters={"metric": "acc"}),),
    )
    loaded = load(task, [Item(id=str(number)) for number in range(count)])
    found[f"{name} {count}"] = [loaded.refusal and loaded.refusal.code, str(loaded.refusal), facts([loaded]), [item.tags for item in loaded.items]]
    if loaded.refusal is None:
        from ringi_workers.evaluation.swapping import SwappableBase
        from ringi_workers.evaluation.sweep import sweep

        class Sink:
            report = staticmethod(lambda progress: None)
            should_stop = staticmethod(lambda: False)

        items = list(loaded.items)
        (one,) = sweep(SwappableBase(sys.argv[2]), {"base": None}, [(task, items)], sink=Sink(), harness={name: loaded})
        found["answers"] = [answer.model_dump(mode="json") for answer in one.answers]
print(json.dumps(found))
"""


def in_a_process(base: Path, *tasks: tuple[str, int, list[str]], **environment: str) -> dict[str, Any]:
    """What named tasks came to in a process with an environment of its own: the library reads it once."""
    told = {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
    done = subprocess.run(
        [sys.executable, "-c", NAMED, json.dumps(tasks), str(base)],
        env=os.environ | told,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def cached_dataset(home: Path, *, name: str, config: str, rows: Sequence[dict[str, Any]]) -> None:
    """A dataset in a cache as the library leaves it there: `rows` in every split."""
    file = home / "rows.jsonl"
    home.mkdir()
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    files = {split: str(file) for split in ("train", "validation", "test")}
    library.module("datasets").load_dataset("json", data_files=files, cache_dir=str(home / "made"))
    (info,) = (home / "made").glob("json/*/*/*/dataset_info.json")
    short = name.partition("/")[2]
    place = home / "datasets" / name.replace("/", "___") / config / "0.0.0" / info.parent.name
    place.mkdir(parents=True)
    told = json.loads(info.read_text()) | {"config_name": config, "dataset_name": short, "builder_name": "parquet"}
    (place / "dataset_info.json").write_text(json.dumps(told))
    for arrow in info.parent.glob("*.arrow"):
        shutil.copyfile(arrow, place / arrow.name.replace("json-", f"{short}-"))


@pytest.mark.proof
def test_a_named_task_is_asked_of_what_is_on_this_machine_and_nothing_is_fetched(base: SwappableBase, tmp_path: Path) -> None:
    """In one process, because the library reads its 14,000 YAMLs first."""
    rows = [
        {
            "id": f"q{number}", "question": f"{number}番の棚には?", "answerKey": "AB"[number % 2],
            "choices": {"text": ["赤い猫", "灯り"], "label": ["A", "B"]},
        }
        for number in range(4)
    ]  # fmt: skip
    cached_dataset(tmp_path / "hub", name="allenai/ai2_arc", config="ARC-Easy", rows=rows)
    wanted: list[tuple[str, int, list[str]]] = [
        ("arc_easy", 3, ["answerKey"]), ("arc_easy", 4, ["grade"]), ("arc_easy", 5, []), ("arc_challenge", 3, []), ("boolq", 3, []),
        ("no_such_task", 3, []), ("mmlu", 3, []),
    ]  # fmt: skip
    # The environment allows the hub; the platform's own setting does not.
    found = in_a_process(base.folder, *wanted, HF_HOME=str(tmp_path / "hub"), HF_HUB_OFFLINE="0")
    for number, one in enumerate(found.pop("answers")):
        assert (one["item"], one["problem"], one["tags"]) == (str(number), None, {"answerKey": "AB"[number % 2]})
        assert one["scores"] == {"acc": float(one["choice"] == number % 2)}
    code, _, runtime, tags = found["arc_easy 3"]
    assert (code, tags) == (None, [{"answerKey": "A"}, {"answerKey": "B"}, {"answerKey": "A"}])
    assert runtime["lm_eval arc_easy"].startswith("sha256:")
    codes = {name: one[0] for name, one in found.items()}
    assert codes == {
        "arc_easy 3": None, "arc_easy 4": "harness_documents_differ", "arc_easy 5": "harness_documents_differ",
        "arc_challenge 3": "harness_dataset_missing", "boolq 3": "harness_dataset_missing",
        # A group of many tasks is none.
        "no_such_task 3": "harness_task_unknown", "mmlu 3": "harness_task_unknown",
    }  # fmt: skip
    assert "RINGI_HARNESS_DOWNLOADS" in found["boolq 3"][1]
    assert found["boolq 3"][2]["lm_eval boolq"] == "harness_dataset_missing"


def test_a_worker_without_the_library_refuses_such_tasks(tmp_path: Path) -> None:
    """In a process that sees every installed package but this one."""
    packages = tmp_path / "packages"
    packages.mkdir()
    for one in (entry for place in sys.path if place.endswith("site-packages") for entry in Path(place).iterdir()):
        if not one.name.startswith("lm_eval"):
            (packages / one.name).symlink_to(one)
    path = [str(packages), *(place for place in sys.path if place and not place.endswith("site-packages"))]
    done = subprocess.run(
        [sys.executable, "-S", "-c", NAMED, json.dumps([["arc_easy", 3, []]])],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(path)}, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    code, said, runtime, _ = json.loads(done.stdout.splitlines()[-1])["arc_easy 3"]
    assert (code, runtime["lm_eval"]) == ("harness_not_installed", "none")
    assert "extra 'harness'" in said
