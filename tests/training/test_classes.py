"""Classifiers on every shape of base: they train, their head is sealed with what its classes mean, and the sealed files say the same to anybody who loads them."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from ringi.adapters.admission import refusals
from ringi.adapters.labels import AdapterLabelsMissing
from ringi.jobs.contracts.methods import Init, Method, Quantisation, TrainingTask
from ringi.jobs.contracts.training import LoraSpec
from ringi.kit.digests import sha256_file
from ringi.training.schemas import TrainingPlan
from ringi_workers.adapters.attach import AdapterShapeMismatch, adapter_facts
from ringi_workers.adapters.heads import BaseIncomplete, BaseIsEncoder, BaseWithoutClassifier
from ringi_workers.adapters.inspect import inspect_adapter, measure
from ringi_workers.evaluation.classify import load_class_arm
from ringi_workers.training.classes import LabelsUnfit, RowsWithoutLabel, UnknownLabels, ValidationLabelsUnknown
from ringi_workers.training.earlier import Earlier
from ringi_workers.training.recipe import TrainedAdapter
from ringi_workers.training.refusals import TrainingCancelled
from ringi_workers.training.search import TrialSink, planned_steps, train_until
from support.recipes import COMMIT, SPEC, FolderCheckpoints, Follower, run
from support.tiny_classes import ENCODERS, LABELS, SHAPES, class_rows, make_class_base, make_class_rows, make_tiny_encoder, write_rows
from support.tiny_model import make_tiny_rows
from support.tiny_shapes import make_tiny_shape
from training.method_matrix import CLASS_BEGIN, SHOWN_OF_CLASSES, cells, in_the_docs, table

pytestmark = pytest.mark.long

WEIGHTS, CONFIG, LABELLED = "adapter_model.safetensors", "adapter_config.json", "labels.json"
METHODS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True, "alpha": 6},
    "dora": {"method": Method.DORA},
    "lora_plus": {"lora_plus_ratio": 4.0, "learning_rate": 2e-3},
    "adalora": {"method": Method.ADALORA, "learning_rate": 3e-2},
    "ia3": {"method": Method.IA3, "learning_rate": 3e-2},
    "vera": {"method": Method.VERA, "rank": 64, "learning_rate": 0.05},
    "lora over nf4 (QLoRA)": {"quantisation": Quantisation.NF4},
    "lora over int8": {"quantisation": Quantisation.INT8},
}
# Every method on a base that writes and on one that reads both ways; LoRA on all.
CASES = [(method, shape) for method in METHODS for shape in SHAPES if method == "lora" or shape in {"llama", "bert"}]

WHOLE = [*((method, "llama") for method in METHODS), ("lora", "bert")]


def spec_of(method: str = "lora", **changes: object) -> LoraSpec:
    plain = {
        "task": TrainingTask.SEQUENCE_CLASSIFICATION, "dropout": 0.0, "target_modules": ("all-linear",), "max_steps": 40, "weight_decay": 0.0,
        "learning_rate": 5e-3, "max_length": 64,
    }  # fmt: skip
    return LoraSpec.model_validate(SPEC.model_dump() | plain | METHODS[method] | changes)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {shape: make_class_base(shape, tmp_path_factory.mktemp(shape)) for shape in SHAPES}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_class_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 160)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_class_rows(tmp_path_factory.mktemp("rows") / "unseen.jsonl", 40, seed=99)


@pytest.fixture(scope="module")
def sealed(bases: dict[str, Path], rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(bases["llama"], rows, tmp_path_factory.mktemp("sealed"), spec=spec_of(max_steps=12)).directory


class Client:
    """Somebody with transformers and peft, the base, and the sealed files: row by row, without padding."""

    def __init__(self, base: Path, adapter: Path) -> None:
        said = json.loads((adapter / LABELLED).read_bytes())
        self.names = {int(place): name for place, name in said["id2label"].items()}
        loaded = AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=len(self.names), id2label=self.names, pad_token_id=said["pad_token_id"], dtype=torch.float32
        )
        self.model = PeftModel.from_pretrained(loaded, str(adapter)).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(base)

    @torch.inference_mode()
    def nll_and_accuracy(self, rows: Path) -> tuple[float, float]:
        losses, right = [], 0
        for line in rows.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            given = self.tokenizer(row["prompt"], return_tensors="pt", truncation=True, max_length=64)
            scores = self.model(input_ids=given["input_ids"], attention_mask=given["attention_mask"]).logits[0].log_softmax(dim=0)
            wanted = next(place for place, name in self.names.items() if name == row["completion"])
            losses.append(-float(scores[wanted]))
            right += self.names[int(scores.argmax())] == row["completion"]
        return sum(losses) / len(losses), right / len(losses)


@pytest.mark.parametrize(("method", "shape"), CASES)
def test_a_classifier_trains_and_the_sealed_files_say_to_anybody_what_was_measured(
    bases: dict[str, Path], rows: Path, unseen: Path, tmp_path: Path, method: str, shape: str
) -> None:
    trained = run(
        bases[shape], rows, tmp_path / "out", spec=spec_of(method, early_stopping_patience=9, evaluate_every=12), validation=unseen
    )
    metrics = trained.metrics
    assert metrics.first_loss is not None
    assert metrics.validation_loss is not None
    assert metrics.validation_accuracy is not None
    assert metrics.validation_loss < metrics.first_loss - 0.3
    assert metrics.validation_accuracy > 0.75
    assert (metrics.packed, metrics.label_tokens) == (False, metrics.steps * 8)
    loss, accuracy = Client(bases[shape], trained.directory).nll_and_accuracy(unseen)
    if "over" in method:
        # It learnt over a rounded base, and this is the base as it is stored.
        assert loss < metrics.first_loss - 0.3
    else:
        assert loss == pytest.approx(metrics.validation_loss, rel=1e-4)
        assert accuracy == metrics.validation_accuracy
    measured = measure(trained.directory, base=bases[shape])
    assert refusals(measured.facts, measured.effect) == []
    assert measured.facts.labels == LABELS
    assert measured.facts.task_type == "SEQ_CLS"
    assert any("classifier" in name or "score" in name for name in measured.facts.replaced_tensors)
    SHOWN_OF_CLASSES.update({(method, shape, "trains"), (method, shape, "outputs")})


@pytest.mark.parametrize(("method", "shape"), WHOLE)
def test_a_cut_run_goes_on_to_the_same_bytes(
    bases: dict[str, Path], rows: Path, unseen: Path, tmp_path: Path, method: str, shape: str
) -> None:
    spec = spec_of(
        method, max_steps=8, checkpoint_every=3, dropout=0.0 if "ia3" in method else 0.1, early_stopping_patience=9, evaluate_every=2
    )
    uncut, cut, again, store = Follower(), Follower(stop_at=5), Follower(), tmp_path / "checkpoints"
    whole = run(bases[shape], rows, tmp_path / "whole", spec=spec, sink=uncut, validation=unseen)
    with pytest.raises(TrainingCancelled):
        run(bases[shape], rows, tmp_path / "cut", spec=spec, sink=cut, folder=store, validation=unseen)
    torch.rand(100)  # another process would have another random state, also where a head is drawn
    resumed = run(bases[shape], rows, tmp_path / "again", spec=spec, sink=again, folder=store, validation=unseen)
    assert resumed.metrics.resumed_from_step == 3
    assert cut.losses() | again.losses() == uncut.losses()
    assert resumed.metrics.validation_accuracy == whole.metrics.validation_accuracy
    assert [sha256_file(resumed.directory / file) for file in (WEIGHTS, CONFIG, LABELLED)] == [
        sha256_file(whole.directory / file) for file in (WEIGHTS, CONFIG, LABELLED)
    ]
    SHOWN_OF_CLASSES.add((method, shape, "resumes"))


@pytest.mark.parametrize(("method", "shape"), WHOLE)
def test_a_head_alone_has_no_effect_and_is_refused(bases: dict[str, Path], rows: Path, tmp_path: Path, method: str, shape: str) -> None:
    """The head is another one than any base has; what is asked is whether the adapter does anything beside it."""
    measured = measure(
        run(bases[shape], rows, tmp_path / "out", spec=spec_of(method, learning_rate=1e-30, max_steps=2)).directory, base=bases[shape]
    )
    assert [one.code for one in refusals(measured.facts, measured.effect)] == ["adapter_no_effect"]
    SHOWN_OF_CLASSES.add((method, shape, "refuses"))


def changed(sealed: Path, out: Path, change: Any) -> Path:
    """The sealed folder with other tensors."""
    out.mkdir()
    for file in (CONFIG, LABELLED):
        (out / file).write_bytes((sealed / file).read_bytes())
    tensors = load_file(sealed / WEIGHTS)
    change(tensors)
    save_file(tensors, out / WEIGHTS)
    return out


def test_a_zero_b_under_a_trained_head_and_a_head_of_zeros_are_refused(bases: dict[str, Path], sealed: Path, tmp_path: Path) -> None:
    def silent(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({name: torch.zeros_like(tensor) for name, tensor in tensors.items() if ".lora_B." in name})

    def dumb(tensors: dict[str, torch.Tensor]) -> None:
        tensors.update({name: torch.zeros_like(tensor) for name, tensor in tensors.items() if "score" in name})

    for number, change in enumerate((silent, dumb)):
        measured = measure(changed(sealed, tmp_path / str(number), change), base=bases["llama"])
        assert [one.code for one in refusals(measured.facts, measured.effect)] == ["adapter_no_effect"]


def test_a_head_that_is_not_in_the_file_and_one_of_another_name_are_refused(bases: dict[str, Path], sealed: Path, tmp_path: Path) -> None:
    def headless(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["base_model.model.score.weight"]

    def strange(tensors: dict[str, torch.Tensor]) -> None:
        tensors["base_model.model.scorer.weight"] = tensors.pop("base_model.model.score.weight")

    for change, found in ((headless, {"adapter_tensors_unfilled"}), (strange, {"adapter_tensors_unfilled", "adapter_tensors_unmatched"})):
        measured = measure(changed(sealed, tmp_path / change.__name__, change), base=bases["llama"])
        assert {one.code for one in refusals(measured.facts, measured.effect)} >= found


def test_labels_are_sealed_and_have_to_fit_the_head(bases: dict[str, Path], sealed: Path, tmp_path: Path) -> None:
    said = json.loads((sealed / LABELLED).read_bytes())
    assert said == {"id2label": {"0": "解約", "1": "返金", "2": "配送"}, "pad_token_id": 0}
    folder = changed(sealed, tmp_path / "more", lambda _: None)
    (folder / LABELLED).write_text(json.dumps({"id2label": dict(enumerate([*LABELS, "苦情"]))}, ensure_ascii=False), encoding="utf-8")
    with pytest.raises(AdapterShapeMismatch, match="score"):
        adapter_facts(folder, base=bases["llama"])
    (folder / LABELLED).unlink()
    with pytest.raises(AdapterLabelsMissing):
        adapter_facts(folder, base=bases["llama"])


def test_the_order_of_rows_does_not_change_what_a_class_means(bases: dict[str, Path], tmp_path: Path) -> None:
    many = [{"prompt": f"{number}番の質問", "completion": f"分類{number % 12}"} for number in range(36)]
    folders = [
        run(bases["bert"], write_rows(tmp_path / name, order), tmp_path / f"out {name}", spec=spec_of(max_steps=1)).directory
        for name, order in (("one", many), ("other", many[::-1]))
    ]
    labels = [json.loads((folder / LABELLED).read_bytes())["id2label"] for folder in folders]
    assert labels[0] == labels[1] == {str(place): name for place, name in enumerate(sorted(f"分類{number}" for number in range(12)))}


def test_a_pooler_that_the_base_has_not_is_trained_and_sealed_and_nothing_drawn_is_left_out(
    rows: Path, unseen: Path, tmp_path: Path
) -> None:
    base = make_tiny_encoder("bert", tmp_path / "base", pooler=False)
    spec = spec_of(early_stopping_patience=9, evaluate_every=12)
    trained = run(base, rows, tmp_path / "out", spec=spec, validation=unseen)
    assert "bert.pooler.dense" in json.loads((trained.directory / CONFIG).read_bytes())["modules_to_save"]
    assert Client(base, trained.directory).nll_and_accuracy(unseen)[0] == pytest.approx(trained.metrics.validation_loss, rel=1e-4)
    measured = measure(trained.directory, base=base)
    assert refusals(measured.facts, measured.effect) == []

    def without_pooler(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if "pooler" in name]:
            del tensors[name]

    folder = changed(trained.directory, tmp_path / "less", without_pooler)
    config = json.loads((folder / CONFIG).read_bytes())
    config["modules_to_save"].remove("bert.pooler.dense")
    (folder / CONFIG).write_text(json.dumps(config))
    found = measure(folder, base=base).facts.unfilled_tensors
    assert {f"base_model.model.bert.pooler.dense.{kind}" for kind in ("bias", "weight")} <= set(found)
    # What was trained over a revision with a pooler would be asked over one that is drawn anew each time.
    with pytest.raises(BaseIncomplete, match="pooler"):
        load_class_arm(base, folder)


@pytest.mark.parametrize(("named", "sealed_as"), [(2, 2), (-1, 0)])
def test_a_row_ends_where_the_bases_own_padding_begins(rows: Path, unseen: Path, tmp_path: Path, named: int, sealed_as: int) -> None:
    """A config that names another token than the tokenizer, and one that names none (-1)."""
    base = make_tiny_shape("llama", tmp_path / "base")
    settings = json.loads((base / "config.json").read_bytes())
    (base / "config.json").write_text(json.dumps(settings | {"pad_token_id": named}))
    trained = run(base, rows, tmp_path / "out", spec=spec_of(max_steps=8, early_stopping_patience=9, evaluate_every=8), validation=unseen)
    assert json.loads((trained.directory / LABELLED).read_bytes())["pad_token_id"] == sealed_as
    assert Client(base, trained.directory).nll_and_accuracy(unseen)[0] == pytest.approx(trained.metrics.validation_loss, rel=1e-4)


def test_a_base_in_bfloat16_has_a_head_in_float32(rows: Path, unseen: Path, tmp_path: Path) -> None:
    base = make_tiny_shape("llama", tmp_path / "base", dtype=torch.bfloat16)
    trained = run(base, rows, tmp_path / "out", spec=spec_of(early_stopping_patience=9, evaluate_every=12), validation=unseen)
    assert {tensor.dtype for tensor in load_file(trained.directory / WEIGHTS).values()} == {torch.float32}
    assert trained.metrics.validation_accuracy is not None
    assert trained.metrics.validation_accuracy > 0.75


def test_the_figures_of_a_run_have_its_accuracy(bases: dict[str, Path], rows: Path, unseen: Path, tmp_path: Path) -> None:
    sink = Follower()
    spec = spec_of(max_steps=6, early_stopping_patience=9, evaluate_every=3)
    run(bases["bert"], rows, tmp_path / "out", spec=spec, validation=unseen, sink=sink)
    assert [step for step, figures in sink.figures.items() if "validation_accuracy" in figures] == [3, 6]


def test_a_version_goes_on_with_its_classes_in_their_order_and_takes_no_others(
    bases: dict[str, Path], rows: Path, sealed: Path, tmp_path: Path
) -> None:
    earlier = Earlier(sealed, stacked=False)
    two = write_rows(tmp_path / "two.jsonl", [row for row in class_rows(60) if row["completion"] != "返金"])
    sink = Follower()
    again = run(bases["llama"], two, tmp_path / "again", spec=spec_of(max_steps=4), earlier=earlier, sink=sink)
    assert (again.directory / LABELLED).read_bytes() == (sealed / LABELLED).read_bytes()
    assert sink.figures[1]["loss"] < 0.8, "it begins with what the version has learnt"
    assert measure(again.directory, base=bases["llama"]).facts.unfilled_tensors == ()
    others = write_rows(tmp_path / "others.jsonl", [*class_rows(8), {"prompt": "対応が遅い", "completion": "苦情"}])
    with pytest.raises(UnknownLabels, match="苦情"):
        run(bases["llama"], others, tmp_path / "no", spec=spec_of(max_steps=4), earlier=earlier)


def test_a_validation_row_with_a_label_of_its_own_is_told(
    bases: dict[str, Path], rows: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    unseen = write_rows(tmp_path / "unseen.jsonl", [*class_rows(10, seed=5), {"prompt": "対応が遅い", "completion": "苦情"}])
    spec = spec_of(max_steps=2, early_stopping_patience=2, evaluate_every=2)
    with caplog.at_level(logging.WARNING, logger="ringi.job"):
        trained = run(bases["bert"], rows, tmp_path / "out", spec=spec, validation=unseen)
    assert "1 validation rows have a label that no training row has, and count in no validation loss: 苦情" in caplog.messages
    assert any("padded instead of packed" in message for message in caplog.messages) is False
    assert trained.metrics.validation_accuracy is not None
    assert trained.metrics.validation_accuracy * 10 == pytest.approx(round(trained.metrics.validation_accuracy * 10))


def test_validation_rows_of_which_none_can_be_measured_are_refused_by_their_labels(
    bases: dict[str, Path], rows: Path, tmp_path: Path
) -> None:
    unseen = write_rows(tmp_path / "unseen.jsonl", [{"prompt": "対応が遅い", "completion": "苦情"}])
    spec = spec_of(max_steps=2, early_stopping_patience=2, evaluate_every=2)
    with pytest.raises(ValidationLabelsUnknown, match="None of the 1 validation rows can be measured: no training row has their labels"):
        run(bases["bert"], rows, tmp_path / "out", spec=spec, validation=unseen)


@pytest.mark.parametrize(
    ("lines", "refusal"),
    [
        ([{"text": "第一条"}], RowsWithoutLabel),
        ([{"prompt": "a", "completion": "x"}, {"prompt": "b", "completion": "x"}], LabelsUnfit),
        ([{"prompt": str(number), "completion": str(number)} for number in range(1025)], LabelsUnfit),
        ([{"prompt": "a", "completion": "短い"}, {"prompt": "b", "completion": "長" * 1001}], LabelsUnfit),
    ],
    ids=["documents", "one label", "free texts", "a long one"],
)
def test_rows_without_labels_and_labels_that_are_no_classes_are_refused(
    bases: dict[str, Path], tmp_path: Path, lines: list[dict[str, str]], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        run(bases["bert"], write_rows(tmp_path / "rows.jsonl", lines), tmp_path / "out", spec=spec_of())


@pytest.mark.parametrize("shape", ENCODERS)
def test_an_encoder_learns_no_language_model(bases: dict[str, Path], tmp_path: Path, shape: str) -> None:
    with pytest.raises(BaseIsEncoder) as refusal:
        run(bases[shape], make_tiny_rows(tmp_path / "rows.jsonl", 8), tmp_path / "out", spec=spec_of(task=TrainingTask.CAUSAL_LM))
    assert refusal.value.code == "base_is_encoder"
    assert "--task sequence-classification" in refusal.value.next_step


def test_a_family_without_a_classifier_and_a_base_that_lacks_weights_are_refused(
    rows: Path, bases: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(BaseWithoutClassifier):
        run(make_tiny_shape("lfm2", tmp_path / "lfm2"), rows, tmp_path / "out", spec=spec_of())
    folder = make_tiny_encoder("bert", tmp_path / "holes")
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: tensor for name, tensor in tensors.items() if "layer.1." not in name},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(BaseIncomplete, match=r"encoder\.layer\.1"):
        run(folder, rows, tmp_path / "out", spec=spec_of())


def test_suggested_targets_of_an_encoder_are_query_and_value(bases: dict[str, Path], rows: Path, tmp_path: Path) -> None:
    trained = run(bases["bert"], rows, tmp_path / "out", spec=spec_of(target_modules=("suggested",), max_steps=1))
    config = json.loads((trained.directory / CONFIG).read_bytes())
    assert (config["target_modules"], config["modules_to_save"], config["task_type"]) == (
        ["query", "value"],
        ["classifier", "score"],
        "SEQ_CLS",
    )


@pytest.mark.parametrize("change", [{"packing": "on"}, {"init": Init.PISSA}, {"init": Init.OLORA}])
def test_what_does_not_go_with_a_head_is_no_plan(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TrainingPlan.model_validate({"task": "sequence-classification"} | change)


def test_a_classifier_from_elsewhere_is_inspected_with_its_labels(bases: dict[str, Path], sealed: Path, tmp_path: Path) -> None:
    folder = changed(sealed, tmp_path / "elsewhere", lambda _: None)
    (folder / LABELLED).write_text(
        json.dumps({"id2label": {str(at): name for at, name in enumerate(LABELS)}, "by": "誰か"}, ensure_ascii=False), encoding="utf-8"
    )
    found = inspect_adapter(folder, base=bases["llama"], base_name="bases/tiny", base_commit=COMMIT, out=tmp_path / "out")
    assert refusals(found.facts, found.effect) == []
    assert (found.directory / LABELLED).read_bytes() == (sealed / LABELLED).read_bytes()


def test_a_base_with_a_head_of_its_own_gets_another_one(rows: Path, unseen: Path, tmp_path: Path) -> None:
    folder = make_tiny_encoder("bert", tmp_path / "base")
    settings = AutoConfig.from_pretrained(folder, num_labels=2)
    AutoModelForSequenceClassification.from_config(settings).save_pretrained(folder)
    trained: TrainedAdapter = run(folder, rows, tmp_path / "out", spec=spec_of(max_steps=2))
    tensors = load_file(trained.directory / WEIGHTS)
    assert tuple(tensors["base_model.model.classifier.weight"].shape) == (3, 64)


def test_a_search_trains_and_compares_classifiers(bases: dict[str, Path], rows: Path, unseen: Path, tmp_path: Path) -> None:
    spec = spec_of(max_steps=None, epochs=2)
    assert planned_steps(spec, base=bases["bert"], rows=rows) == 40
    trial = TrialSink(Follower(), label="rank 4", until=4)
    (tmp_path / "checkpoints").mkdir()
    train_until(
        spec, compared_after=(4, 40), base=bases["bert"], rows=rows, validation=unseen, out=tmp_path / "out", sink=trial,
        checkpoints=FolderCheckpoints(tmp_path / "checkpoints"), base_name="bases/tiny", base_commit=COMMIT,
    )  # fmt: skip
    assert trial.paused
    assert list(trial.losses) == [4]


def test_the_matrix_in_the_docs_is_what_was_shown() -> None:
    asked = {(method, shape) for method, shape, _ in SHOWN_OF_CLASSES}
    if len(asked) < len(CASES):
        pytest.skip("not all methods ran in this process")
    assert in_the_docs(CLASS_BEGIN) == cells(table(METHODS, SHAPES, SHOWN_OF_CLASSES))
