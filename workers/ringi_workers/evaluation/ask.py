"""One arm answers one prepared task: items that ask the same are read once, like lengths go together, answers come in the items' order.

Caches are made here and end here, so that no adapter ever reads behind another's.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from transformers import DynamicCache, PreTrainedTokenizerBase

from ringi.jobs.contracts.suites import Answer, Answering, Operations, Problem, Task
from ringi_workers.evaluation.branches import Branch, Question, Tokens, batches, read
from ringi_workers.evaluation.fitting import Fit
from ringi_workers.evaluation.generation import Generated, Text, Wanted, generate
from ringi_workers.evaluation.operations import Meter
from ringi_workers.evaluation.reach import Pace, Reach
from ringi_workers.evaluation.reading import common_beginning, read_beginning
from ringi_workers.evaluation.rendering import Prepared, Rendered
from ringi_workers.evaluation.scoring import Scorer, scored

# Some of the branches of a question, by its number and theirs.
Part = tuple[int, tuple[int, ...]]
Something = TypeVar("Something")
# Between two looks: enough to sort by length, and few enough to stop soon.
_BATCHES_A_LOOK = 4
# A pass over a few tokens has to read every weight: it takes as long as so many tokens more in another.
_TOKENS_OF_A_PASS = 192
# Told after every batch how many items it answered and how much work that was; may raise to end the pass.
OnBatch = Callable[[int, int], None]


class Look(Protocol):
    """Asks in portions, and looks between them whether the rest is to be asked."""

    def portions(self, size: int) -> Sequence[Sequence[str]]:
        """Every item's id, in the order in which they are to be asked; about `size` of them together."""

    def enough(self, answers: Sequence[Answer]) -> bool:
        """Told the answers of one portion after another: whether no more is to be asked."""


class Pass(NamedTuple):
    """The answers of one arm to one task, in the order of its items; not of all of them where a look said that it is enough."""

    answers: tuple[Answer, ...]
    operations: Operations
    enough: bool = False


class Batch(NamedTuple):
    """Answers to some of the items of a batch, or what a part of a question came to."""

    answers: list[Answer]
    work: int


class Reading(NamedTuple):
    """Questions that were read to their end, each by its number with its branches and its seconds, and how many tokens the pass read."""

    finished: list[tuple[int, dict[Tokens, Branch], float]]
    work: int


def ask(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prepared: Prepared,
    *,
    reach: Reach,
    stop_tokens: frozenset[int],
    batch_size: int,
    scorers: Mapping[str, Scorer],
    on_batch: OnBatch = lambda _items, _work: None,
    look: Look | None = None,
) -> Pass:
    """All answers of `model` as it stands, with the scores of `scorers`. `batch_size` counts distinct prompts, or drawn texts, at once.

    A batch that does not fit the memory is halved, as are those after it; what was used stands in the operations. Raises DeviceFull where one prompt does not.
    With a `look` items of like length go together within its portions only, so that what is known at a look does not depend on lengths.
    """
    meter, fit = Meter(model.device), Fit(batch_size)
    generating = prepared.task.answering is Answering.GENERATE
    by_item: dict[str, Answer] = {}
    enough = False
    for portion in _portions(prepared, look, batch_size):
        answerable = [one for one in portion if one.problem is None]
        refused = [scored(one.item, _refused(one, one.problem), scorers) for one in portion if one.problem is not None]
        by_item |= {answer.item: answer for answer in refused}
        if refused:
            on_batch(len(refused), 0)
        whole = {one.item.id: one.item for one in answerable}
        made = (generated if generating else _read)(model, tokenizer, prepared.task, answerable, reach, stop_tokens, fit, meter)
        for batch in made:
            by_item |= {answer.item: scored(whole[answer.item], answer, scorers) for answer in batch.answers}
            on_batch(len(batch.answers), batch.work)
        enough = look is not None and look.enough([by_item[one.item.id] for one in portion])
        if enough:
            break
    answers = tuple(by_item[one.item.id] for one in prepared.items if one.item.id in by_item)
    return Pass(answers, meter.operations(answers, generated=generating, pace=reach.pace, batch_size=fit.size), enough)


def _portions(prepared: Prepared, look: Look | None, batch_size: int) -> Iterator[Sequence[Rendered]]:
    if look is None:
        yield prepared.items
        return
    by_id = {one.item.id: one for one in prepared.items}
    for portion in look.portions(_BATCHES_A_LOOK * batch_size):
        yield [by_id[item] for item in portion]


def _refused(one: Rendered, problem: Problem | None) -> Answer:
    return Answer(item=one.item.id, asked=one.asked, tags=one.item.tags, source=one.item.source, problem=problem)


def grouped(items: Sequence[Rendered]) -> dict[Tokens, list[Rendered]]:
    """Items by their prompt."""
    groups: dict[Tokens, list[Rendered]] = {}
    for one in items:
        groups.setdefault(one.prompt, []).append(one)
    return groups


def _beginning(model: Any, prompts: Sequence[Tokens], reach: Reach) -> DynamicCache:
    """What the prompts share, read once where that saves more than the pass over it costs: a pass over a few tokens takes as long as one over many.

    A model that cannot go on behind a cache with several tokens begins every prompt at its beginning.
    """
    shared = common_beginning(prompts)
    worth_a_pass = shared * (len(prompts) - 1) >= _TOKENS_OF_A_PASS
    return read_beginning(model, prompts[0][:shared] if worth_a_pass and reach.pace is Pace.BATCHED else ())


def _read(
    model: Any,
    _tokenizer: PreTrainedTokenizerBase,
    task: Task,
    items: Sequence[Rendered],
    reach: Reach,
    stop_tokens: frozenset[int],
    fit: Fit,
    meter: Meter,
) -> Iterator[Batch]:
    """Choice, exact and likelihood: what stands behind a prompt is read, not written."""
    groups = grouped(items)
    questions = [Question(prompt, tuple(dict.fromkeys(b for one in group for b in one.branches))) for prompt, group in groups.items()]
    members = list(groups.values())
    for batch in read_questions(model, questions, reach=reach, fit=fit, meter=meter):
        answers = []
        for number, found, seconds in batch.finished:
            share = seconds / len(members[number])
            answers += [_answer_read(task, one, found, stop_tokens, share) for one in members[number]]
        yield Batch(answers, batch.work)


def read_questions(model: Any, questions: Sequence[Question], *, reach: Reach, fit: Fit, meter: Meter) -> Iterator[Reading]:
    """The likelihoods of all branches; like lengths go together, so that questions end in any order, and some in several parts."""
    beginning = _beginning(model, [question.prompt for question in questions], reach)
    found: list[dict[Tokens, Branch]] = [{} for _ in questions]
    seconds = [0.0] * len(questions)

    def reading(batch: list[Part]) -> tuple[list[Question], list[list[Branch]]]:
        some = [Question(questions[number].prompt, tuple(questions[number].branches[place] for place in part)) for number, part in batch]
        way = reach.way_for(some)
        with meter.batch():
            read_branches = read(model, some, beginning=beginning, way=way)
        meter.scoring.add(way.value)
        return some, read_branches

    planned = batches(questions, batch_size=fit.size, vocabulary=model.config.get_text_config().vocab_size)
    for batch, (some, read_branches) in fit.each(planned, reading, _halves_read):
        finished = []
        for (number, _), question, branches in zip(batch, some, read_branches, strict=True):
            found[number] |= dict(zip(question.branches, branches, strict=True))
            seconds[number] += meter.last_batch_s / len(batch)
            # The parts of a question come in any order; it is answered with the last of them.
            if len(found[number]) == len(questions[number].branches):
                finished.append((number, found[number], seconds[number]))
        work = sum(len(question.prompt) + sum(map(len, question.branches)) for question in some)
        meter.read_tokens += work
        yield Reading(finished, work)


def _halves(batch: list[Something]) -> tuple[list[Something], list[Something]] | None:
    middle = len(batch) // 2
    return (batch[:middle], batch[middle:]) if middle else None


def _halves_read(batch: list[Part]) -> tuple[list[Part], list[Part]] | None:
    """A question that is alone can still be asked for some of its branches at a time."""
    if len(batch) > 1:
        return _halves(batch)
    number, places = batch[0]
    middle = len(places) // 2
    return ([(number, places[:middle])], [(number, places[middle:])]) if middle else None


def _answer_read(task: Task, one: Rendered, found: Mapping[Tokens, Branch], stop_tokens: frozenset[int], seconds: float) -> Answer:
    branches = [found[tokens] for tokens in one.branches]
    if not all(math.isfinite(logprob) for branch in branches for logprob in branch.logprobs):
        return _refused(one, Problem.LIKELIHOOD_NOT_FINITE)
    common: dict[str, Any] = {
        "item": one.item.id, "asked": one.asked, "tags": one.item.tags, "source": one.item.source,
        "prompt_tokens": len(one.prompt), "seconds": seconds,
    }  # fmt: skip
    if task.answering is Answering.CHOICE:
        sums = tuple(math.fsum(branch.logprobs) for branch in branches)
        chosen = max(range(len(sums)), key=sums.__getitem__)
        tokens = tuple(map(len, one.branches))
        return Answer(**common, output=one.item.choices[chosen], choice=chosen, logprobs=sums, choice_tokens=tokens, output_tokens=0)
    logprobs, likeliest = branches[0].logprobs, branches[0].likeliest
    exact = None
    if task.answering is Answering.EXACT:
        exact = likeliest[:-1] == one.branches[0][:-1] and likeliest[-1] in stop_tokens
        # The end token tells whether the text ends, and is not part of it.
        logprobs = logprobs[:-1]
    return Answer(**common, nll=-math.fsum(logprobs) / len(logprobs), exact=exact, output_tokens=len(logprobs))


def generated(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    items: Sequence[Rendered],
    reach: Reach,
    stop_tokens: frozenset[int],
    fit: Fit,
    meter: Meter,
) -> Iterator[Batch]:
    """Texts, each prompt read once."""
    groups = grouped(items)
    beginning = _beginning(model, list(groups), reach)

    def writing(prompts: list[Tokens]) -> Generated:
        wanted = [Wanted(prompt, tuple(one.item.id for one in groups[prompt])) for prompt in prompts]
        with meter.batch():
            return generate(model, tokenizer, wanted, decoding=task.decoding, beginning=beginning, stop_tokens=stop_tokens, pace=reach.pace)

    for prompts, made in fit.each(_prompt_batches(task, groups, fit.size), writing, _halves):
        if made.first_token_s is not None:
            meter.first_tokens.append(made.first_token_s)
        members = [(one, texts[one.item.id]) for prompt, texts in zip(prompts, made.texts, strict=True) for one in groups[prompt]]
        share = meter.last_batch_s / len(members)
        answers = [_answer_generated(one, texts, share) for one, texts in members]
        meter.read_tokens += sum(map(len, prompts))
        work = sum(len(one.prompt) + task.decoding.max_new_tokens * task.decoding.repeats for one, _ in members)
        yield Batch(answers, work)


def _prompt_batches(task: Task, groups: Mapping[Tokens, Sequence[Rendered]], batch_size: int) -> Iterator[list[Tokens]]:
    """Prompts of like length, longest first; as many as make `batch_size` texts, at least one."""
    drawing = task.decoding.temperature > 0
    batch: list[Tokens] = []
    rows = 0
    for prompt in sorted(groups, key=lambda one: (-len(one), one)):
        more = len(groups[prompt]) * task.decoding.repeats if drawing else 1
        if batch and rows + more > batch_size:
            yield batch
            batch, rows = [], 0
        batch.append(prompt)
        rows += more
    if batch:
        yield batch


def _answer_generated(one: Rendered, texts: Sequence[Text], seconds: float) -> Answer:
    if not all(text.finite for text in texts):
        return _refused(one, Problem.OUTPUT_NOT_FINITE)
    return Answer(
        item=one.item.id, asked=one.asked, tags=one.item.tags, source=one.item.source, output=texts[0].text,
        outputs=tuple(text.text for text in texts) if len(texts) > 1 else (), prompt_tokens=len(one.prompt),
        output_tokens=sum(text.tokens for text in texts), seconds=seconds,
    )  # fmt: skip
