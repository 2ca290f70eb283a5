"""`benchmarks.training_gpu` without a GPU: it says that nothing was measured, and its parts do what they say over a tiny base."""

from pathlib import Path

import pytest
import torch
from benchmarks.estimate_usual_cases import SHAPES
from benchmarks.training_gpu import GIB, TINY, Lengths, lengths_of, main, ours, reached, table, why_not, workload, write_base, write_rows

from ringi.jobs.contracts.methods import Quantisation

FAQ = Lengths(rows=10_000, tokens=120.0, labels=60.0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_that_nothing_was_measured() -> None:
    with pytest.raises(SystemExit, match="SKIPPED, nothing was measured"):
        main([])


def test_a_base_with_random_weights_is_trained_for_as_long_as_was_asked(tmp_path: Path) -> None:
    base = write_base(TINY, tmp_path / "base", torch.device("cpu"))
    rows = write_rows(tmp_path / "rows.jsonl", 40, TINY["vocab_size"])
    lengths = lengths_of(base, rows)
    assert lengths.rows == 40
    assert 100 < lengths.tokens < 150
    assert lengths.tokens / 3 < lengths.labels < 2 * lengths.tokens / 3
    said = ours(base, rows, 0.1, Quantisation.NONE)
    assert said["steps"] >= 1
    assert said["seconds"] >= 0.1
    assert said["tokens"] / said["steps"] == pytest.approx(16 * lengths.tokens, rel=0.4)


def test_utilisation_is_the_share_of_the_cards_peak_and_not_known_without_one() -> None:
    work = workload(Quantisation.NONE, FAQ)
    said = {"tokens": 60_000, "seconds": 10.0, "steps": 30}
    found = reached(SHAPES["7B"], work, FAQ, said, device_name="NVIDIA A100-SXM4-80GB")
    # Four FLOPs a weight and token: forward, and the gradient of activations; the frozen weights need none.
    assert found.share == pytest.approx(6000 * 4 * 6.6e9 / 312e12, rel=0.05)
    assert found.minutes == pytest.approx(3 * 10_000 * 120 / 6000 / 60)
    unknown = reached(SHAPES["7B"], work, FAQ, said | {"peak_bytes": 20 * GIB}, device_name="a card of next year")
    assert table({"known": found._replace(share=0.5), "unknown": unknown}).splitlines()[2:] == [
        "| known | 6,000 | 50.0 % | 10.0 | 0.17 | not measured |",
        "| unknown | 6,000 | not measured | 10.0 | 0.17 | 20.0 GiB |",
    ]


def test_the_large_base_is_tried_only_where_card_and_disk_have_room(tmp_path: Path) -> None:
    work = workload(Quantisation.NF4, FAQ)
    assert (why_not(SHAPES["70B"], work, tmp_path, 24 * GIB) or "").startswith("the forecast is ")
    assert why_not(TINY, work, tmp_path, 80 * GIB) is None


@pytest.mark.proof
def test_all_of_it_runs_over_a_tiny_base(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--tiny-on-cpu", "--no-peer", "--seconds", "1", "--rows", "64"])
    assert "training_gpu ringi_tiny=" in capsys.readouterr().out
