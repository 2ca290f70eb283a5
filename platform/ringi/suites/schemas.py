"""Suites in and out: tasks with their items, and what each must show. A version is sealed, and named by the digest of its document."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from ringi.gating.advice import Advice
from ringi.gating.schemas import Requirement
from ringi.jobs.contracts.parts import Part
from ringi.jobs.contracts.suites import Answering, Decoding, ScorerSpec, Task
from ringi.kit.digests import Digest
from ringi.suites.canaries import LONG_ENOUGH, Language
from ringi.suites.reading import read_document
from ringi.tags.schemas import Tagged
from ringi.web.schemas import PRINTABLE, Integer, Name, Schema, Text

MAX_TASKS, MAX_REQUIREMENTS, MAX_CHOICES = 64, 256, 1000

# A name stands in one line of a table.
_ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]*$"
Word = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=_ONE_LINE)]
Column = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_ONE_LINE)]
Told = TypeVar("Told", ScorerSpec, Requirement)
Prose = Annotated[str, StringConstraints(max_length=20_000, pattern=PRINTABLE)]


def _scorer(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _in_one_line(told: Told) -> Told:
    """Asked of what is sent and not by the models themselves: what was sealed before can still be read."""
    word = told.label if isinstance(told, ScorerSpec) else told.family
    if word is not None and not re.fullmatch(_ONE_LINE, word):
        raise ValueError(
            "a label, or a family, stands in one line of a table: without line breaks, and without marks that turn a line round"
        )
    return told


# `accuracy` is short for `{"name": "accuracy"}`.
Scorer = Annotated[ScorerSpec, BeforeValidator(_scorer, json_schema_input_type=ScorerSpec | str), AfterValidator(_in_one_line)]
Required = Annotated[Requirement, AfterValidator(_in_one_line)]


class FromDataset(Schema):
    """The validation split of a sealed dataset version of the same project as items.

    `prompt` and `reference` are columns; `slices` columns become tags; rows that agree in column `source` are no independent witnesses.
    `choices_from` makes every distinct value of a column a choice, and the row's own the right one. With `choices` given at the task, the
    right one is the row's value of `choices_from`, else its reference.
    """

    version: Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]{1,64}(:[a-z0-9:]{1,80})?$")]
    prompt: Column = "prompt"
    reference: Column = "completion"
    slices: Annotated[list[Column], Field(max_length=32)] = []  # noqa: RUF012  # Pydantic copies it for every instance
    source: Column | None = None
    choices_from: Column | None = None


class AddHarness(Schema):
    """A task of lm-evaluation-harness, for `answering: harness`: `config` is its YAML as data, `task` the name of one that the worker's library has.

    Items of a `config` are its documents: their `id` (of a field `id` where none is named, else their number), and fields that become tags
    (`slices`) and `source`. Of a named `task` the first `limit` documents are asked.
    """

    task: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:+()-]{1,128}$")] | None = None
    config: dict[str, Any] | None = None
    limit: Annotated[Integer, Field(ge=1, le=200_000)] | None = None
    id: Column | None = None
    slices: Annotated[list[Column], Field(max_length=32)] = []  # noqa: RUF012  # as above
    source: Column | None = None


class AddTask(Schema):
    """A task, with its items from one of three places: here (`items`), uploaded JSON lines (`items_digest`), or a dataset (`dataset`).

    An item: {"id": "q1", "prompt": "…", "choices": ["…"], "answer": 0, "references": ["…"], "tags": {"language": "ja"}, "source": "…"};
    `messages` may stand in place of `prompt`.
    """

    name: Word
    answering: Answering
    items: list[dict[str, Any]] | None = None
    items_digest: Digest | None = None
    dataset: FromDataset | None = None
    render: Literal["chat", "raw", "auto"] = "chat"
    system: Prose | None = None
    delimiter: Annotated[str, StringConstraints(max_length=64)] = ""
    choices: Annotated[list[str], Field(max_length=MAX_CHOICES)] = []  # noqa: RUF012  # as above
    scorers: Annotated[list[Scorer], Field(min_length=1, max_length=32)]
    decoding: Decoding = Decoding()
    max_length: Annotated[Integer, Field(ge=8, le=1_000_000)] = 2048
    harness: AddHarness | None = None


class AddSuiteVersion(Schema):
    """The next version of a suite. A body that is not said to be JSON is read as YAML.

    `off_task`: the tasks and requirements of the shipped probe are sealed with it, so that every sweep asks general prompts too; a suite that has tasks of
    the probe itself is taken as it is. False leaves them out.
    """

    tasks: Annotated[list[AddTask], Field(min_length=1, max_length=MAX_TASKS)]
    requirements: Annotated[list[Required], Field(max_length=MAX_REQUIREMENTS)] = []  # noqa: RUF012  # as above
    off_task: bool = True

    @model_validator(mode="before")
    @classmethod
    def _from_yaml(cls, value: Any) -> Any:
        # What the framework does not know as JSON arrives as bytes.
        return read_document(value) if isinstance(value, bytes) else value


class AddCanaries(Schema):
    """A version that asks whether a model repeats what it was trained on; made of a sealed dataset version of the same project.

    `rows`: so many training rows with a completion of at least `shortest` characters, drawn with `seed`. `planted`: the canaries that
    `ringi suites plant` makes of the same number, seed and languages; asked for are those that stand in the training rows. `off_task` as for every suite.
    """

    dataset: Annotated[str, StringConstraints(pattern=r"^[a-z0-9._-]{1,64}(:[a-z0-9:]{1,80})?$")]
    rows: Annotated[Integer, Field(ge=0, le=10_000)] = 0
    shortest: Annotated[Integer, Field(ge=8, le=10_000)] = LONG_ENOUGH
    planted: Annotated[Integer, Field(ge=0, le=10_000)] = 0
    languages: Annotated[list[Language], Field(min_length=1, max_length=2)] = ["en"]  # noqa: RUF012  # as above
    rivals: Annotated[Integer, Field(ge=1, le=MAX_CHOICES - 1)] = 63
    seed: Annotated[Integer, Field(ge=0, le=2**31)] = 0
    off_task: bool = True

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.rows and not self.planted:
            raise ValueError("rows, planted, or both must be asked for")
        return self


class CreateSuite(Schema):
    """A named series of sealed versions."""

    name: Name
    description: Text = ""


class SuiteDocument(Part):
    """What is sealed: the digest of its canonical JSON names the version."""

    schema_version: Literal[1] = 1
    tasks: tuple[Task, ...]
    requirements: tuple[Requirement, ...]


class TaskFacts(Part):
    """What the items of a task are: how many, of each slice `key=value`, and the digest of the dataset version that they came from."""

    items: int
    slices: dict[str, int]
    dataset: Digest | None = None


class SuiteOut(Tagged):
    """A suite."""

    project: str
    name: str
    description: str
    created_at: datetime


class SuiteVersionOut(Tagged):
    """A sealed version. `items` counts those of all tasks."""

    reference: str
    number: int
    digest: Digest
    items: int
    document: SuiteDocument
    facts: dict[str, TaskFacts]
    created_at: datetime


class AdviceOut(Schema):
    """What the items of a version can show, for each critical task and slice."""

    reference: str
    digest: Digest
    advice: list[Advice]
