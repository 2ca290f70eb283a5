"""The table of docs/preflight.md: the usual trainings on an A100 80 GB and an H100, in bfloat16 and with QLoRA, as Ringi forecasts them.

Nothing is trained or measured here, so its times are those of the assumed share of the peak. A test holds the document to this output; after a
change of a formula: `python -m benchmarks.estimate_usual_cases`, and put what it prints between the marks of the document.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from ringi.jobs.contracts.methods import Quantisation
from ringi.preflight.estimating import Known, estimate, machines
from ringi.preflight.prices import read_prices
from ringi.preflight.schemas import DeviceForecast, Estimate, Gpu, Trained, Workload
from ringi.preflight.shapes import shape_of

GIB, HOUR_S = 2**30, 3600.0
_LLAMA: dict[str, Any] = {"model_type": "llama", "vocab_size": 32000, "max_position_embeddings": 4096}
# The published configs of Llama 2 (Touvron et al. 2023, arXiv:2307.09288).
SHAPES: dict[str, dict[str, Any]] = {
    "7B": _LLAMA | {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "13B": _LLAMA | {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40},
    "70B": _LLAMA
    | {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
}
ROWS = {"7B": 10_000, "13B": 50_000, "70B": 200_000}
# Assumptions of the table: an FAQ row has 120 tokens, 60 of them the answer; a batch is 8 rows, the longest of 512 tokens; three epochs.
_ROW: dict[str, Any] = {"tokens_per_row": 120.0, "label_tokens_per_row": 60.0, "batch_size": 8, "max_length": 512, "rank": 16, "epochs": 3}
HOW: dict[str, dict[str, Any]] = {
    "LoRA, bf16": {},
    "LoRA, bf16, checkpointing": {"checkpointing": True},
    "QLoRA (NF4), checkpointing": {"quantisation": Quantisation.NF4, "checkpointing": True},
    "every parameter, checkpointing": {"method": Trained.FULL, "checkpointing": True},
}


class Line(NamedTuple):
    """One row of the table."""

    base: str
    how: str
    found: Estimate


def lines() -> Iterator[Line]:
    """Every base in every way."""
    known, devices = Known(read_prices(None)), machines([Gpu.A100, Gpu.H100])
    for base, config in SHAPES.items():
        for how, changes in HOW.items():
            work = Workload.model_validate({**_ROW, "rows": ROWS[base], **changes})
            yield Line(base, how, estimate(shape_of(config), work, known, base=base, devices=devices))


def table() -> str:
    """Markdown."""
    head = ["| base, rows | how | trained | peak memory | A100 80 GB, hours | H100 80 GB, hours |", "|---|---|---|---|---|---|"]
    return "\n".join(head + [_row(one) for one in lines()])


def _row(line: Line) -> str:
    found = line.found
    cells = (
        f"{line.base}, {ROWS[line.base]:,}",
        line.how,
        f"{found.trainable_parameters / 1e6:,.1f} M",
        f"{found.memory.total / GIB:.1f} GiB",
        *(_hours(one) for one in found.devices),
    )
    return "| " + " | ".join(cells) + " |"


def _hours(one: DeviceForecast) -> str:
    if one.duration is None:
        return one.note
    low, typical, high = (_number(seconds / HOUR_S) for seconds in (one.duration.low, one.duration.typical, one.duration.high))
    return f"{typical} ({low} to {high})"


def _number(hours: float) -> str:
    return f"{hours:.0f}" if hours >= 10 else f"{hours:.2g}"  # noqa: PLR2004  # two digits are more than an assumption holds


def main() -> None:
    """Print the table."""
    print(table())


if __name__ == "__main__":
    main()
