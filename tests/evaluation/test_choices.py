"""The log-likelihoods of choices: trees and their stand-ins against one text at a time, for any batch size and several architectures."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from ringi.jobs.contracts.suites import Answer, Answering, Item, Message, Operations, Problem, ScorerSpec, Task
from ringi_workers.evaluation.ask import Pass, ask
from ringi_workers.evaluation.branches import Question, Way, batches, tree_of
from ringi_workers.evaluation.reach import Pace, reach_of
from ringi_workers.evaluation.rendering import asked_digest, prepare
from ringi_workers.evaluation.scoring import UnknownScorer, resolved
from support.tiny_model import make_tiny_tokenizer, tiny_rows
from support.tiny_shapes import WINDOW, tiny_shape

TOKENIZER = make_tiny_tokenizer()
CHOICES = ("red cat", "red lamp", "red", "赤い猫", "赤い灯り", "a golden bridge over the river", "x")
SCORERS = ("accuracy", "accuracy_norm", "accuracy_chars")


def _task(answering: Answering = Answering.CHOICE, **changes: Any) -> Task:
    named = {"name": "shelf", "answering": answering, "items": "sha256:" + "0" * 64, "count": 1, "choices": CHOICES}
    return Task.model_validate(named | {"scorers": tuple(ScorerSpec(name=name) for name in SCORERS)} | changes)


def _items(count: int = 9) -> list[Item]:
    """Prompts of several lengths; the last asks what the first does."""
    items = [
        Item(id=f"item{n}", prompt=row["prompt"] * (1 + n % 3), answer=n % 7, tags={"kind": "x"}) for n, row in enumerate(tiny_rows(count))
    ]
    return [*items, items[0].model_copy(update={"id": "again", "answer": 3})]


def _ask(model: Any, task: Task, items: Sequence[Item], *, batch_size: int = 4) -> Pass:
    prepared = prepare(TOKENIZER, task, items, context=512)
    stop = frozenset({TOKENIZER.eos_token_id})
    return ask(
        model, TOKENIZER, prepared, reach=reach_of(model), stop_tokens=stop, batch_size=batch_size, scorers=resolved(task.scorers)
    )  # fmt: skip


def _alone(model: Any, task: Task, item: Item) -> list[float]:
    """Sum over each choice's tokens, by one plain pass a choice."""
    (rendered,) = prepare(TOKENIZER, task, [item], context=512).items
    sums = []
    for branch in rendered.branches:
        ids = torch.tensor([[*rendered.prompt, *branch]])
        with torch.inference_mode():
            logprobs = model(input_ids=ids).logits.float().log_softmax(dim=-1)[0, len(rendered.prompt) - 1 : -1]
        sums.append(float(logprobs.gather(1, torch.tensor(branch).unsqueeze(1)).sum()))
    return sums


def _assert_equals_one_by_one(model: Any, task: Task, items: Sequence[Item], answers: Sequence[Answer]) -> None:
    for item, answer in zip(items, answers, strict=True):
        sums = _alone(model, task, item)
        assert answer.logprobs == pytest.approx(sums, abs=1e-3)
        assert answer.choice == sums.index(max(sums))
        assert answer.output == CHOICES[sums.index(max(sums))]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("shape", ["llama", "qwen3", "gpt2"])
def test_a_tree_of_choices_equals_one_text_at_a_time(shape: str, attention: str) -> None:
    model = tiny_shape(shape, attention=attention)
    found = _ask(model, _task(), _items())
    assert found.operations.scoring == ("tree",)
    _assert_equals_one_by_one(model, _task(), _items(), found.answers)


@pytest.mark.parametrize("shape", ["mistral", "gemma3"])
def test_attention_with_a_window_reads_a_tree_within_it_and_rows_beyond_it(shape: str) -> None:
    model = tiny_shape(shape)
    short = [Item(id="short", prompt="x")]
    task = _task(render="raw", choices=("red cat", "red"))
    within, beyond = _ask(model, task, short), _ask(model, _task(), _items())
    assert within.operations.scoring == ("tree",)
    assert beyond.operations.scoring == ("cached",)
    assert max(answer.prompt_tokens for answer in beyond.answers) > WINDOW
    assert within.answers[0].logprobs == pytest.approx(_alone(model, task, short[0]), abs=1e-3)
    _assert_equals_one_by_one(model, _task(), _items(), beyond.answers)


@pytest.mark.parametrize(("shape", "way"), [("bloom", Way.CACHED), ("lfm2", Way.PLAIN), ("mamba", Way.PLAIN)])
def test_a_model_that_reads_no_tree_is_noticed_and_scored_rightly_all_the_same(shape: str, way: Way) -> None:
    model = tiny_shape(shape, attention="eager" if shape == "bloom" else None)
    found = _ask(model, _task(), _items(5))
    assert found.operations.scoring == (way.value,)
    _assert_equals_one_by_one(model, _task(), _items(5), found.answers)


def test_the_batch_size_changes_no_answer() -> None:
    model = tiny_shape("llama")
    one, *others = [_ask(model, _task(), _items(), batch_size=size).answers for size in (1, 2, 3, 7, 64)]
    for other in others:
        for first, second in zip(one, other, strict=True):
            assert second.logprobs == pytest.approx(first.logprobs, abs=1e-4)
            assert (second.choice, second.scores, second.choice_tokens) == (first.choice, first.scores, first.choice_tokens)


def test_the_same_pass_twice_is_equal_bit_for_bit() -> None:
    model = tiny_shape("llama")
    first, second = (_ask(model, _task(), _items()).answers for _ in range(2))
    assert [answer.logprobs for answer in first] == [answer.logprobs for answer in second]


def test_items_that_ask_the_same_are_read_once_and_judged_each_by_its_own_answer() -> None:
    found = {answer.item: answer for answer in _ask(tiny_shape("llama"), _task(), _items()).answers}
    first, again = found["item0"], found["again"]
    assert first.logprobs == again.logprobs
    assert first.asked != again.asked, "the right answer is part of what is asked"
    assert [answer.item for answer in _ask(tiny_shape("llama"), _task(), _items()).answers] == [item.id for item in _items()]


def test_a_tree_shares_the_tokens_that_choices_begin_with() -> None:
    tree = tree_of(((1, 2, 3), (1, 2, 4), (1, 5), (6,)))
    assert (tree.tokens, tree.depths) == ((1, 2), (0, 1))
    assert tree.predictors == ((0, 1, 2), (0, 1, 2), (0, 1), (0,))
    assert tree.sees.tolist() == [[True, False], [True, True]]


def test_a_question_with_more_branches_than_fit_a_pass_comes_in_parts_and_nothing_is_lost() -> None:
    questions = [Question((1,) * length, tuple((number, 2, 3) for number in range(50))) for length in (3, 5, 4)]
    parts = [part for batch in batches(questions, batch_size=4, vocabulary=2**20) for part in batch]
    assert len(parts) > 3
    assert sorted((number, place) for number, places in parts for place in places) == [(n, k) for n in range(3) for k in range(50)]


def test_a_choice_is_tokenised_behind_its_prompt_as_the_harness_does() -> None:
    """White space at the prompt's end belongs to the continuation, and the rest is what the whole text has beyond the prompt's tokens."""
    task = _task(render="raw", choices=("cat", "lamp"))
    (rendered,) = prepare(TOKENIZER, task, [Item(id="a", prompt="What is on shelf 1? ")], context=512).items
    (delimited,) = prepare(
        TOKENIZER, task.model_copy(update={"delimiter": " "}), [Item(id="a", prompt="What is on shelf 1?")], context=512
    ).items
    prompt = tuple(TOKENIZER("What is on shelf 1?")["input_ids"])
    assert rendered.prompt == delimited.prompt == prompt
    assert rendered.branches == delimited.branches
    whole = tuple(TOKENIZER("What is on shelf 1? lamp")["input_ids"])
    assert prompt + rendered.branches[1] == whole


def test_the_chat_template_is_the_bases_with_system_text_and_turns() -> None:
    turns = (Message(role="user", content="一"), Message(role="assistant", content="二"))
    task = _task(system="Answer in one word.")
    (rendered,) = prepare(TOKENIZER, task, [Item(id="a", messages=turns, prompt="三")], context=512).items
    said = TOKENIZER.decode(list(rendered.prompt))
    assert said == (
        "<|start|>system\nAnswer in one word.<|end|>\n<|start|>user\n一<|end|>\n<|start|>assistant\n二<|end|>\n<|start|>user\n三<|end|>\n"
        "<|start|>assistant"
    )
    assert TOKENIZER.decode(list(rendered.branches[0])) == "\nred cat"


def test_what_cannot_be_asked_says_why_and_holds_up_nothing() -> None:
    items = [
        Item(id="nothing"),
        Item(id="long", prompt="shelf " * 200),
        Item(id="empty", prompt="x", choices=("a", "")),
        Item(id="far", prompt="x", answer=7),
        Item(id="wide", prompt="x", choices=("a", "cat " * 200)),
        Item(id="none", prompt="x", choices=()),
        Item(id="good", prompt="x", choices=("a", "b"), answer=0),
    ]
    found = _ask(tiny_shape("llama"), _task(choices=(), max_length=64), items)
    problems = {answer.item: answer.problem for answer in found.answers}
    # Of an item without choices it is not said that its answer is out of range.
    assert problems == {
        "nothing": Problem.NOTHING_ASKED, "long": Problem.NO_CHOICES, "empty": Problem.CHOICE_WITHOUT_TOKENS, "far": Problem.NO_CHOICES,
        "wide": Problem.CHOICE_TOO_LONG, "none": Problem.NO_CHOICES, "good": None,
    }  # fmt: skip
    for answer in found.answers[:-1]:
        assert set(answer.scores.values()) == {None}
        assert (answer.logprobs, answer.output, answer.seconds) == ((), None, None)
    assert set(found.answers[-1].scores.values()) <= {0.0, 1.0}
    (far, long) = _ask(tiny_shape("llama"), _task(max_length=64), [items[3], items[1]]).answers
    assert (far.problem, long.problem) == (Problem.ANSWER_OUT_OF_RANGE, Problem.PROMPT_TOO_LONG)


def test_without_a_chat_template_there_is_no_chat() -> None:
    tokenizer = make_tiny_tokenizer(chat_template=False)
    (rendered,) = prepare(tokenizer, _task(), [Item(id="a", prompt="x")], context=512).items
    assert rendered.problem is Problem.NO_CHAT_TEMPLATE
    refusing = make_tiny_tokenizer()
    refusing.chat_template = "{{ raise_exception('System role not supported') }}"
    (rendered,) = prepare(refusing, _task(), [Item(id="a", prompt="x")], context=512).items
    assert rendered.problem is Problem.CHAT_TEMPLATE_REFUSED


def test_a_likelihood_that_is_no_number_is_no_likelihood() -> None:
    model = tiny_shape("llama")
    with torch.no_grad():
        model.lm_head.weight[5] = math.nan
    found = _ask(model, _task(), _items(2))
    assert {answer.problem for answer in found.answers} == {Problem.LIKELIHOOD_NOT_FINITE}
    assert all(answer.scores == dict.fromkeys(SCORERS) for answer in found.answers)


def test_scores_are_by_sum_by_token_and_by_character() -> None:
    answer = Answer(item="a", asked="sha256:" + "0" * 64, logprobs=(-4.0, -6.0, -5.0), choice_tokens=(1, 4, 2))
    scorers = resolved(tuple(ScorerSpec(name=name) for name in SCORERS))
    right = {
        name: [scorer(Item(id="a", choices=("ab", "abcd", "abcdefgh"), answer=place), answer) for place in range(3)]
        for name, scorer in scorers.items()
    }
    assert right == {"accuracy": [1, 0, 0], "accuracy_norm": [0, 1, 0], "accuracy_chars": [0, 0, 1]}
    assert scorers["accuracy"](Item(id="a"), answer) is None


def test_a_scorer_that_fails_spoils_only_its_own_score() -> None:
    def crashing(_item: Item, _answer: Answer) -> float:
        raise ZeroDivisionError

    others = {"crash": crashing, "nan": lambda _item, _answer: math.nan, "half": lambda _item, _answer: 0.5}
    specs = tuple(ScorerSpec(name=name, label=f"my {name}") for name in others)
    scorers = resolved(specs, lambda spec: others.get(spec.name))
    prepared = prepare(TOKENIZER, _task(), _items(1)[:1], context=512)
    model = tiny_shape("llama")
    (answer,) = ask(
        model, TOKENIZER, prepared, reach=reach_of(model), stop_tokens=frozenset(), batch_size=1, scorers=scorers
    ).answers  # fmt: skip
    assert answer.scores == {"my crash": None, "my nan": None, "my half": 0.5}
    assert answer.problem == Problem.SCORER_FAILED
    with pytest.raises(UnknownScorer, match="telepathy"):
        resolved((ScorerSpec(name="telepathy"),), lambda _spec: None)


def test_what_was_asked_is_named_without_tags_and_with_how_it_was_rendered() -> None:
    item = Item(id="a", prompt="x", answer=0)
    same = item.model_copy(update={"tags": {"language": "ja"}, "source": "document 7"})
    assert asked_digest(_task(), item) == asked_digest(_task(), same)
    others = [item.model_copy(update=change) for change in ({"prompt": "y"}, {"answer": 1}, {"choices": ("a",)})]
    digests = {asked_digest(_task(), one) for one in (item, *others)} | {
        asked_digest(_task(system="s"), item),
        asked_digest(_task(render="raw"), item),
    }
    assert len(digests) == 6


def test_what_is_rendered_as_the_base_can_is_named_by_how_it_was() -> None:
    bare = make_tiny_tokenizer(chat_template=False)
    item = Item(id="a", prompt="赤い猫はどこですか。", answer=0)
    made = {
        (render, tokenizer is bare): prepare(tokenizer, _task(render=render), [item], context=512).items[0]
        for render in ("auto", "chat", "raw")
        for tokenizer in (TOKENIZER, bare)
    }
    assert made["auto", False] == made["chat", False]
    assert made["auto", True] == made["raw", True]
    # Two questions, under two names.
    assert made["auto", False].prompt != made["auto", True].prompt
    assert made["auto", False].asked != made["auto", True].asked
    assert made["raw", False].asked == made["raw", True].asked
    assert made["chat", True].problem == Problem.NO_CHAT_TEMPLATE
    assert made["chat", True].asked == made["chat", False].asked == asked_digest(_task(), item.model_copy(update={"choices": CHOICES}))


def test_a_pass_says_how_it_behaved() -> None:
    operations: Operations = _ask(tiny_shape("llama"), _task(), _items()).operations
    assert (operations.items, operations.output_tokens, operations.tokens_per_s, operations.first_token_s) == (10, 0, None, None)
    assert operations.prompt_tokens > 100
    assert operations.item_p50_s is not None
    assert operations.item_p95_s is not None
    assert 0 < operations.item_p50_s <= operations.item_p95_s <= operations.seconds
    assert operations.peak_memory_bytes is not None
    assert operations.peak_memory_bytes > 50_000_000


@pytest.mark.parametrize("shape", ["llama", "mistral", "gemma3", "gpt2"])
def test_an_ordinary_model_is_taken_for_one(shape: str) -> None:
    reach = reach_of(tiny_shape(shape))
    assert (reach.way, reach.pace) == (Way.TREE, Pace.BATCHED)
    assert reach.window == (WINDOW if shape in {"mistral", "gemma3"} else None)
