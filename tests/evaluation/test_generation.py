"""Generated answers: the same as the library's own one by one, for any batch size; stop strings, drawn texts and their seeds."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from ringi.jobs.contracts.suites import Answer, Answering, Decoding, Item, Problem, Task
from ringi_workers.evaluation.ask import ask
from ringi_workers.evaluation.generation import cut, drawn
from ringi_workers.evaluation.reach import Pace, reach_of
from ringi_workers.evaluation.rendering import prepare
from support.tiny_model import make_tiny_tokenizer, tiny_rows
from support.tiny_shapes import tiny_shape

TOKENIZER = make_tiny_tokenizer()
STOP = frozenset({TOKENIZER.eos_token_id})


def _task(**decoding: Any) -> Task:
    settings = Decoding(**({"max_new_tokens": 12} | decoding))
    return Task(name="shelf", answering=Answering.GENERATE, items="sha256:" + "0" * 64, count=1, scorers=(), decoding=settings)


def _items(count: int = 8) -> list[Item]:
    return [Item(id=f"item{n}", prompt=row["prompt"] * (1 + n % 3)) for n, row in enumerate(tiny_rows(count))]


def _answers(model: Any, task: Task, items: Sequence[Item], *, batch_size: int = 3) -> tuple[Answer, ...]:
    prepared = prepare(TOKENIZER, task, items, context=512)
    return ask(model, TOKENIZER, prepared, reach=reach_of(model), stop_tokens=STOP, batch_size=batch_size, scorers={}).answers


def _library(model: Any, task: Task, item: Item) -> list[int]:
    """New tokens of the library's greedy generation, without the end token."""
    (rendered,) = prepare(TOKENIZER, task, [item], context=512).items
    ids = torch.tensor([rendered.prompt])
    made: list[int] = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=task.decoding.max_new_tokens, do_sample=False,
        eos_token_id=TOKENIZER.eos_token_id, pad_token_id=TOKENIZER.pad_token_id,
    )[0, len(rendered.prompt) :].tolist()  # fmt: skip
    return made[:-1] if made and made[-1] in STOP else made


@pytest.mark.parametrize("shape", ["llama", "mistral", "gpt2", "lfm2"])
def test_greedy_answers_are_those_of_the_library_one_by_one_for_any_batch_size(shape: str) -> None:
    model = tiny_shape(shape)
    expected = [_library(model, _task(), item) for item in _items()]
    for batch_size in (1, 3, 64):
        answers = _answers(model, _task(), _items(), batch_size=batch_size)
        assert [answer.output for answer in answers] == [TOKENIZER.decode(tokens, skip_special_tokens=True) for tokens in expected]
        assert [answer.output_tokens for answer in answers] == [len(tokens) for tokens in expected]


def test_a_model_that_keeps_a_state_beside_its_keys_generates_one_text_at_a_time() -> None:
    assert reach_of(tiny_shape("lfm2")).pace is Pace.STEPPED
    assert reach_of(tiny_shape("mamba")).pace is Pace.REREAD
    model = tiny_shape("mamba")
    (answer,) = _answers(model, _task(max_new_tokens=4), _items(1))
    ids = list(prepare(TOKENIZER, _task(), _items(1), context=512).items[0].prompt)
    for _ in range(4):
        with torch.inference_mode():
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    assert answer.output == TOKENIZER.decode(ids[-4:], skip_special_tokens=True)


def test_a_stop_string_ends_a_text_and_is_cut_off_also_where_it_spans_tokens() -> None:
    model = tiny_shape("llama")
    whole = _answers(model, _task(), _items())
    found = 0
    for item, answer in zip(_items(), whole, strict=True):
        text = str(answer.output)
        pieces = [str(TOKENIZER.decode([token])) for token in _library(model, _task(), item)]
        # The end of one token and the beginning of the next.
        stop = next((one[-1] + two[:1] for one, two in itertools.pairwise(pieces[3:]) if "\ufffd" not in one + two), None)
        if stop is None or stop not in text:
            continue
        (stopped,) = _answers(model, _task(stop=("never said", stop)), [item])
        assert stopped.output == text[: text.index(stop)]
        assert stopped.output_tokens <= answer.output_tokens
        found += 1
    assert found >= 3


def test_the_first_stop_string_in_the_text_counts() -> None:
    assert cut("a\nb. c", (".", "\n")) == "a"
    assert cut("はい。棚", ("。",)) == "はい"
    assert cut("as it is", ("", "x")) == "as it is"


def test_a_drawn_text_depends_on_its_item_its_repeat_and_the_seed_and_not_on_its_batch() -> None:
    model = tiny_shape("llama")
    task = _task(temperature=0.9, top_p=0.95, repeats=3, seed=7)
    first = _answers(model, task, _items(), batch_size=1)
    for batch_size in (4, 64):
        assert [one.outputs for one in _answers(model, task, _items()[::-1], batch_size=batch_size)] == [one.outputs for one in first[::-1]]
    assert all(len(answer.outputs) == 3 and answer.output == answer.outputs[0] for answer in first)
    assert all(len(set(answer.outputs)) > 1 for answer in first)
    assert (
        first[0].output_tokens
        > _answers(model, task.model_copy(update={"decoding": Decoding(max_new_tokens=12)}), _items())[0].output_tokens
    )
    other = _answers(model, _task(temperature=0.9, top_p=0.95, repeats=3, seed=8), _items())
    assert [one.outputs for one in other] != [one.outputs for one in first]
    twins = [Item(id=name, prompt="What is on shelf 1?") for name in ("one", "two")]
    one, two = _answers(model, task, twins)
    assert one.outputs != two.outputs


def test_draws_follow_the_distribution_within_the_nucleus() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().repeat(4000, 1)
    uniforms = [(number + 0.5) / 4000 for number in range(4000)]
    counts = drawn(logits, uniforms, temperature=1.0, top_p=1.0).bincount(minlength=4)
    assert counts.tolist() == pytest.approx([2000, 1200, 600, 200], abs=1)
    nucleus = drawn(logits, uniforms, temperature=1.0, top_p=0.6).bincount(minlength=4)
    assert nucleus.tolist() == pytest.approx([2500, 1500, 0, 0], abs=1)
    assert set(drawn(logits, uniforms, temperature=1.0, top_p=1e-9).tolist()) == {0}
    assert set(drawn(logits, uniforms, temperature=0.01, top_p=1.0).tolist()) == {0}


def test_logits_that_are_no_numbers_are_no_text() -> None:
    model = tiny_shape("llama")
    with torch.no_grad():
        model.lm_head.weight[5] = float("nan")
    for task in (_task(), _task(temperature=1.0)):
        assert {answer.problem for answer in _answers(model, task, _items(2))} == {Problem.OUTPUT_NOT_FINITE}


def test_a_prompt_that_leaves_no_room_for_its_answer_is_too_long() -> None:
    model = tiny_shape("llama")
    fits, too_long = _items(2)
    (one,) = prepare(TOKENIZER, _task(), [fits], context=512).items
    room = 512 - len(one.prompt)
    prepared = prepare(TOKENIZER, _task(max_new_tokens=room), [fits, too_long], context=512)
    assert [one.problem for one in prepared.items] == [None, Problem.PROMPT_TOO_LONG]
    assert _answers(model, _task(), [fits])[0].problem is None


def test_generation_says_how_fast_it_was() -> None:
    model = tiny_shape("llama")
    prepared = prepare(TOKENIZER, _task(), _items(), context=512)
    found = ask(model, TOKENIZER, prepared, reach=reach_of(model), stop_tokens=STOP, batch_size=3, scorers={})
    operations = found.operations
    assert operations.output_tokens == sum(answer.output_tokens for answer in found.answers)
    assert operations.tokens_per_s is not None
    assert operations.tokens_per_s == pytest.approx(operations.output_tokens / operations.seconds)
    assert operations.first_token_s is not None
    assert 0 < operations.first_token_s < operations.seconds
    assert operations.generation == "batched"
