"""One teacher-forced pass against real greedy generation, and likelihoods against plain passes."""

import math
from typing import Any

import pytest
import torch

from ringi.jobs.contracts.suites import Answer, Answering, Decoding, Item, Problem, ScorerSpec, Task
from ringi_workers.evaluation.ask import ask
from ringi_workers.evaluation.reach import reach_of
from ringi_workers.evaluation.rendering import prepare
from ringi_workers.evaluation.scoring import resolved
from support.tiny_model import make_tiny_tokenizer, tiny_rows
from support.tiny_shapes import tiny_shape

TOKENIZER = make_tiny_tokenizer()
STOP = frozenset({TOKENIZER.eos_token_id})


def _task(answering: Answering, **changes: Any) -> Task:
    named = {"name": "shelf", "answering": answering, "items": "sha256:" + "0" * 64, "count": 1, "scorers": ()}
    return Task.model_validate(named | {"decoding": Decoding(max_new_tokens=64)} | changes)


def _answers(model: Any, task: Task, items: list[Item], *, batch_size: int = 3) -> tuple[Answer, ...]:
    prepared = prepare(TOKENIZER, task, items, context=512)
    scorers = resolved((ScorerSpec(name="exact"), ScorerSpec(name="nll")))
    return ask(model, TOKENIZER, prepared, reach=reach_of(model), stop_tokens=STOP, batch_size=batch_size, scorers=scorers).answers


def _trained(rows: list[dict[str, str]]) -> Any:
    """A model that knows most of the rows by heart: its answers end, and some are right."""
    model = tiny_shape("llama", seed=2)
    (texts, heads) = ([], [])
    for row in rows:
        task = _task(Answering.EXACT)
        (one,) = prepare(TOKENIZER, task, [Item(id="a", prompt=row["prompt"], references=(row["completion"],))], context=512).items
        texts.append([*one.prompt, *one.branches[0]])
        heads.append(len(one.prompt))
    width = max(map(len, texts))
    ids = torch.tensor([text + [0] * (width - len(text)) for text in texts])
    labels = torch.tensor([[-100] * head + text[head:] + [-100] * (width - len(text)) for text, head in zip(texts, heads, strict=True)])
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = model(input_ids=ids, labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


def test_exact_says_what_greedy_generation_would_have_given() -> None:
    rows = tiny_rows(12, seed=4)
    model = _trained(rows[:8])
    prompts = [Item(id=f"item{n}", prompt=row["prompt"]) for n, row in enumerate(rows)]
    texts = [str(answer.output) for answer in _answers(model, _task(Answering.GENERATE), prompts)]
    right = [text == row["completion"] for text, row in zip(texts, rows, strict=True)]
    assert {True, False} <= set(right), "the test needs answers of both kinds"
    asked = [item.model_copy(update={"references": (row["completion"],)}) for item, row in zip(prompts, rows, strict=True)]
    for batch_size in (1, 5):
        found = _answers(model, _task(Answering.EXACT), asked, batch_size=batch_size)
        assert [answer.exact for answer in found] == right
        assert [answer.scores["exact"] for answer in found] == [float(one) for one in right]
    # The end belongs to it: the beginning of a right answer is none.
    number = right.index(True)
    part = asked[number].model_copy(update={"references": (rows[number]["completion"][:-6],)})
    assert _answers(model, _task(Answering.EXACT), [part])[0].exact is False


@pytest.mark.parametrize("render", ["chat", "raw"])
@pytest.mark.parametrize("shape", ["llama", "mistral", "lfm2"])
def test_a_likelihood_equals_a_plain_pass_for_any_batch_size(shape: str, render: str) -> None:
    model = tiny_shape(shape)
    rows = tiny_rows(7)
    items = [Item(id=f"item{n}", prompt=row["prompt"], references=(row["completion"], "other")) for n, row in enumerate(rows)]
    task = _task(Answering.LIKELIHOOD, render=render, delimiter=" ")
    expected = []
    for one in prepare(TOKENIZER, task, items, context=512).items:
        ids = torch.tensor([[*one.prompt, *one.branches[0]]])
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, len(one.prompt) - 1 : -1].float()
        expected.append(float(torch.nn.functional.cross_entropy(logits, torch.tensor(one.branches[0]))))
    for batch_size in (1, 4, 32):
        found = _answers(model, task, items, batch_size=batch_size)
        assert [answer.nll for answer in found] == pytest.approx(expected, abs=1e-4)
    assert found[0].output_tokens == len(prepare(TOKENIZER, task, items, context=512).items[0].branches[0])
    assert found[0].scores == {"exact": None, "nll": found[0].nll}


def test_the_likelihood_of_a_text_that_nothing_stands_before_begins_behind_a_begin_token() -> None:
    task = _task(Answering.LIKELIHOOD, render="raw")
    (one,) = prepare(TOKENIZER, task, [Item(id="a", prompt="", references=("Yes, on that shelf",))], context=512).items
    assert one.prompt == (TOKENIZER.bos_token_id,)
    assert TOKENIZER.decode(list(one.branches[0])) == "Yes, on that shelf"
    answer = _answers(tiny_shape("llama"), task, [one.item])[0]
    assert answer.nll is not None
    assert math.isfinite(math.exp(answer.nll))


def test_references_that_are_missing_empty_or_too_long_say_so() -> None:
    items = [
        Item(id="none", prompt="x"),
        Item(id="empty", prompt="x", references=("",)),
        Item(id="long", prompt="x", references=("shelf " * 100,)),
        Item(id="behind", prompt="shelf " * 34, references=("shelf " * 34,)),
        Item(id="good", prompt="x", references=("y",)),
    ]
    for answering in (Answering.EXACT, Answering.LIKELIHOOD):
        found = _answers(tiny_shape("llama"), _task(answering, max_length=64, render="raw"), items)
        assert [answer.problem for answer in found] == [
            Problem.NO_REFERENCE, Problem.REFERENCE_WITHOUT_TOKENS, Problem.REFERENCE_TOO_LONG, Problem.PROMPT_TOO_LONG, None,
        ]  # fmt: skip
        assert [answer.nll is None for answer in found] == [True, True, True, True, False]
