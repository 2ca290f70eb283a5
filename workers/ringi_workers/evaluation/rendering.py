"""Items of a task as tokens: rendered and tokenised once, asked of every adapter of a sweep.

A choice is tokenised behind its prompt as lm-evaluation-harness 0.4.13 does (`TemplateLM._encode_pair`), so that sums of
log-likelihoods agree: white space at the prompt's end goes over to the continuation, prompt and continuation are tokenised as one text,
and the continuation's tokens are those past as many as the prompt alone has. Where a merge crosses the border these are not the text's own
tokens, there as here.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ringi.jobs.contracts.suites import Answering, Item, Problem, Task
from ringi.kit.digests import Digest, sha256_json
from ringi_workers.evaluation.branches import Tokens
from ringi_workers.training.data import begin_tokens

# Texts of one call of the tokenizer: enough for its threads, and few enough to hold.
_TEXTS_AT_ONCE = 4096


class Rendered(NamedTuple):
    """An item, its choices filled in from the task; `branches` are its choices, or its first reference. With a problem there are no tokens."""

    item: Item
    asked: Digest
    prompt: Tokens
    branches: tuple[Tokens, ...]
    problem: Problem | None = None


class Prepared(NamedTuple):
    """A task for one tokenizer. `work`: about how many tokens an arm reads and writes for it."""

    task: Task
    items: tuple[Rendered, ...]
    work: int


class _Text(NamedTuple):
    item: Item
    prompt: str
    tails: tuple[str, ...]


def render_texts(
    tokenizer: PreTrainedTokenizerBase, task: Task, texts: Sequence[tuple[str, tuple[str, ...]]], *, context: int | None
) -> list[Rendered]:
    """Prompts that are written already, each with what may stand behind it, as items that are named by their numbers."""
    limit = min(task.max_length, context or task.max_length)
    made = [_Text(Item(id=str(number)), prompt, tails) for number, (prompt, tails) in enumerate(texts)]
    return _all_rendered(tokenizer, task, made, limit, context)


def prepare(tokenizer: PreTrainedTokenizerBase, task: Task, items: Sequence[Item], *, context: int | None) -> Prepared:
    """Tokens of every item in the order of `items`. `context` is the longest text that the model can read, None where it has no bound.

    What cannot be asked carries its problem; the others are not held up by it.
    """
    task = settled(tokenizer, task)
    whole = [item if item.choices else item.model_copy(update={"choices": task.choices}) for item in items]
    limit = min(task.max_length, context or task.max_length)
    rendered = _all_rendered(tokenizer, task, [_text(tokenizer, task, item) for item in whole], limit, context)
    return Prepared(task, tuple(rendered), sum(_work(task, one) for one in rendered if one.problem is None))


def _all_rendered(
    tokenizer: PreTrainedTokenizerBase, task: Task, texts: Sequence[_Text | Rendered], limit: int, context: int | None
) -> list[Rendered]:
    left = iter(texts)
    rendered: list[Rendered] = []
    widest = max((len(text.tails) for text in texts if isinstance(text, _Text)), default=0)
    while some := list(islice(left, max(1, _TEXTS_AT_ONCE // (1 + widest)))):
        usable = [text for text in some if isinstance(text, _Text)]
        tokens = _tokens(tokenizer, task, usable)
        rendered += [_checked(task, text, *next(tokens), limit, context) if isinstance(text, _Text) else text for text in some]
    return rendered


def asked_digest(task: Task, item: Item) -> Digest:
    """Of the item and how it is rendered (by a task that is `settled`), without tags and source: what two answers must have in common to be compared.

    The words of a base's chat template are the base's and not part of it: a newer base may have others and is asked the same.
    """
    question = item.model_dump(mode="json", exclude={"tags", "source"})
    return sha256_json({"item": question, "render": task.render, "system": task.system, "delimiter": task.delimiter})


def settled(tokenizer: PreTrainedTokenizerBase, task: Task) -> Task:
    """The task with `auto` as what it is for this base: a text as it stands is another question than the same in a template."""
    return task if task.render != "auto" else task.model_copy(update={"render": "raw" if is_raw(tokenizer, task) else "chat"})


def is_raw(tokenizer: PreTrainedTokenizerBase, task: Task) -> bool:
    """Whether the base's chat template is left out."""
    return task.render == "raw" or (task.render == "auto" and not tokenizer.chat_template)


def _text(tokenizer: PreTrainedTokenizerBase, task: Task, item: Item) -> _Text | Rendered:
    def refused(problem: Problem) -> Rendered:
        return Rendered(item, asked_digest(task, item), (), (), problem)

    turns = [{"role": message.role, "content": message.content} for message in item.messages]
    if item.prompt is not None:
        turns.append({"role": "user", "content": item.prompt})
    if not turns:
        return refused(Problem.NOTHING_ASKED)
    if (problem := _unanswerable(task, item)) is not None:
        return refused(problem)
    tails = item.choices if task.answering is Answering.CHOICE else item.references[:1]
    if task.answering is Answering.GENERATE:
        tails = ()
    if is_raw(tokenizer, task):
        said = [task.system] * (task.system is not None) + [turn["content"] for turn in turns]
        return _Text(item, "\n".join(str(text) for text in said), tuple(task.delimiter + tail for tail in tails))
    if not tokenizer.chat_template:
        return refused(Problem.NO_CHAT_TEMPLATE)
    if task.system is not None:
        turns.insert(0, {"role": "system", "content": task.system})
    try:
        return _Text(item, str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)), tuple(tails))
    except TemplateError:
        # Some templates know no system text, and some insist on turns that alternate.
        return refused(Problem.CHAT_TEMPLATE_REFUSED)


def _unanswerable(task: Task, item: Item) -> Problem | None:
    if task.answering is Answering.CHOICE:
        if not item.choices:
            return Problem.NO_CHOICES
        if item.answer is not None and not 0 <= item.answer < len(item.choices):
            return Problem.ANSWER_OUT_OF_RANGE
        return Problem.CHOICE_WITHOUT_TOKENS if "" in item.choices else None
    if task.answering is not Answering.GENERATE and not item.references:
        return Problem.NO_REFERENCE
    return Problem.REFERENCE_WITHOUT_TOKENS if task.answering is not Answering.GENERATE and not item.references[0] else None


def _tokens(tokenizer: PreTrainedTokenizerBase, task: Task, texts: Sequence[_Text]) -> Iterator[tuple[Tokens, tuple[Tokens, ...]]]:
    """Prompt and branches of each text."""
    if task.answering in {Answering.GENERATE, Answering.EXACT}:
        yield from _as_generated(tokenizer, task, texts)
        return
    pairs = [_spaces_over(text) for text in texts]
    prompts = _encoded(tokenizer, task, [prompt for prompt, _ in pairs])
    wholes = iter(_encoded(tokenizer, task, [prompt + tail for prompt, tails in pairs for tail in tails]))
    for (_, tails), prompt in zip(pairs, prompts, strict=True):
        # Nothing stands before an empty prompt's continuation, and its first token must follow something.
        yield prompt or _nothing(tokenizer), tuple(next(wholes)[len(prompt) :] for _ in tails)


def _as_generated(tokenizer: PreTrainedTokenizerBase, task: Task, texts: Sequence[_Text]) -> Iterator[tuple[Tokens, tuple[Tokens, ...]]]:
    """The prompt as generation reads it; behind it the tokens that a reference has there, and an end token."""
    prompts = _encoded(tokenizer, task, [text.prompt for text in texts])
    wholes = iter(_encoded(tokenizer, task, [text.prompt + tail for text in texts for tail in text.tails]))
    for text, prompt in zip(texts, prompts, strict=True):
        tails = [
            whole[len(prompt) :] if whole[: len(prompt)] == prompt else _alone(tokenizer, tail)
            for tail, whole in zip(text.tails, wholes, strict=False)
        ]
        # Which end token it is does not matter: the likeliest token in its place is compared with all of them.
        end = (tokenizer.eos_token_id or 0,)
        yield prompt or _nothing(tokenizer), tuple((*tail, *end) if tail else () for tail in tails)


def _spaces_over(text: _Text) -> tuple[str, tuple[str, ...]]:
    stripped = text.prompt.rstrip()
    spaces = text.prompt[len(stripped) :]
    return stripped, tuple(spaces + tail for tail in text.tails)


def _encoded(tokenizer: PreTrainedTokenizerBase, task: Task, texts: Sequence[str]) -> list[Tokens]:
    """A chat template writes its own special tokens; a raw text gets the begin token if the base uses one and the text has it not yet."""
    found = [tuple(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]] if texts else []
    begin = tuple(begin_tokens(tokenizer)) if is_raw(tokenizer, task) else ()
    return [ids if ids[: len(begin)] == begin else (*begin, *ids) for ids in found]


def _alone(tokenizer: PreTrainedTokenizerBase, text: str) -> Tokens:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _nothing(tokenizer: PreTrainedTokenizerBase) -> Tokens:
    named = (tokenizer.bos_token_id, tokenizer.eos_token_id)
    return (next((token for token in named if token is not None), 0),)


def _checked(task: Task, text: _Text, prompt: Tokens, branches: tuple[Tokens, ...], limit: int, context: int | None) -> Rendered:
    rendered = Rendered(text.item, asked_digest(task, text.item), prompt, branches)
    if (problem := _too_much(task, prompt, branches, limit, context)) is not None:
        return rendered._replace(prompt=(), branches=(), problem=problem)
    return rendered


def _too_much(task: Task, prompt: Tokens, branches: tuple[Tokens, ...], limit: int, context: int | None) -> Problem | None:
    choosing = task.answering is Answering.CHOICE
    if not all(branches):
        return Problem.CHOICE_WITHOUT_TOKENS if choosing else Problem.REFERENCE_WITHOUT_TOKENS
    longest = max(map(len, branches), default=0)
    if longest >= limit:
        return Problem.CHOICE_TOO_LONG if choosing else Problem.REFERENCE_TOO_LONG
    if len(prompt) + longest > limit:
        return Problem.PROMPT_TOO_LONG
    if task.answering is Answering.GENERATE and context is not None and len(prompt) + task.decoding.max_new_tokens > context:
        return Problem.PROMPT_TOO_LONG
    return None


def _work(task: Task, one: Rendered) -> int:
    written = task.decoding.max_new_tokens * task.decoding.repeats if task.answering is Answering.GENERATE else 0
    return len(one.prompt) + sum(map(len, one.branches)) + written
