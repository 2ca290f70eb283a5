"""The loaded model, with whatever adapter is in effect, as a model of lm-evaluation-harness.

The library asks for log-likelihoods and for texts; both come from the engine that answers every other task of the sweep: prompts that are equal
are read once, continuations of one prompt are a tree, and an answer is the same in whatever batch it is made.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import TemplateError
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase

from ringi.jobs.contracts.suites import Answering, Decoding, Problem, Task
from ringi_workers.evaluation.ask import generated, grouped, read_questions
from ringi_workers.evaluation.branches import Branch, Question, Tokens
from ringi_workers.evaluation.fitting import Fit
from ringi_workers.evaluation.harness.refusals import HarnessTemplateRefused, HarnessUnsupported
from ringi_workers.evaluation.operations import Meter
from ringi_workers.evaluation.reach import Reach
from ringi_workers.evaluation.rendering import Rendered, render_texts

# Where a task says nothing: lm_eval/defaults.py, 0.4.13.
_MAX_TOKENS = 256
_TOKENS_NAMED = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
# Without effect where the likeliest token is taken.
_OF_DRAWING = frozenset({"top_p", "top_k", "min_p", "temperature", "do_sample"})


class Engine(NamedTuple):
    """What answering needs of the base, and whom to tell how many items are done."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    reach: Reach
    stop_tokens: frozenset[int]
    context: int | None
    fit: Fit
    meter: Meter
    on_items: Callable[[int], None]


class LoadedModel(LM):  # type: ignore[misc]  # the library has no types
    """One pass of one arm over one task. `problems` are documents, by number, that could not be asked; their scores mean nothing."""

    def __init__(self, task: Task, engine: Engine) -> None:
        super().__init__()
        self.task, self.engine = task, engine
        self.problems: dict[int, Problem] = {}
        self.prompt_tokens: Counter[int] = Counter()
        self.output_tokens: Counter[int] = Counter()
        self.seconds: defaultdict[int, float] = defaultdict(float)
        self._done: set[int] = set()

    def loglikelihood(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:  # noqa: ARG002  # the library's signature
        """Sum of the continuation's log-likelihoods in nats, and whether greedy decoding would give it."""
        places: dict[tuple[int, str], list[int]] = {}
        for place, request in enumerate(requests):
            places.setdefault((request.doc_id, request.args[0]), []).append(place)
        texts = [(context, tuple(requests[place].args[1] for place in some)) for (_, context), some in places.items()]
        rendered = self._rendered(Answering.CHOICE, texts, [document for document, _ in places])
        members = {str(number): (document, some) for number, ((document, _), some) in enumerate(places.items())}
        # What a document could not be asked is not measured; the library still wants a number for it.
        found = [(0.0, False)] * len(requests)
        groups = list(grouped(rendered).items())
        questions = [Question(prompt, tuple(dict.fromkeys(branch for one in group for branch in one.branches))) for prompt, group in groups]
        for batch in read_questions(
            self.engine.model, questions, reach=self.engine.reach, fit=self.engine.fit, meter=self.engine.meter
        ):  # fmt: skip
            done = []
            for number, branches, seconds in batch.finished:
                group = groups[number][1]
                for one in group:
                    document, some = members[one.item.id]
                    self._note(document, one, branches, seconds / len(group))
                    for place, tokens in zip(some, one.branches, strict=True):
                        found[place] = _said(branches[tokens], tokens)
                    done.append(document)
            self._tell(done)
        return found

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002  # as above
        """Text, cut at the first of `until`."""
        found = [""] * len(requests)
        alike: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            alike.setdefault(json.dumps(request.args[1], sort_keys=True, default=str), []).append(place)
        for some in alike.values():
            decoding = decoding_of(self.task.name, requests[some[0]].args[1])
            texts: list[tuple[str, tuple[str, ...]]] = [(requests[place].args[0], ()) for place in some]
            rendered = self._rendered(Answering.GENERATE, texts, [requests[place].doc_id for place in some], decoding)
            task = self.task.model_copy(update={"answering": Answering.GENERATE, "decoding": decoding})
            engine = self.engine
            for batch in generated(
                engine.model, engine.tokenizer, task, rendered, engine.reach, engine.stop_tokens, engine.fit, engine.meter
            ):
                done = []
                for answer in batch.answers:
                    place = some[int(answer.item)]
                    document = requests[place].doc_id
                    found[place] = answer.output or ""
                    if answer.problem is not None:
                        self.problems[document] = Problem(answer.problem)
                    self.prompt_tokens[document] += answer.prompt_tokens
                    self.output_tokens[document] += answer.output_tokens
                    self.seconds[document] += answer.seconds or 0.0
                    done.append(document)
                self._tell(done)
        return found

    def loglikelihood_rolling(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[float]:  # noqa: ARG002  # as above
        """Never: the perplexity of a whole text is no score of an item. Raises HarnessUnsupported."""
        raise HarnessUnsupported(self.task.name, "measures whole texts, and its scores are no scores of items")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as the base's chat template writes it. Raises HarnessTemplateRefused."""
        if not self.engine.tokenizer.chat_template:
            raise HarnessTemplateRefused(Problem.NO_CHAT_TEMPLATE)
        try:
            return str(
                self.engine.tokenizer.apply_chat_template(
                    chat_history, tokenize=False, add_generation_prompt=add_generation_prompt, continue_final_message=not add_generation_prompt
                )
            )  # fmt: skip
        except TemplateError:
            raise HarnessTemplateRefused(Problem.CHAT_TEMPLATE_REFUSED) from None

    @property
    def tokenizer_name(self) -> str:
        """Names a cache of the library that is not used."""
        return ""

    def _rendered(
        self, answering: Answering, texts: Sequence[tuple[str, tuple[str, ...]]], documents: Sequence[int], decoding: Decoding | None = None
    ) -> list[Rendered]:
        """What can be asked; of the rest the documents are noted."""
        task = self.task.model_copy(update={"answering": answering, "decoding": decoding or self.task.decoding})
        rendered = render_texts(self.engine.tokenizer, task, texts, context=self.engine.context)
        for one, document in zip(rendered, documents, strict=True):
            if one.problem is not None:
                self.problems.setdefault(document, one.problem)
        return [one for one in rendered if one.problem is None]

    def _note(self, document: int, one: Rendered, branches: Mapping[Tokens, Branch], seconds: float) -> None:
        if not all(math.isfinite(logprob) for tokens in one.branches for logprob in branches[tokens].logprobs):
            self.problems.setdefault(document, Problem.LIKELIHOOD_NOT_FINITE)
        self.prompt_tokens[document] += len(one.prompt)
        self.seconds[document] += seconds

    def _tell(self, documents: Sequence[int]) -> None:
        new = set(documents) - self._done
        self._done |= new
        self.engine.on_items(len(new))


def _said(branch: Branch, tokens: Tokens) -> tuple[float, bool]:
    total = math.fsum(branch.logprobs) if all(map(math.isfinite, branch.logprobs)) else 0.0
    return total, branch.likeliest == tokens


def decoding_of(task: str, told: Mapping[str, Any]) -> Decoding:
    """How a request of the library wants its text: greedily, or not at all here. Raises HarnessUnsupported."""
    if told.get("do_sample") or (told.get("temperature") and told.get("do_sample") is None):
        raise HarnessUnsupported(task, "draws its texts, which are not the same twice")
    strange = sorted(set(told) - _OF_DRAWING - {"until", *_TOKENS_NAMED})
    if strange:
        raise HarnessUnsupported(task, f"asks for '{strange[0]}' in its generation_kwargs")
    until = told.get("until") or ()
    tokens = next((told[name] for name in _TOKENS_NAMED if told.get(name) is not None), _MAX_TOKENS)
    try:
        return Decoding(max_new_tokens=tokens, stop=tuple(one for one in ([until] if isinstance(until, str) else until) if one))
    except ValidationError as error:
        raise HarnessUnsupported(task, f"asks for texts that are not made here ({error.errors()[0]['msg']})") from None
