"""A picture of a decision: a forest plot as SVG, one line for each task and slice. Pure."""

from collections.abc import Iterator
from typing import NamedTuple
from xml.sax.saxutils import escape

from ringi.gating.schemas import Compared, Decision, TaskDecision, Verdict

_NAMES, _PLOT, _FIGURES, _LINE, _TOP, _BOTTOM = 300, 360, 230, 22, 46, 34
# Told apart by people who see red and green alike, too: vermilion, orange and bluish green of Okabe and Ito (2008), and by the words.
_COLOURS = {Verdict.GO: "#009e73", Verdict.INCONCLUSIVE: "#e69f00", Verdict.NO_GO: "#d55e00"}
_STYLE = """font-family="system-ui, 'Noto Sans JP', sans-serif" font-size="12" role="img\""""
_LONGEST = 44
_LEAST_REACH = 0.05


class _Line(NamedTuple):
    name: str
    part: Compared
    whole: bool


def forest(decision: Decision, *, title: str) -> str:
    """The difference of every part with its interval, the margins as ticks; right of the middle is better. All of one scale."""
    lines = [line for task in decision.tasks for line in _lines(task)]
    shown = [
        value for line in lines for value in (line.part.low, line.part.high, line.part.difference, -line.part.margin) if value is not None
    ]
    reach = max([_LEAST_REACH, *map(abs, shown)]) * 1.05
    width, height = _NAMES + _PLOT + _FIGURES, _TOP + _LINE * len(lines) + _BOTTOM
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" {_STYLE}>',
        f"<title>{_text(f'{decision.verdict.value}: {title}')}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="600">{_text(_cut(f"{decision.verdict.value}  {title}", 110))}</text>',
        _rule(0.0, reach, height, "#888888"),
        *(piece for number, line in enumerate(lines) for piece in _drawn(line, _TOP + _LINE * number + _LINE // 2, reach)),
        *_axis(reach, height),
        "</svg>",
    ]
    return "\n".join(body) + "\n"


def _lines(task: TaskDecision) -> Iterator[_Line]:
    if task.whole is not None:
        yield _Line(f"{task.task} ({task.metric})", task.whole, whole=True)
    for part in task.slices:
        yield _Line(part.slice or "", part, whole=False)


def _x(value: float, reach: float) -> float:
    return round(_NAMES + _PLOT * (value / reach + 1) / 2, 1)


def _drawn(line: _Line, y: int, reach: float) -> Iterator[str]:
    part, colour = line.part, _COLOURS[line.part.verdict]
    weight, indent = ("600", 12) if line.whole else ("400", 28)
    yield f'<text x="{indent}" y="{y + 4}" font-weight="{weight}">{_text(_cut(line.name, _LONGEST))}</text>'
    margin = _x(-part.margin, reach)
    yield f'<line x1="{margin}" x2="{margin}" y1="{y - 7}" y2="{y + 7}" stroke="#555555" stroke-dasharray="2 2"/>'
    if part.low is not None and part.high is not None:
        yield f'<line x1="{_x(part.low, reach)}" x2="{_x(part.high, reach)}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>'
    figures = "not measured"
    if part.difference is not None:
        size = 5 if line.whole else 4
        yield f'<rect x="{_x(part.difference, reach) - size}" y="{y - size}" width="{2 * size}" height="{2 * size}" fill="{colour}"/>'
        figures = f"{part.difference:+.3f}  n {part.n}  {part.verdict.value}"
    yield f'<text x="{_NAMES + _PLOT + 12}" y="{y + 4}" fill="#222222">{figures}</text>'


def _axis(reach: float, height: int) -> Iterator[str]:
    y = height - _BOTTOM + 14
    for value in (-reach / 1.05, 0.0, reach / 1.05):
        yield f'<text x="{_x(value, reach)}" y="{y}" text-anchor="middle" fill="#555555">{value:+.3g}</text>'
    yield f'<text x="{_NAMES + 4}" y="{y + 15}" fill="#555555">worse</text>'
    yield f'<text x="{_NAMES + _PLOT - 4}" y="{y + 15}" text-anchor="end" fill="#555555">better; dashed: margin</text>'


def _rule(value: float, reach: float, height: int, colour: str) -> str:
    x = _x(value, reach)
    return f'<line x1="{x}" x2="{x}" y1="{_TOP - 8}" y2="{height - _BOTTOM}" stroke="{colour}"/>'


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _text(text: str) -> str:
    return escape("".join(character for character in text if character.isprintable()))
