"""What a run took, and the record of how a version came to be: its own digest, in the audit log, and nothing in it that was not measured."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import torch

from ringi.cli.client import RingiClient
from ringi.cli.follow import measured
from ringi.jobs.contracts.parts import BaseRef, Progress
from ringi.jobs.contracts.training import PriceTable, RunOrigin, TrainMetrics, TrainPayload, TrainResult
from ringi.kit.digests import sha256_json
from ringi.preflight.shapes import shape_of
from ringi.settings import get_settings
from ringi.training.provenance import DatasetUsed, Provenance, recorded
from ringi.training.service import prices_now
from ringi_workers.failures import WorkPaused
from support.hub_client import free_port
from support.recipes import COMMIT, SPEC, Follower, run
from support.refusals import refused
from support.running_platform import PROJECT, Processes, start_api
from support.story import ADAPTER, PLAN, Ground
from support.tiny_model import make_tiny_base, make_tiny_rows

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
# 3600 an hour is 1 a second.
PRICES = PriceTable(currency="JPY", as_of=date(2026, 11, 1), source="契約書 3頁", per_hour={"cpu": 3600.0})
LLAMA = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 500,
    "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 40)


def test_the_cost_of_a_run_is_its_seconds_at_the_price_also_where_it_rested_and_is_told_while_it_runs(
    base: Path, rows: Path, tmp_path: Path
) -> None:
    spec = SPEC.model_copy(update={"max_steps": 6})
    first, last, folder = Follower(pause_at=3), Follower(), tmp_path / "checkpoints"
    with pytest.raises(WorkPaused):
        run(base, rows, tmp_path / "cut", spec=spec, sink=first, folder=folder, prices=PRICES)
    metrics = run(base, rows, tmp_path / "out", spec=spec, sink=last, folder=folder, prices=PRICES).metrics
    assert metrics.cost == pytest.approx(metrics.seconds)
    told = [one.cost for one in (*first.reports, *last.reports) if one.phase == "training"]
    assert told == sorted(told, key=lambda cost: cost or 0.0)
    assert (told[-1], last.reports[-2].currency, metrics.currency) == (metrics.cost, "JPY", "JPY")
    assert metrics.tokens is not None
    assert metrics.tokens > metrics.label_tokens
    # No GPU was used, and a CPU has no counter of energy.
    assert (metrics.gpu_seconds, metrics.energy_j) == (None, None)


def test_a_device_without_a_price_and_a_checkpoint_from_before_costs_were_counted_have_no_cost(
    base: Path, rows: Path, tmp_path: Path
) -> None:
    spec, folder = SPEC.model_copy(update={"max_steps": 4}), tmp_path / "checkpoints"
    for prices in (None, PRICES.model_copy(update={"per_hour": {"l4": 100.0}})):
        metrics = run(base, rows, tmp_path / "out", spec=spec, prices=prices).metrics
        assert (metrics.cost, metrics.currency) == (None, None)
    with pytest.raises(WorkPaused):
        run(base, rows, tmp_path / "cut", spec=spec, sink=Follower(pause_at=2), folder=folder, prices=PRICES)
    (state,) = folder.glob("*/state.pt")
    document = torch.load(state, weights_only=True)
    for name in ("cost", "tokens", "energy_j", "gpu_seconds"):
        del document["run"][name]
    torch.save(document, state)
    metrics = run(base, rows, tmp_path / "old", spec=spec, folder=folder, prices=PRICES).metrics
    assert (metrics.cost, metrics.tokens, metrics.resumed_from_step) == (None, None, 2)


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    path = tmp_path / "prices.yaml"
    monkeypatch.setenv("RINGI_PRICE_TABLE", str(path))
    get_settings.cache_clear()
    yield path
    get_settings.cache_clear()


def test_the_operators_prices_are_taken_as_they_are_at_the_start_and_examples_never(table: Path) -> None:
    assert prices_now() is None
    told = "currency: JPY\nas_of: 2026-11-01\nsource: 契約書 3頁\nper_hour: {cpu: 3600}\n"
    table.write_text(told, encoding="utf-8")
    assert prices_now() == PRICES
    table.write_text(told + "example: true\n", encoding="utf-8")
    assert prices_now() is None


def record(*, metrics: TrainMetrics, origin: RunOrigin | None = None) -> Provenance:
    payload = TrainPayload(
        run_id=UUID(int=1), adapter_id=UUID(int=2), adapter_name="risk/answers", rows=A, spec=SPEC, origin=origin, prices=PRICES,
        base=BaseRef(name="tiny", repository="bases/tiny", revision=1, commit=COMMIT, digest=B, files=()),
    )  # fmt: skip
    # Of the result only what the record is made of.
    measured: dict[str, Any] = {
        "metrics": metrics,
        "runtime": {"device": "cpu (x86_64)", "dtype": "float32"},
        "libraries": {"torch": "2.13.0"},
    }
    result = TrainResult.model_construct(**measured)
    dataset = DatasetUsed(name="risk/questions", version=2, digest=B, train=A, validation=None)
    return recorded(payload, result, manifest_digest=A, fingerprint={"F1": B, "tensors": {}}, dataset=dataset, shape=shape_of(LLAMA))


METRICS = TrainMetrics(
    steps=10, rows=160, skipped_rows=0, first_loss=3.0, final_loss=1.0, label_tokens=400, tokens_per_s=100.0, seconds=20.0, resumed_from_step=0,
    tokens=1600, cost=20.0, currency="JPY",
)  # fmt: skip


def test_flops_are_those_of_the_tokens_that_this_run_read() -> None:
    whole = record(metrics=METRICS).spent.flops
    assert whole is not None
    # Ten steps of eight rows: 20 tokens a row. Four forward and two backward, for each weight and token, is far below and above it.
    weights = 2 * (4 * 64 * 64 + 3 * 64 * 128)
    assert 4 * weights * 1600 < whole < 12 * weights * 1600
    # Half of the steps were another run's: the same rows, half as many.
    branched = METRICS.model_copy(update={"steps": 20, "tokens": 1600, "label_tokens": 400})
    assert record(metrics=branched, origin=RunOrigin(run_id=UUID(int=3), step=10)).spent.flops == pytest.approx(whole)
    assert record(metrics=METRICS.model_copy(update={"tokens": None})).spent.flops is None


def test_a_record_is_the_same_document_when_it_is_read_again_and_says_whose_prices_it_used() -> None:
    made = record(metrics=METRICS)
    assert made.spent.price is not None
    assert (made.spent.price.source, made.base.fingerprint, made.seed) == ("契約書 3頁", {"F1": B}, SPEC.seed)
    again = Provenance.model_validate_json(made.model_dump_json())
    assert sha256_json(again.model_dump(mode="json")) == sha256_json(made.model_dump(mode="json"))
    assert record(metrics=METRICS.model_copy(update={"cost": None, "currency": None})).spent.price is None


def test_a_sealed_version_has_a_record_whose_digest_is_in_the_audit_log(ground: Ground) -> None:
    platform, training = ground.platform, ground.platform.as_("contributor").training
    *_, run = [one for one in training.all(PROJECT, ADAPTER) if one.version is not None]
    found = training.provenance(PROJECT, ADAPTER, run.id)
    assert run.provenance_digest == sha256_json(found.model_dump(mode="json"))
    (event,) = platform.logged("training.run.complete", job=str(run.job_id))
    assert (event.details or {})["provenance"] == run.provenance_digest
    version = platform.as_("contributor").adapters.version(PROJECT, ADAPTER, (run.version or "").partition(":")[2])
    assert found.manifest_digest == version.manifest_digest
    assert (found.recipe, found.seed) == (run.spec.model_dump(mode="json"), run.spec.seed)
    assert {"torch", "transformers", "peft", "safetensors"} <= found.libraries.keys()
    assert found.base.fingerprint.keys() == {"F1", "F2"}
    assert (found.dataset.name, found.dataset.version, found.device[:3]) == (f"{PROJECT}/faq", 1, "cpu")
    assert found.spent.flops is not None
    # Nobody has given a price, and a CPU has no counters.
    assert (found.spent.cost, found.spent.price, found.spent.energy_j, found.spent.gpu_seconds) == (None, None, None, None)
    unfinished = training.start(PROJECT, ADAPTER, dataset="faq")
    platform.as_("contributor").jobs.cancel(unfinished.job_id)
    with refused("training_no_record", 409):
        training.provenance(PROJECT, ADAPTER, unfinished.id)
    platform.ended(unfinished.job_id)


@pytest.fixture
def priced(ground: Ground, tmp_path: Path) -> Iterator[RingiClient]:
    """The same platform through an API process whose operator has a price table."""
    shared, table, folder = ground.platform.processes, tmp_path / "prices.yaml", tmp_path / "api"
    folder.mkdir()
    table.write_text("currency: JPY\nas_of: 2026-11-01\nsource: 契約書 3頁\nper_hour: {cpu: 3600}\n", encoding="utf-8")
    own = {"RINGI_PUBLIC_URL": f"http://127.0.0.1:{free_port()}", "RINGI_PRICE_TABLE": str(table)}
    processes = Processes(folder, shared.urls, shared.broker_url, shared.environment | own)
    try:
        start_api(processes)
        with RingiClient(processes.server, ground.platform.tokens["contributor"]) as client:
            yield client
    finally:
        processes.stop()


def test_what_a_run_has_cost_is_told_in_its_stream_and_stands_in_its_record(ground: Ground, priced: RingiClient) -> None:
    run = priced.training.start(PROJECT, ADAPTER, dataset="faq", plan=PLAN.model_copy(update={"seed": 77, "max_steps": 300}))
    events = priced.training.events(PROJECT, ADAPTER, run.id)
    told = [one.data for one in events if one is not None and one.kind == "progress" and one.data["phase"] == "training"]
    ground.platform.succeeded(run.job_id)
    done = priced.training.get(PROJECT, ADAPTER, run.id)
    assert done.metrics is not None
    assert done.metrics.cost == pytest.approx(done.metrics.seconds)
    # Samples: there is one at least, of a run of some seconds.
    assert {one["currency"] for one in told} == {"JPY"}
    assert all(0 < one["cost"] <= done.metrics.cost for one in told)
    midway = priced.jobs.get(run.job_id).model_copy(update={"progress": Progress(phase="training", cost=1234.5, currency="JPY")})
    assert "1,234.50 JPY so far" in measured(midway)
    spent = priced.training.provenance(PROJECT, ADAPTER, run.id).spent
    assert spent.price is not None
    assert (spent.cost, spent.price.currency, spent.price.source) == (done.metrics.cost, "JPY", "契約書 3頁")
