"""A picture of a decision: a forest plot, one line for each task and slice. Pure. Here as shapes and as SVG; as PNG in painting.py."""

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
SIZE = 12


class Box(NamedTuple):
    """A filled rectangle; x and y are its upper left corner. All lengths are in pixels of the SVG."""

    x: float
    y: float
    width: float
    height: float
    fill: str


class Rule(NamedTuple):
    """A line, level or upright."""

    x1: float
    x2: float
    y1: float
    y2: float
    stroke: str
    width: int = 1
    dashed: bool = False


class Words(NamedTuple):
    """A text whose base line begins, has its middle or ends (`anchor`) at x and y."""

    x: float
    y: float
    text: str
    fill: str = "#000000"
    size: int = SIZE
    bold: bool = False
    anchor: str = "start"


Shape = Box | Rule | Words


class Drawing(NamedTuple):
    """Shapes in the order in which they are drawn."""

    width: int
    height: int
    title: str
    shapes: tuple[Shape, ...]


class _Line(NamedTuple):
    name: str
    part: Compared
    whole: bool


def drawing(decision: Decision, *, title: str) -> Drawing:
    """The difference of every part with its interval, the margins as ticks; right of the middle is better. All of one scale."""
    lines = [line for task in decision.tasks for line in _lines(task)]
    shown = [
        value for line in lines for value in (line.part.low, line.part.high, line.part.difference, -line.part.margin) if value is not None
    ]
    reach = max([_LEAST_REACH, *map(abs, shown)]) * 1.05
    width, height = _NAMES + _PLOT + _FIGURES, _TOP + _LINE * len(lines) + _BOTTOM
    x = _x(0.0, reach)
    shapes: list[Shape] = [
        Words(12, 24, _cut(f"{decision.verdict.value}  {title}", 110), size=15, bold=True),
        Rule(x, x, _TOP - 8, height - _BOTTOM, "#888888"),
        *(shape for number, line in enumerate(lines) for shape in _drawn(line, _TOP + _LINE * number + _LINE // 2, reach)),
        *_axis(reach, height),
    ]
    return Drawing(width, height, f"{decision.verdict.value}: {title}", tuple(shapes))


def forest(decision: Decision, *, title: str) -> str:
    """The drawing as SVG."""
    return svg(drawing(decision, title=title))


def svg(found: Drawing) -> str:
    """Any drawing as SVG; its texts are escaped."""
    width, height = found.width, found.height
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" {_STYLE}>',
        f"<title>{_text(found.title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *map(_svg, found.shapes),
        "</svg>",
    ]
    return "\n".join(body) + "\n"


def _svg(shape: Shape) -> str:
    match shape:
        case Box():
            return f'<rect x="{shape.x}" y="{shape.y}" width="{shape.width}" height="{shape.height}" fill="{shape.fill}"/>'
        case Rule():
            more = (f' stroke-width="{shape.width}"' if shape.width > 1 else "") + (' stroke-dasharray="2 2"' if shape.dashed else "")
            return f'<line x1="{shape.x1}" x2="{shape.x2}" y1="{shape.y1}" y2="{shape.y2}" stroke="{shape.stroke}"{more}/>'
        case Words():
            more = (f' font-size="{shape.size}"' if shape.size != SIZE else "") + (' font-weight="600"' if shape.bold else "")
            more += (f' text-anchor="{shape.anchor}"' if shape.anchor != "start" else "") + f' fill="{shape.fill}"'
            return f'<text x="{shape.x}" y="{shape.y}"{more}>{_text(shape.text)}</text>'


def _lines(task: TaskDecision) -> Iterator[_Line]:
    if task.whole is not None:
        yield _Line(f"{task.task} ({task.metric})", task.whole, whole=True)
    for part in task.slices:
        yield _Line(part.slice or "", part, whole=False)


def _x(value: float, reach: float) -> float:
    return round(_NAMES + _PLOT * (value / reach + 1) / 2, 1)


def _drawn(line: _Line, y: int, reach: float) -> Iterator[Shape]:
    part, colour = line.part, _COLOURS[line.part.verdict]
    yield Words(12 if line.whole else 28, y + 4, _cut(line.name, _LONGEST), bold=line.whole)
    margin = _x(-part.margin, reach)
    yield Rule(margin, margin, y - 7, y + 7, "#555555", dashed=True)
    if part.low is not None and part.high is not None:
        yield Rule(_x(part.low, reach), _x(part.high, reach), y, y, colour, width=2)
    figures = "not measured"
    if part.difference is not None:
        size = 5 if line.whole else 4
        yield Box(_x(part.difference, reach) - size, y - size, 2 * size, 2 * size, colour)
        figures = f"{part.difference:+.3f}  n {part.n}  {part.verdict.value}"
    yield Words(_NAMES + _PLOT + 12, y + 4, figures, fill="#222222")


def _axis(reach: float, height: int) -> Iterator[Shape]:
    y = height - _BOTTOM + 14
    for value in (-reach / 1.05, 0.0, reach / 1.05):
        yield Words(_x(value, reach), y, f"{value:+.3g}", fill="#555555", anchor="middle")
    yield Words(_NAMES + 4, y + 15, "worse", fill="#555555")
    yield Words(_NAMES + _PLOT - 4, y + 15, "better; dashed: margin", fill="#555555", anchor="end")


def printable(text: str) -> str:
    """The text without what no font draws."""
    return "".join(character for character in text if character.isprintable())


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _text(text: str) -> str:
    return escape(printable(text))
