"""Tasks of lm-evaluation-harness over a few Japanese and English documents, sealed as a suite would be."""

from collections.abc import Sequence
from typing import Any

from ringi.jobs.contracts.suites import Item, Task
from ringi.suites import harness, sealing
from ringi.suites.schemas import AddSuiteVersion
from ringi.suites.sealing import Drafted, Sealed

OPTIONS = ["red cat", "red lamp", "赤い猫", "a golden bridge"]
CHOOSING: dict[str, Any] = {
    "task": "shelf", "output_type": "multiple_choice", "doc_to_text": "質問: {{question.strip()}}\n答え:", "doc_to_choice": "options",
    "doc_to_target": "label", "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}, {"metric": "acc_norm"}],
}  # fmt: skip
WRITING: dict[str, Any] = {
    "task": "shelf_text", "doc_to_text": "{{question}}\n", "doc_to_target": "{{options[label]}}",
    "generation_kwargs": {"until": ["。", "\n"], "max_gen_toks": 8, "do_sample": False},
    "filter_list": [
        {"name": "strict", "filter": [{"function": "regex", "regex_pattern": r"(\w+)"}, {"function": "take_first"}]},
        {"name": "whole", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]},
    ],
}  # fmt: skip


def documents(count: int = 9) -> list[dict[str, Any]]:
    """Questions of several lengths; the last asks what the first does."""
    made = [
        {
            "question": f" 棚{number}には何がありますか。What is on shelf {number}?" * (1 + number % 3),
            "options": OPTIONS, "label": number % 4, "site": "大阪" if number % 2 else "東京", "customer": f"c{number // 2}",
        }
        for number in range(count - 1)
    ]  # fmt: skip
    return [*made, {**made[0], "label": 2}]


def harness_task(config: dict[str, Any] = CHOOSING, **changes: Any) -> dict[str, Any]:
    """A task as a suite's document holds it."""
    told = {"config": config, "slices": ["site"]} | changes.pop("harness", {})
    made = {"name": "棚", "answering": "harness", "render": "raw", "items": documents(), "scorers": ["acc", "acc_norm"], "harness": told}
    return made | changes


def sealed(tasks: Sequence[dict[str, Any]], requirements: Sequence[dict[str, Any]] = ()) -> Sealed:
    """A suite's tasks and requirements, sealed."""
    body = AddSuiteVersion.model_validate({"tasks": list(tasks), "requirements": list(requirements)})
    drafts = [
        harness.drafted(one, one.items)
        if harness.is_meant(one)
        else Drafted(one, sealing.items_of(one.name, one.items or []), tuple(one.choices))
        for one in body.tasks
    ]
    return sealing.seal(drafts, body.requirements)


def with_items(made: Sealed) -> list[tuple[Task, list[Item]]]:
    """Each task with its items, read as a worker reads them."""
    return [(task, [Item.model_validate_json(line) for line in made.files[task.items].splitlines()]) for task in made.document.tasks]
