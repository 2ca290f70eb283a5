"""What the page says of a report: three sentences to begin with, then tables, as plain text in one language. Pure."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ringi.pilots.schemas import BASE, FULL, Advice, Arm, Difference, Money, Origin, Report, Shown, Training, TrainingCost
from ringi.pilots.wording import Writer


class Table(NamedTuple):
    """Heads and cells; the first cell of a row is its head."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def opening(report: Report, words: Writer) -> tuple[str, str, str]:
    """What was compared, what is recommended and why, what it costs and returns."""
    arms = [arm for arm in report.arms if arm.name != BASE]
    first = words.say(
        "compared" if report.on_validation else "compared_by_suite", suite=report.suite, base=report.base, count=len(arms), arms=words.all_of([words.arm(arm.name) for arm in arms]), rows=report.items,
        dataset=report.dataset,
    )  # fmt: skip
    return first, _advised(report, words), _price(report, words)


def _advised(report: Report, words: Writer) -> str:
    advice = report.recommendation
    chosen, base = _named(report, advice.arm), _named(report, BASE)
    if chosen is None or chosen.to_base is None or base is None:
        seen = [arm.to_base.detectable for arm in report.arms if arm.to_base is not None and arm.to_base.detectable is not None]
        least = words.say("detectable", amount=words.difference(max(seen)).lstrip("+")) if seen else ""
        return words.say(advice.advice.value, detectable=least) if advice.advice is Advice.NONE_BETTER else words.say("not_measured")
    return words.say(
        advice.advice.value, arm=words.arm(chosen.name), quality=words.scores(chosen.quality.mean if chosen.quality else None),
        base=words.scores(base.quality.mean if base.quality else None), difference=words.differences(chosen.to_base.mean), rows=chosen.to_base.pairs,
        equal=words.all_of([words.arm(name) for name in advice.equal]),
        yardstick=words.say(f"by_{advice.yardstick.value}") if advice.yardstick is not None else "",
    )  # fmt: skip


def _price(report: Report, words: Writer) -> str:
    chosen = _named(report, report.recommendation.arm)
    if chosen is None:
        return _all_prices(report, words)
    training = chosen.training
    cost = words.money(training.cost) if training is not None and training.cost is not None else None
    return words.say(
        "its_price", seconds=words.seconds(training.seconds if training else None), cost=_cost(cost, words), bytes=words.bytes(chosen.shipped_bytes),
        returns=_returned(report, chosen, words),
    )  # fmt: skip


def _all_prices(report: Report, words: Writer) -> str:
    """What all trainings took together, not measured where one of them was not; and where their returns stand."""
    runs = [arm.training for arm in report.arms if arm.training is not None]
    returns = _returns_of_all(report, words)
    seconds, costs = [run.seconds for run in runs], [run.cost for run in runs if run.cost is not None]
    summed = sum(one for one in seconds if one is not None) if seconds and None not in seconds else None
    total = None
    if len(costs) == len(runs) and len({cost.currency for cost in costs}) == 1:
        total = words.money(Money(amount=sum(cost.amount for cost in costs), currency=costs[0].currency))
    if summed is None:
        return words.say("all_prices_unknown", returns=returns)
    return words.say("all_prices", seconds=words.seconds(summed), cost=_cost(total, words), returns=returns)


def _returns_of_all(report: Report, words: Writer) -> str:
    if any(arm.returns is not None for arm in report.arms):
        return words.say("returns_of_all")
    return words.say("not_computed", why=uncomputed(report, report.arms[0], words))


def _cost(amount: str | None, words: Writer) -> str:
    return words.say("cost_unknown") if amount is None else words.say("costs", amount=amount)


def _returned(report: Report, chosen: Arm, words: Writer) -> str:
    if chosen.returns is None:
        return words.say("not_computed", why=uncomputed(report, chosen, words))
    net = words.amounts(chosen.returns.net, report.figures.currency)
    return words.say("net_is", months=words.number(report.figures.months), net=net)


def uncomputed(report: Report, arm: Arm, words: Writer) -> str:
    """Why there is no return of an arm. What no figure would mend comes first, so that none is entered in vain."""
    if not report.right_or_wrong:
        return words.say("no_share", metric=report.metric)
    if arm.quality is None:
        return words.say("no_quality") if arm.problem is None else _failed(arm, words)
    return words.say("not_given", names=words.all_of([words.say(f"figure_{name}") for name in report.missing]))


def quality(report: Report, words: Writer) -> Table:
    """How well each arm answers, and what is shown of the differences."""
    columns = ("arm", "rows", "quality", "to_base", "flips", "to_best")
    rows = []
    for arm in report.arms:
        found, to_base = arm.quality, arm.to_base
        mean = words.scores(found.mean) if found is not None else _failed(arm, words)
        none = words.say("none")
        scored = words.number(found.scored) if found is not None else words.say("unknown")
        flips = f"{to_base.lost} / {to_base.won}" if to_base is not None and to_base.lost is not None else words.say("unknown")
        base = arm.name == BASE
        is_best = arm.name == report.recommendation.best
        rows.append((
            words.arm(arm.name), scored, mean, none if base else _shown(to_base, words), none if base else flips,
            none if base or is_best or report.recommendation.best is None else _shown(arm.to_best, words),
        ))  # fmt: skip
    return Table(_heads(columns, words), tuple(rows))


def _shown(difference: Difference | None, words: Writer) -> str:
    if difference is None or difference.shown is None:
        return words.say("unknown")
    told = words.say(difference.shown.value)
    separator = words.say("and") if difference.shown is Shown.NOTHING else " "
    return f"{words.differences(difference.mean)}{separator}{told}"


def _failed(arm: Arm, words: Writer) -> str:
    why = arm.problem or arm.unmeasured
    return words.say("unknown") if why is None else words.say("failed", message=why.message, code=why.code)


def effort(report: Report, words: Writer) -> Table:
    """What each arm took to train, takes to answer, and takes on disk."""
    columns = ("arm", "trained", "memory", "time", "gpu", "cost", "latency", "shipped")
    rows = []
    for arm in report.arms:
        latency, run = arm.latency, arm.training
        waits = " / ".join(words.seconds(one) for one in (latency.median_s, latency.p95_s)) if latency is not None else words.say("unknown")
        base = arm.name == BASE
        took = (words.say("none"),) * 5 if base else _took(run, words)
        rows.append((words.arm(arm.name), *took, waits, words.say("beside") if base else words.bytes(arm.shipped_bytes)))
    return Table(_heads(columns, words), tuple(rows))


def _took(run: Training | None, words: Writer) -> tuple[str, ...]:
    if run is None:
        return (words.say("unknown"),) * 5
    share = f" ({100 * run.share:.3g} %)" if run.share is not None else ""
    memory = words.bytes(run.memory.bytes if run.memory else None)
    if run.memory is not None and run.memory.origin is Origin.FORECAST:
        memory = words.say("forecast", amount=memory)
    trained = words.number(run.trainable_parameters) + share
    return trained, memory, words.seconds(run.seconds), words.number(run.gpu_seconds), words.money(run.cost)


def returned(report: Report, words: Writer) -> Table:
    """What each arm returns by the figures that were entered; one row says why where nothing is computed."""
    currency = report.figures.currency
    rows = []
    for arm in report.arms:
        found = arm.returns
        if found is None:
            rows.append((words.arm(arm.name), words.say("not_computed", why=uncomputed(report, arm, words)), "", "", "", "", "", ""))
            continue
        training = "" if found.training is TrainingCost.NONE else words.say(f"training_{found.training.value}")
        once = f"{words.number(found.one_off)} {currency}" + (f" ({training})" if training else "")
        over = words.say("none") if arm.name == BASE else words.amounts(found.over_base, currency)
        rows.append((
            words.arm(arm.name), words.amounts(found.saved, currency), words.amounts(found.harm, currency), f"{words.number(found.running)} {currency}",
            once, words.amounts(found.net, currency), words.say("nothing_spent") if found.ratio is None else words.ratios(found.ratio), over,
        ))  # fmt: skip
    return Table(_heads(("arm", "saved", "harm", "running", "one_off", "net", "ratio", "over_base"), words), tuple(rows))


def entered(report: Report, words: Writer) -> Table:
    """The figures, as they were entered."""
    given = report.figures.model_dump()
    rows = tuple(
        (words.say(f"figure_{name}"), words.say("not_entered") if value is None else value if name == "currency" else words.number(value))
        for name, value in given.items()
    )
    return Table((), rows)


def making(report: Report, words: Writer) -> Table:
    """The recipe of each arm and where to find it."""
    rows = []
    for arm in report.arms:
        run = arm.training
        cells: tuple[Callable[[Training], object], ...] = (
            lambda one: one.learning_rate,
            lambda one: one.rank,
            lambda one: one.steps,
            lambda one: one.run_id,
        )
        told = tuple("" if run is None or (value := cell(run)) is None else str(value) for cell in cells)
        rows.append((words.arm(arm.name), arm.version or "", *told))
    return Table(_heads(("arm", "version", "rate", "rank", "steps", "run"), words), tuple(rows))


def cautions(report: Report, words: Writer) -> list[str]:
    """What the reader must know to believe no more than was shown."""
    at_once = [arm.latency.at_once for arm in report.arms if arm.latency is not None and arm.latency.at_once is not None]
    told = [
        words.say("mind_intervals"), words.say("mind_seed"),
        words.say("mind_time", at_once=words.number(max(at_once)) if at_once else words.say("unknown")),
    ]  # fmt: skip
    if any(arm.training and arm.training.memory and arm.training.memory.origin is Origin.FORECAST for arm in report.arms):
        told.append(words.say("mind_forecast"))
    chosen = _named(report, report.recommendation.arm)
    if chosen is not None and chosen.returns is not None and (chosen.returns.net.high or 0) < 0:
        told.append(words.say("mind_loss", arm=words.arm(chosen.name)))
    if _named(report, FULL) is not None:
        told.append(words.say("mind_full"))
    return told


def _heads(columns: Sequence[str], words: Writer) -> tuple[str, ...]:
    return tuple(words.say(column) for column in columns)


def _named(report: Report, name: str | None) -> Arm | None:
    return next((arm for arm in report.arms if arm.name == name), None)
