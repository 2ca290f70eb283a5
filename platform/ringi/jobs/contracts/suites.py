"""The words of a suite that workers and platform share: tasks, items, how an item is answered, and what an answer was.

Which scores suffice is the platform's to say (`ringi.gating`); nothing of it is here.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, StringConstraints

from ringi.jobs.contracts.parts import Part
from ringi.kit.digests import Digest

Word = Annotated[str, StringConstraints(min_length=1, max_length=128)]


def _is_none(value: object) -> bool:
    return value is None


class Answering(StrEnum):
    """How an item is answered.

    `choice`: the log-likelihood of each of its choices. `generate`: text. `exact`: one teacher-forced pass says whether greedy decoding would
    give the first reference. `likelihood`: of the first reference. `harness`: as a task of lm-evaluation-harness asks, through that library.
    """

    CHOICE = "choice"
    GENERATE = "generate"
    EXACT = "exact"
    LIKELIHOOD = "likelihood"
    HARNESS = "harness"


class Problem(StrEnum):
    """Why an item has no answer, or an answer no score: the codes that answering itself gives. Scorers add codes of their own."""

    NO_CHAT_TEMPLATE = "no_chat_template"
    CHAT_TEMPLATE_REFUSED = "chat_template_refused"
    NOTHING_ASKED = "nothing_asked"
    PROMPT_TOO_LONG = "prompt_too_long"
    NO_CHOICES = "no_choices"
    CHOICE_WITHOUT_TOKENS = "choice_without_tokens"
    CHOICE_TOO_LONG = "choice_too_long"
    ANSWER_OUT_OF_RANGE = "answer_out_of_range"
    NO_REFERENCE = "no_reference"
    REFERENCE_WITHOUT_TOKENS = "reference_without_tokens"
    REFERENCE_TOO_LONG = "reference_too_long"
    LIKELIHOOD_NOT_FINITE = "likelihood_not_finite"
    OUTPUT_NOT_FINITE = "output_not_finite"
    SCORER_FAILED = "scorer_failed"
    SCORE_NOT_FINITE = "score_not_finite"
    HARNESS_NO_SCORE = "harness_no_score"


class Message(Part):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Item(Part):
    """One question: a `prompt` or `messages`, and what is right.

    `choices` stand in for those of the task; `answer` is the place of the right one. `references` are accepted texts. `tags` make slices;
    items of one `source` are no independent witnesses. A task of lm-evaluation-harness has a `document` in place of a prompt, or nothing where
    the library knows the documents. Lines of a task's blob are these, as JSON.
    """

    id: Word
    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    choices: tuple[str, ...] = ()
    answer: int | None = None
    references: tuple[str, ...] = ()
    tags: Mapping[str, str] = {}
    source: str | None = None
    # Left out where there is none, so that an item of before is the same JSON and keeps its digest; so is `harness` of a task.
    document: Annotated[Mapping[str, Any] | None, Field(exclude_if=_is_none)] = None


class Decoding(Part):
    """How text is generated. At temperature 0 it is greedy, and `repeats` is 1; else repeat r of item i has a seed of its own.

    Generation ends at the model's own end tokens, at any of `stop` (which is cut off) and after `max_new_tokens`.
    """

    max_new_tokens: Annotated[int, Field(ge=1, le=4096)] = 64
    stop: tuple[str, ...] = ()
    temperature: Annotated[FiniteFloat, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[FiniteFloat, Field(gt=0, le=1)] = 1.0
    repeats: Annotated[int, Field(ge=1, le=64)] = 1
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0


class ScorerSpec(Part):
    """A scorer by its name, with its parameters. Its scores are called `name`, or `label` where there is one."""

    name: Word
    label: Word | None = None
    parameters: Mapping[str, Any] = {}

    @property
    def metric(self) -> str:
        """What its scores are called."""
        return self.label or self.name


class Harness(Part):
    """A task of lm-evaluation-harness: `task`, which the worker's library knows by that name, or `config`, its YAML as data.

    Documents of a named task are the library's: the first of them are asked, as many as the task has items, and `slices` are the fields of theirs
    that become tags, `source` the one whose equals are no independent witnesses. Those of a `config` are the task's items, with tags of their own.
    """

    task: str | None = None
    config: Mapping[str, Any] | None = None
    slices: tuple[str, ...] = ()
    source: str | None = None


class Task(Part):
    """Items of one kind. `items` is the digest of their JSON lines, `count` how many there are.

    `render`: `chat` through the base's chat template (with `system` before it, where it is given), `raw` as the text stands, `auto` by the template where the base has one; `delimiter` stands between a
    raw prompt and what follows it (lm-evaluation-harness has a space there). `choices` are those of every item that has none of its own. At most
    `max_length` tokens are read; an item beyond it gets no score, and says so.
    """

    name: Word
    answering: Answering
    items: Digest
    count: Annotated[int, Field(ge=1)]
    render: Literal["chat", "raw", "auto"] = "chat"
    system: str | None = None
    delimiter: str = ""
    choices: tuple[str, ...] = ()
    scorers: tuple[ScorerSpec, ...]
    decoding: Decoding = Decoding()
    max_length: Annotated[int, Field(ge=8, le=1_000_000)] = 2048
    harness: Annotated[Harness | None, Field(exclude_if=_is_none)] = None


class Answer(Part):
    """What one arm said to one item, and its scores; the unit of pairing.

    `asked`: digest of what the model was asked (the item and how it was rendered, without tags), so that a change of either is noticed. `output`: the generated text,
    or the chosen choice. `outputs` are those of all repeats where there are several. `logprobs[k]` is the sum over choice k's tokens,
    in nats, and `choice_tokens[k]` their number. `nll`: of the reference, per token, over `output_tokens` tokens. A score that is None was not measured; `problem` is the stable
    code that says why. `seconds` is this item's share of its batch.
    """

    item: Word
    asked: Digest
    tags: Mapping[str, str] = {}
    source: str | None = None
    output: str | None = None
    outputs: tuple[str, ...] = ()
    choice: int | None = None
    logprobs: tuple[FiniteFloat, ...] = ()
    choice_tokens: tuple[int, ...] = ()
    nll: FiniteFloat | None = None
    exact: bool | None = None
    scores: Mapping[str, FiniteFloat | None] = {}
    problem: str | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: FiniteFloat | None = None
    # What a scorer says of its score, by metric: a judge's reason, or why there is none.
    notes: Mapping[str, str] = {}


class Operations(Part):
    """How one arm's pass over one task behaved; None where it was not measured.

    `prompt_tokens` and `output_tokens` are sums over the items, `tokens_per_s` is of what was put out (generation only) and `read_tokens_per_s` of prompts and what was
    scored behind them. `first_token_s`: median over batches of the time from a batch's begin to its first tokens. `item_p50_s`, `item_p95_s`: of the
    items' shares of their batches, which are not what a lone request waits. `peak_memory_bytes`: resident memory of the process on a CPU
    (since the pass began where the system can say that, else since the process did), else what torch had allocated on the GPU.
    `batch_size`: how many prompts were at most read at once, after what did not fit the memory was halved.
    `scoring`: how likelihoods were read, `tree`, `cached` or `plain`;
    `generation`: how texts were made, `batched`, `stepped` or `reread` (see `ringi_workers.evaluation.reach`).
    """

    items: int
    seconds: FiniteFloat
    prompt_tokens: int
    output_tokens: int
    read_tokens_per_s: FiniteFloat | None
    tokens_per_s: FiniteFloat | None
    first_token_s: FiniteFloat | None
    item_p50_s: FiniteFloat | None
    item_p95_s: FiniteFloat | None
    peak_memory_bytes: int | None
    scoring: tuple[str, ...] = ()
    generation: str | None = None
    batch_size: int | None = None
