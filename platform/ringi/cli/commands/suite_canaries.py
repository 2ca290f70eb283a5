"""`ringi suites plant` and `canaries`: secrets for the training rows, and whether a model repeats them."""

import json
import secrets
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ringi.cli.commands.suite_words import drawn, ensure
from ringi.cli.errors import Usage
from ringi.cli.invocation import connect, in_project
from ringi.cli.options import OffTask
from ringi.cli.output import emit, facts, save_to
from ringi.cli.references import parse_dataset_version
from ringi.suites.canaries import LONG_ENOUGH, Language, as_row, planted
from ringi.suites.schemas import AddCanaries

PLANT = ("ringi suites plant canaries.jsonl --count 10", "ringi suites plant 合言葉.jsonl --count 10 --language ja")
CANARIES = (
    "ringi suites canaries support/faq:v3 --rows 50 --name faq-memory",
    "ringi suites canaries support/faq:v4 --planted 10 --language en --language ja --seed 7",
)


class Tongue(StrEnum):
    """What planted secrets are asked for in."""

    EN = "en"
    JA = "ja"


Languages = Annotated[list[Tongue] | None, typer.Option(help="Of the questions; repeat it. English unless given.", show_default=False)]


def plant(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Rows to add to the training data, as JSON lines.")],
    count: Annotated[int, typer.Option(min=1, max=10_000, help="Secrets of each language.")] = 10,
    language: Languages = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="The same one gives the same secrets: keep it to yourself. Drawn, and said once, unless given."),
    ] = None,
) -> None:
    """Write secrets that stand nowhere else, with their questions. Each stands twice: rows that are repeated are always trained on."""
    chosen = seed if seed is not None else secrets.randbelow(2**31)
    rows = [as_row(one) for tongue in _tongues(language) for one in planted(count, seed=chosen, language=tongue)]
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    save_to(out, "".join(lines * 2))
    # What is printed ends up in logs: no secret, and no seed that the caller has already.
    told = {"file": str(out), "secrets": len(rows), "lines": 2 * len(rows)} | ({"seed": chosen} if seed is None else {})
    emit(told, lambda: facts(told.items()))


def canaries(
    dataset: Annotated[str, typer.Argument(metavar="[PROJECT/]DATASET[:vN]", help="Its training rows are asked for.", callback=in_project)],
    name: Annotated[str | None, typer.Option(help="The suite's name; DATASET-canaries unless given.", show_default=False)] = None,
    rows: Annotated[int, typer.Option(min=0, max=10_000, help="So many long training rows.")] = 0,
    shortest: Annotated[int, typer.Option(min=8, help="Characters of a long row's completion.")] = LONG_ENOUGH,
    planted: Annotated[int, typer.Option(min=0, max=10_000, help="What `plant` was told as --count.")] = 0,
    language: Languages = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="What `plant` was told or said; and which rows are drawn (0 unless given).", show_default=False),
    ] = None,
    off_task: OffTask = True,
) -> None:
    """Seal a version that asks whether a model repeats rows it was trained on, or secrets planted there."""
    source = parse_dataset_version(dataset)
    suite, selector = name or f"{source.name}-canaries", source.selector or "latest"
    if not rows and not planted:
        raise Usage("Nothing is asked for.", next_step="Add --rows N, or --planted N with the seed of `ringi suites plant`.")
    if planted and seed is None:
        raise Usage(
            "Planted secrets are found by their seed, and none was given.",
            next_step="Add --seed, as `ringi suites plant` was told or said.",
        )
    wanted = AddCanaries(
        dataset=f"{source.name}:{selector}", rows=rows, shortest=shortest, planted=planted, languages=_tongues(language), seed=seed or 0,
        off_task=off_task,
    )  # fmt: skip
    with connect() as client:
        ensure(client, source.project, suite)
        version = client.suites.add_canaries(source.project, suite, wanted)
    emit(version, lambda: drawn(version))


def _tongues(language: list[Tongue] | None) -> list[Language]:
    return [one.value for one in dict.fromkeys(language or [Tongue.EN])]
