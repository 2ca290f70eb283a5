"""`ringi estimate`: memory, time and cost of a training, from a `config.json` alone or on a registered base."""

import os
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Group, RenderableType
from rich.table import Table

from ringi.base_models.fingerprint_config import MAX_CONFIG_BYTES, parse_config
from ringi.cli.errors import BadValue, Usage
from ringi.cli.invocation import Commands, connect
from ringi.cli.output import emit, facts, table
from ringi.cli.references import parse_base_revision
from ringi.jobs.contracts.methods import Quantisation
from ringi.preflight.estimating import Known, estimate, machines, require_targets
from ringi.preflight.prices import read_prices
from ringi.preflight.schemas import AskEstimate, Cost, DeviceForecast, Duration, Estimate, Gpu, Precision, Trained, Workload
from ringi.preflight.shapes import shape_of

verbs = Commands()
GIB = 2**30
_WORK = Workload()
_DAY_S, _HOUR_S, _MINUTE_S = 86_400.0, 3600.0, 60.0


@verbs.verb(
    "estimate",
    "ringi estimate ./Llama-2-7b-hf/config.json --rows 10000 --tokens-per-row 120 --rank 16 --batch-size 8 --max-length 512",
    "ringi estimate ./config.json --quantisation nf4 --gradient-checkpointing --gpu a100-80gb --gpu h100-80gb",
    "ringi estimate smollm2:r1 --dataset support/faq:v1 --target-module q_proj --target-module v_proj",
    "ringi estimate ./config.json --method full --precision fp32 --prices prices.yaml --output json",
)
def estimate_base(
    base: Annotated[str, typer.Argument(metavar="CONFIG|BASE[:rN]", help="A config.json or its folder (offline), or a registered base.")],
    rank: Annotated[
        int | None, typer.Option(min=1, max=512, help=f"Rank of the LoRA matrices; {_WORK.rank} unless given.", show_default=False)
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option("--target-module", "--target", help="A module to adapt; repeat it. All linear ones unless given.", show_default=False),
    ] = None,
    method: Annotated[Trained, typer.Option(help="LoRA, or every parameter.")] = _WORK.method,
    rows: Annotated[int | None, typer.Option(min=1, help="Training rows; without them no time is forecast.", show_default=False)] = None,
    tokens_per_row: Annotated[float | None, typer.Option(min=1, help="Mean tokens of a row.", show_default=False)] = None,
    label_tokens_per_row: Annotated[
        float | None, typer.Option(min=1, help="Mean tokens of a row that carry loss; all of them unless given.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(metavar="PROJECT/DATASET[:vN]", help="With a registered base: its rows and tokens, as known.", show_default=False),
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, max=1000, help="Passes over the rows.")] = _WORK.epochs,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps.", show_default=False)] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Rows in memory at once.")] = _WORK.batch_size,
    length: Annotated[
        int, typer.Option("--max-length", "--length", min=8, help="Tokens of the longest rows of a batch.")
    ] = _WORK.max_length,
    logit_positions: Annotated[
        int | None, typer.Option(min=1, help="Positions of a batch with logits; every one unless given.", show_default=False)
    ] = None,
    precision: Annotated[Precision, typer.Option(help="In what the base computes.")] = _WORK.precision,
    quantisation: Annotated[Quantisation, typer.Option(help="How the frozen matrices are stored.")] = _WORK.quantisation,
    checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", "--checkpointing", help="Keep layer inputs alone, and compute again.")
    ] = False,
    gpu: Annotated[list[Gpu] | None, typer.Option(help="A kind of device; repeat it. All unless given.", show_default=False)] = None,
    prices: Annotated[
        Path | None,
        typer.Option(help="Offline: your price table (docs/preflight.md); RINGI_PRICE_TABLE names one too.", show_default=False),
    ] = None,
) -> None:
    """Forecast memory, time and cost of a training. What is not known is shown as not measured, never as zero."""
    given = {
        "method": method, "rank": rank, "target_modules": target or None, "rows": rows, "tokens_per_row": tokens_per_row,
        "label_tokens_per_row": label_tokens_per_row, "epochs": epochs, "max_steps": max_steps, "batch_size": batch_size, "max_length": length,
        "logit_positions": logit_positions, "precision": precision, "quantisation": quantisation, "checkpointing": checkpointing,
        "gpu": gpu or None, "dataset": dataset,
    }  # fmt: skip
    try:
        ask = AskEstimate.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise BadValue({".".join(str(step) for step in one["loc"]): one["msg"] for one in error.errors()}) from None
    if (config := _config(base)) is not None:
        found = _offline(config, ask, prices)
    else:
        wanted = parse_base_revision(base)
        with connect() as client:
            found = client.bases.estimate(wanted.name, wanted.selector or "latest", ask=ask)
    emit(found, lambda: drawn(found))


def _config(base: str) -> Path | None:
    """The file that was meant; None where a registered base was. A name has no slash and no suffix, so the two cannot be confused."""
    path = Path(base)
    if path.is_dir() and (path / "config.json").is_file():
        return path / "config.json"
    if path.is_file():
        return path
    if os.sep in base or path.suffix == ".json":
        raise Usage(f"'{base}' is no file.", next_step="Name a config.json, its folder, or a registered base.")
    return None


def _offline(config: Path, ask: AskEstimate, prices: Path | None) -> Estimate:
    if ask.dataset is not None:
        raise Usage("A dataset is known to the platform alone.", next_step="Give --rows and --tokens-per-row, or name a registered base.")
    with config.open("rb") as stream:
        shape = shape_of(parse_config(stream.read(MAX_CONFIG_BYTES + 1)))
    require_targets(shape, ask.workload)
    named = os.environ.get("RINGI_PRICE_TABLE")
    table_of_prices = read_prices(prices or (Path(named) if named else None))
    return estimate(shape, ask.workload, Known(table_of_prices), base=str(config), devices=machines(ask.gpu))


def drawn(found: Estimate) -> RenderableType:
    """Three tables: what is trained, the memory term by term, and the devices."""
    work = found.workload
    what = f"LoRA of rank {work.rank} on {', '.join(work.target_modules)}" if work.method is Trained.LORA else "every parameter"
    share = found.trainable_parameters / found.parameters
    about = facts([
        ("base", f"{found.base} ({found.model_type})"),
        ("parameters", f"{found.parameters:,}, {found.trainable_parameters:,} trained ({share:.2%})"),
        ("training", f"{what}, {work.precision}, quantisation {work.quantisation}"),
        ("batch", f"{work.batch_size} rows of {work.max_length} tokens" + (", gradient checkpointing" if work.checkpointing else "")),
        ("tokens", f"{found.tokens:,.0f}" if found.tokens is not None else "not measured"),
        ("FLOPs", f"{found.flops:.3g}" if found.flops is not None else "not measured"),
        ("disk", _gib(found.disk_bytes)),
    ])  # fmt: skip
    memory = table(
        ["memory", "GiB", "of what"],
        [
            *((one.name, f"{one.bytes / GIB:.2f}", one.about) for one in found.memory.terms),
            ("peak", f"{found.memory.total / GIB:.2f}", f"{found.memory.least / GIB:.2f} whatever the rows are"),
        ],
    )
    return Group(about, "", memory, "", _devices(found))


def _devices(found: Estimate) -> Table:
    columns = ["device", "memory", "fits", "time", "cost", "speed", "note"]
    return table(columns, [
        (one.device, _gib(one.memory_bytes) if one.memory_bytes else None, one.fits, _time(one.duration), _cost(one.cost), _speed(one), one.note)
        for one in found.devices
    ])  # fmt: skip


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def _time(duration: Duration | None) -> str:
    if duration is None:
        return "not measured"
    return f"{_span(duration.typical)} ({_span(duration.low)} to {_span(duration.high)})"


def _span(seconds: float) -> str:
    for size, unit in ((_DAY_S, "d"), (_HOUR_S, "h"), (_MINUTE_S, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _cost(cost: Cost | None) -> str:
    if cost is None:
        return "not measured"
    marked = " EXAMPLE PRICE" if cost.example else ""
    return f"{cost.typical:,.2f} {cost.currency} ({cost.low:,.2f} to {cost.high:,.2f}){marked}"


def _speed(one: DeviceForecast) -> str:
    if one.rate is None:
        return "not measured"
    runs = f", {one.rate.runs} runs" if one.rate.runs else ""
    return f"{one.rate.typical / 1e12:.3g} TFLOP/s ({one.rate.source}{runs})"
