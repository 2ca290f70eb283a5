"""Every code of the preflight: when it is found, how grave it is, and that what could not be looked at is said."""

import json
from typing import Any

import pytest

from ringi.jobs.contracts.base_models import BaseFacts
from ringi.jobs.contracts.datasets import DatasetReport, RowFormat
from ringi.jobs.contracts.training import Gravity
from ringi.preflight.checks import Facts, WorkerMemory, examine
from ringi.preflight.labels import LabelCounts, alike, counted
from ringi.preflight.lengths import SAMPLE, Lengths, every_nth, measure
from ringi.preflight.memory import memory_of, snapshot_bytes
from ringi.preflight.schemas import Gpu, Memory, Trained, Workload
from ringi.preflight.shapes import shape_of
from support.tiny_model import make_tiny_tokenizer

LLAMA: dict[str, Any] = {"model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
                         "num_attention_heads": 4, "max_position_embeddings": 512}  # fmt: skip
SHAPE, WORK = shape_of(LLAMA), Workload(batch_size=8, max_length=128)
NEEDS = memory_of(SHAPE, WORK)
FULL = WORK.model_copy(update={"method": Trained.FULL, "snapshot_every": 5})
BASE = BaseFacts(model_type="llama", architectures=(), parameters=1, tensors=1, weight_bytes=2, dtypes=("F32",), hidden_size=64, layers=2,
                 vocab_size=512, tokenizer_class=None, tokenizer_vocab_size=512, chat_template=True)  # fmt: skip
REPORT = DatasetReport(rows=120, unique_pairs=120, empty_rows=0, duplicate_rows=0, duplicated_pairs=0, conflicting_prompts=0, leakage_prevented=0,
                       train_rows=100, validation_rows=20, characters=9, categories={}, examples={})  # fmt: skip
LENGTHS = Lengths((20, 30, 40), (5, 6, 7), 0)
CLASSES, LABELS = WORK.model_copy(update={"classes": 2}), LabelCounts({"返金": 60, "解約": 40}, {"返金": 20}, 0)
ENCODER = shape_of({"model_type": "bert", "num_labels": 2})
GOOD = Facts(
    work=WORK, shape=SHAPE, why_unknown="", modules=frozenset(), base=BASE, report=REPORT, licence="CC-BY-4.0", lengths=LENGTHS,
    workers=(WorkerMemory("gpu1", 2**40, NEEDS),),
)  # fmt: skip


def found(**changes: Any) -> dict[str, Gravity]:
    return {one.code: one.gravity for one in examine(Facts(**vars(GOOD) | changes))}


def report(**changes: int) -> DatasetReport:
    return REPORT.model_copy(update=changes)


def has(size: int, needs: Memory | None = NEEDS) -> tuple[WorkerMemory, ...]:
    return (WorkerMemory("small", size // 2, needs), WorkerMemory("gpu1", size, needs))


def test_a_good_run_has_no_finding() -> None:
    assert found() == {}


def test_a_rank_of_its_own_for_a_target_is_no_finding() -> None:
    assert found(patterns=frozenset({"down_proj", "model.layers.0.self_attn.q_proj"})) == {}


def test_full_fine_tuning_has_no_targets_to_match_and_says_what_its_snapshots_take() -> None:
    assert found(work=FULL.model_copy(update={"snapshot_every": 10_000})) == {}
    assert "preflight_targets_not_checked" not in found(work=FULL, shape=None)
    # Three epochs of 13 steps; after the last step there is no snapshot.
    (told,) = examine(Facts(**vars(GOOD) | {"work": FULL}))
    assert "7 snapshots" in told.message
    best = FULL.model_copy(update={"keeps_best": True})
    assert (snapshot_bytes(FULL, 10), snapshot_bytes(best, 10)) == (120, 160)
    on_cpu = [memory_of(SHAPE, one, device=Gpu.CPU).total for one in (FULL, best)]
    assert on_cpu[1] - on_cpu[0] == 4 * SHAPE.parameters


@pytest.mark.parametrize(
    ("changes", "code", "gravity"),
    [
        ({"shape": None, "why_unknown": "no."}, "preflight_shape_unknown", Gravity.NOT_MEASURED),
        ({"work": WORK.model_copy(update={"target_modules": ["q_proj", "w_pack"]})}, "preflight_target_unmatched", Gravity.REFUSE),
        ({"shape": None, "modules": frozenset({"h.0.attn"})} | {"work": WORK.model_copy(update={"target_modules": ["q_proj"]})},
         "preflight_target_unmatched", Gravity.REFUSE),
        ({"shape": None}, "preflight_targets_not_checked", Gravity.NOT_MEASURED),
        ({"workers": ()}, "preflight_memory_not_compared", Gravity.NOT_MEASURED),
        ({"workers": has(2**30, None)}, "preflight_memory_not_compared", Gravity.NOT_MEASURED),
        ({"workers": has(NEEDS.least - 1)}, "preflight_memory", Gravity.REFUSE),
        ({"workers": has(NEEDS.least - 1), "lengths": None}, "preflight_memory", Gravity.REFUSE),
        ({"workers": has(NEEDS.total - 1)}, "preflight_memory_tight", Gravity.WARN),
        ({"report": report(train_rows=7)}, "preflight_batch_exceeds_rows", Gravity.WARN),
        ({"work": WORK.model_copy(update={"max_length": 513})}, "preflight_context_exceeded", Gravity.WARN),
        ({"work": WORK.model_copy(update={"max_length": 1025, "target_modules": ["c_attn"]}), "shape": shape_of({"model_type": "gpt2"})},
         "preflight_context_exceeded", Gravity.REFUSE),
        ({"licence": None}, "preflight_no_licence", Gravity.WARN),
        ({"patterns": frozenset({"nothing"})}, "preflight_pattern_unmatched", Gravity.REFUSE),
        ({"patterns": frozenset({"nothing"}), "shape": None, "modules": frozenset({"h.0.c_attn"})}, "preflight_pattern_unmatched", Gravity.REFUSE),
        (
            {"patterns": frozenset({"down_proj"}), "work": WORK.model_copy(update={"target_modules": ["q_proj"]})},
            "preflight_pattern_unmatched", Gravity.REFUSE,
        ),
        ({"report": report(validation_rows=0)}, "preflight_no_validation_rows", Gravity.WARN),
        ({"report": report(duplicate_rows=3)}, "preflight_duplicates", Gravity.WARN),
        ({"report": report(conflicting_prompts=3)}, "preflight_conflicting_prompts", Gravity.WARN),
        ({"report": report(leakage_prevented=3)}, "preflight_leakage_prevented", Gravity.WARN),
        ({"report": report(near_leaks=3)}, "preflight_near_leakage", Gravity.WARN),
        ({"lengths": None}, "preflight_lengths_not_measured", Gravity.NOT_MEASURED),
        ({"lengths": Lengths((20, 30), (5, 0), 0)}, "preflight_no_label_left", Gravity.WARN),
        ({"lengths": Lengths((20, 30), (0, 0), 0)}, "preflight_no_label_left", Gravity.REFUSE),
        ({"lengths": Lengths((20, 129), (5, 6), 0)}, "preflight_rows_truncated", Gravity.WARN),
        ({"work": FULL}, "preflight_large_snapshots", Gravity.WARN),
        ({"base": BASE.model_copy(update={"chat_template": False}), "lengths": Lengths((20,), (5,), 1)}, "preflight_no_chat_template", Gravity.REFUSE),
        ({"base": BASE.model_copy(update={"tokenizer_vocab_size": None})}, "preflight_tokenizer_unknown", Gravity.NOT_MEASURED),
        ({"base": BASE.model_copy(update={"tokenizer_vocab_size": 513})}, "preflight_tokenizer_mismatch", Gravity.REFUSE),
        ({"shape": ENCODER}, "preflight_base_is_encoder", Gravity.REFUSE),
        ({"work": CLASSES}, "preflight_labels_not_measured", Gravity.NOT_MEASURED),
        ({"work": CLASSES, "labels": LABELS._replace(unlabelled=1)}, "preflight_rows_without_label", Gravity.REFUSE),
        ({"work": CLASSES, "labels": LABELS._replace(train={"返金": 100})}, "preflight_one_label", Gravity.REFUSE),
        ({"work": CLASSES, "labels": LABELS._replace(train={str(number): 1 for number in range(1025)})}, "preflight_too_many_labels", Gravity.REFUSE),
        ({"work": CLASSES, "labels": LABELS, "known_labels": ("苦情", "返金")}, "preflight_labels_unknown", Gravity.REFUSE),
        ({"work": CLASSES, "labels": LABELS._replace(validation={"苦情": 3})}, "preflight_labels_only_in_validation", Gravity.WARN),
        ({"work": CLASSES, "labels": LABELS._replace(train={"ＦＡＱ": 3, "faq ": 97})}, "preflight_labels_alike", Gravity.WARN),
    ],
)  # fmt: skip
def test_each_code_has_its_cause(changes: dict[str, Any], code: str, gravity: Gravity) -> None:
    assert found(**changes).get(code) is gravity
    assert code not in found()


def test_rows_of_one_label_are_enough_for_a_version_that_knows_more() -> None:
    one = LABELS._replace(train={"返金": 100}, validation={"解約": 3})
    assert "preflight_one_label" in found(work=CLASSES, labels=one)
    assert found(work=CLASSES, labels=one, known_labels=("解約", "返金")) == {}


def test_of_documents_it_is_said_that_they_are_documents_and_a_classifier_over_them_is_told_that_once() -> None:
    documents = REPORT.model_copy(update={"row_format": RowFormat.DOCUMENTS})
    (told,) = examine(Facts(**vars(GOOD) | {"report": documents, "lengths": None}))
    assert told.code == "preflight_lengths_not_measured"
    assert "documents are not looked at here" in told.message
    assert "tokenizer" not in told.message
    unlabelled = LABELS._replace(train={}, validation={}, unlabelled=100)
    assert found(work=CLASSES, report=documents, lengths=None, labels=unlabelled) == {"preflight_rows_without_label": Gravity.REFUSE}
    # Where rows have labels and cannot be measured, that is told.
    assert found(work=CLASSES, lengths=None, labels=LABELS) == {"preflight_lengths_not_measured": Gravity.NOT_MEASURED}


def test_an_answer_that_is_cut_is_told_beside_the_row_that_is() -> None:
    assert found(lengths=Lengths((140,), (130,), 0)).keys() == {"preflight_rows_truncated", "preflight_answers_truncated"}


def test_no_more_tokens_are_advised_than_the_base_reads() -> None:
    def step(longest: int, max_length: int) -> str | None:
        work = WORK.model_copy(update={"max_length": max_length})
        facts = Facts(**vars(GOOD) | {"lengths": Lengths((longest,), (5,), 0), "work": work})
        return next(one.next_step for one in examine(facts) if one.code == "preflight_rows_truncated")

    context = SHAPE.context
    assert step(140, 128) == "Use --max-length 140, or shorten them."
    assert step(context * 10, 128) == f"Use --max-length {context}, or shorten them."
    assert step(context * 10, context) == "The base reads no more: shorten them."


def test_a_forecast_refuses_only_beyond_its_tolerance_and_only_where_the_rows_were_measured() -> None:
    large = memory_of(SHAPE, WORK.model_copy(update={"batch_size": 4096, "max_length": 512}))
    between = round(large.total * 0.80)
    assert between > large.least
    assert found(workers=has(between, large)) == {"preflight_memory": Gravity.REFUSE}
    unmeasured = found(workers=has(between, large), lengths=None)
    assert unmeasured["preflight_memory_tight"] is Gravity.WARN
    assert "preflight_memory" not in unmeasured
    assert found(workers=has(round(large.total * 0.9), large)) == {"preflight_memory_tight": Gravity.WARN}


def test_rows_are_measured_in_the_tokens_of_the_base_without_torch() -> None:
    tokenizer: Any = make_tiny_tokenizer()
    serialised = tokenizer.backend_tokenizer.to_str().encode()
    rows = [{"prompt": "What is on shelf 3?", "completion": "Yes, on that shelf there is a red cat."}, {"prompt": "何", "completion": ""}]
    lengths = measure(serialised, [json.dumps(row).encode() for row in rows])
    assert lengths is not None
    counted = [len(tokenizer(row[key], add_special_tokens=False)["input_ids"]) for row in rows for key in ("prompt", "completion")]
    assert lengths == Lengths((counted[0] + counted[1], counted[2]), (counted[1], 0), 0)
    assert (lengths.without_label, lengths.longest) == (1, counted[0] + counted[1])


def test_conversations_are_seen() -> None:
    tokenizer: Any = make_tiny_tokenizer()
    row = {"messages": [{"role": "user", "content": "What is on shelf 3?"}, {"role": "assistant", "content": "A cat."}]}
    lengths = measure(tokenizer.backend_tokenizer.to_str().encode(), [json.dumps(row).encode()])
    assert lengths is not None
    assert lengths.chats == 1
    assert lengths.answers[0] < lengths.totals[0]


@pytest.mark.parametrize("lines", [[], [b"{"], [b"[]"], [b'{"prompt": 1, "completion": "x"}'], [b'{"messages": []}']])
def test_rows_that_cannot_be_read_are_not_measured(lines: list[bytes]) -> None:
    tokenizer: Any = make_tiny_tokenizer()
    assert measure(tokenizer.backend_tokenizer.to_str().encode(), lines) is None
    assert measure(b"no tokenizer", [b'{"prompt": "a", "completion": "b"}']) is None


def test_a_sample_is_spread_over_all_rows() -> None:
    chosen = list(every_nth((str(number).encode() for number in range(4000)), rows=4000))
    assert len(chosen) == SAMPLE
    assert int(chosen[-1]) >= 3900


def test_a_classifier_on_an_encoder_or_a_language_model_is_a_good_run_without_a_question_about_label_tokens() -> None:
    for shape in (SHAPE.with_head_for(2), ENCODER.with_head_for(2)):
        work = CLASSES.model_copy(update={"target_modules": ["all-linear"]})
        assert found(work=work, shape=shape, labels=LABELS, lengths=LENGTHS.texts) == {}


def test_labels_are_counted_in_sealed_rows() -> None:
    rows = [{"prompt": "一", "completion": "返金"}, {"prompt": "二", "completion": "返金"}, {"text": "文書"}, {"messages": []}]
    lines = [json.dumps(row, ensure_ascii=False).encode() for row in rows]
    assert counted(lines, lines[:1]) == LabelCounts({"返金": 2}, {"返金": 1}, 2)
    assert counted([b"{"], []) is None
    assert alike(["ＦＡＱ", "faq", "返金", "返 金"]) == ["faq", "ＦＡＱ"]
