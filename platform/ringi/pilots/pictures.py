"""The pictures of a pilot: quality with its intervals, and time and cost. Pure; as shapes, which gating/ draws as SVG and as PNG."""

from collections.abc import Callable, Iterator, Sequence

from ringi.gating.forest import Box, Drawing, Rule, Shape, Words
from ringi.pilots.recommending import one_currency
from ringi.pilots.schemas import BASE, Arm, Report
from ringi.pilots.wording import Writer

_NAMES, _PLOT, _FIGURES, _LINE, _TOP, _BOTTOM = 190, 340, 310, 26, 46, 30
_WIDTH = _NAMES + _PLOT + _FIGURES
# Of Okabe and Ito (2008), told apart by people who see red and green alike: bluish green for what is recommended, blue for the others, grey for the base.
_RECOMMENDED, _OTHER, _BARE, _GRID, _GREY = "#009e73", "#0072b2", "#777777", "#dddddd", "#555555"


def quality_picture(report: Report, words: Writer) -> Drawing:
    """The mean of each arm with its interval; dashed: the base's mean; bold: what is recommended."""
    means = {arm.name: arm.quality.mean for arm in report.arms if arm.quality is not None}
    ends = [value for mean in means.values() for value in (mean.value, mean.low, mean.high) if value is not None]
    low, high = min([0.0, *ends]), max([1.0 if report.right_or_wrong else 0.0, *ends])
    reach = high - low or 1.0

    def x(value: float) -> float:
        return round(_NAMES + _PLOT * (value - low) / reach, 1)

    height = _TOP + _LINE * len(report.arms) + _BOTTOM
    title = words.say("quality_of", metric=report.metric, rows=report.items)
    shapes: list[Shape] = [Words(12, 24, title, size=15, bold=True)]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        place = x(low + share * reach)
        shapes += [
            Rule(place, place, _TOP - 8, height - _BOTTOM, _GRID),
            Words(place, height - _BOTTOM + 16, words.score(low + share * reach), fill=_GREY, anchor="middle"),
        ]
    if BASE in means:
        shapes.append(Rule(x(means[BASE].value), x(means[BASE].value), _TOP - 8, height - _BOTTOM, _BARE, dashed=True))
    for number, arm in enumerate(report.arms):
        y, colour, mean = _TOP + _LINE * number + _LINE // 2, _colour(arm, report), means.get(arm.name)
        shapes.append(_name(arm, y, report, words))
        if mean is None:
            shapes.append(_figure(y, words.say("unknown") if arm.problem is None else arm.problem.code))
            continue
        if mean.low is not None and mean.high is not None:
            shapes.append(Rule(x(mean.low), x(mean.high), y, y, colour, width=2))
        shapes += [Box(x(mean.value) - 5, y - 5, 10, 10, colour), _figure(y, words.scores(mean))]
    return Drawing(_WIDTH, height, title, tuple(shapes))


def effort_picture(report: Report, words: Writer) -> Drawing:
    """Bars of the seconds and of the cost of each training, each from zero; what was not measured has no bar and says so."""
    trained = [arm for arm in report.arms if arm.name != BASE]
    panel = _LINE * (len(trained) + 1)
    title = words.say("effort_picture")
    height = _TOP + 2 * panel + 12
    shapes: list[Shape] = [Words(12, 24, title, size=15, bold=True)]
    panels: tuple[tuple[str, Callable[[Arm], float | None], Callable[[Arm], str]], ...] = (
        (
            "time",
            lambda arm: arm.training.seconds if arm.training else None,
            lambda arm: words.seconds(arm.training.seconds if arm.training else None),
        ),
        # Amounts of different currencies have no bars beside each other.
        ("cost", _cost if one_currency(trained) else _no_bar, lambda arm: words.money(arm.training.cost if arm.training else None)),
    )
    for number, (head, measure, written) in enumerate(panels):
        shapes += _bars(report, trained, _TOP + number * panel, words.say(head), measure, written, words)
    return Drawing(_WIDTH, height, title, tuple(shapes))


def _cost(arm: Arm) -> float | None:
    return arm.training.cost.amount if arm.training is not None and arm.training.cost is not None else None


def _no_bar(_: Arm) -> None:
    return None


def _bars(
    report: Report, arms: Sequence[Arm], top: int, head: str, measure: Callable[[Arm], float | None], written: Callable[[Arm], str], words: Writer
) -> Iterator[Shape]:  # fmt: skip
    values = {arm.name: measure(arm) for arm in arms}
    most = max((value for value in values.values() if value is not None), default=0.0)
    yield Words(12, top + _LINE // 2 + 4, head, fill=_GREY)
    for number, arm in enumerate(arms, start=1):
        y, value = top + _LINE * number + _LINE // 2, values[arm.name]
        yield _name(arm, y, report, words)
        if value is not None and most:
            yield Box(_NAMES, y - 7, max(1.0, round(_PLOT * value / most, 1)), 14, _colour(arm, report))
        yield _figure(y, written(arm) if arm.problem is None else arm.problem.code)


def _name(arm: Arm, y: int, report: Report, words: Writer) -> Words:
    return Words(12, y + 4, words.arm(arm.name), bold=arm.name == report.recommendation.arm)


def _figure(y: int, text: str) -> Words:
    return Words(_NAMES + _PLOT + 16, y + 4, text, fill="#222222")


def _colour(arm: Arm, report: Report) -> str:
    if arm.name == BASE:
        return _BARE
    return _RECOMMENDED if arm.name == report.recommendation.arm else _OTHER
