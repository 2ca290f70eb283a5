"""Why a task of lm-evaluation-harness has no answers. The other tasks of the sweep go on; its own items carry the code, and no score."""

from typing import ClassVar

from ringi.jobs.contracts.suites import Problem
from ringi.kit.errors import RingiError


class HarnessRefused(RingiError):
    """A task of lm-evaluation-harness that this worker cannot ask."""

    code: ClassVar[str] = "harness_refused"
    status: ClassVar[int] = 409


class HarnessNotInstalled(HarnessRefused):
    """The worker has no lm-evaluation-harness."""

    code: ClassVar[str] = "harness_not_installed"

    def __init__(self) -> None:
        super().__init__(
            "This worker has no lm-evaluation-harness.", next_step="Install the worker with the extra 'harness', and measure again."
        )


class HarnessTaskUnknown(HarnessRefused):
    """The library of this worker has no single task of that name."""

    code: ClassVar[str] = "harness_task_unknown"

    def __init__(self, name: str, version: str) -> None:
        super().__init__(
            f"lm-evaluation-harness {version} has no task '{name}'; a group or a tag is none.",
            next_step="Name one of its tasks: lm-eval ls tasks.",
        )


class HarnessDatasetMissing(HarnessRefused):
    """The dataset of a named task is not on this machine, and nothing is fetched unless the operator allows it."""

    code: ClassVar[str] = "harness_dataset_missing"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"The dataset of '{name}' is not on this machine: {reason}.",
            next_step="Put it into the worker's cache of datasets (HF_HOME), or allow downloads: RINGI_HARNESS_DOWNLOADS=true.",
        )


class HarnessDocumentsDiffer(HarnessRefused):
    """The library's documents are fewer than the suite asks, or lack what it makes slices of."""

    code: ClassVar[str] = "harness_documents_differ"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"The documents of '{name}' are not what the suite says: {reason}.", next_step="Seal a version that says it rightly."
        )


class HarnessUnsupported(HarnessRefused):
    """The task asks for what is not measured here."""

    code: ClassVar[str] = "harness_unsupported"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"'{name}' {reason}.", next_step="Choose another task, or one of Ringi's own ways of answering.")


class HarnessFailed(HarnessRefused):
    """The library could not go on with the task."""

    code: ClassVar[str] = "harness_failed"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"lm-evaluation-harness could not go on with '{name}': {reason}.", next_step="Try the task with the library itself."
        )


class HarnessTemplateRefused(HarnessRefused):
    """The base has no chat template, or one that takes no such conversation; the items carry the code that they would have in any task."""

    code: ClassVar[str] = "harness_template_refused"

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"The base's chat template cannot render the task ({problem}).", next_step="Ask it raw: 'render: raw'.")
        self.problem = problem


def brief(error: BaseException) -> str:
    """An error of a library in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
