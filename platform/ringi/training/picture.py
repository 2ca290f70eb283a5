"""The losses of a run as a picture (SVG), from the curve that it left. Pure: the same run gives the same bytes."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from ringi.jobs.contracts.training import CurvePoint, TrainMetrics

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 360, 60, 20, 44, 40
# Blue and vermilion of Okabe and Ito (2008): told apart by people who see red and green alike; the second line is dashed, too.
_TRAINING, _VALIDATION, _GRID = "#0072b2", "#d55e00", "#dddddd"
_STYLE = """font-family="system-ui, 'Noto Sans JP', sans-serif" font-size="12" role="img\""""
_MOST_TICKS = 6
# Characters, as XML 1.0 has them.
_UNPRINTABLE = dict.fromkeys(range(32), " ")


class _Scale(NamedTuple):
    """From figures to pixels; the loss axis begins at zero, so that heights compare."""

    steps: int
    loss: float

    def x(self, step: int) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * step / self.steps, 1)

    def y(self, loss: float) -> float:
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * loss / self.loss, 1)


def loss_curve(metrics: TrainMetrics, *, title: str) -> str:
    """Loss (nats per label token, mean since the point before) and, dashed, validation loss, over optimiser steps; an empty plot without a curve."""
    losses = [one for point in metrics.curve for one in (point.loss, point.validation_loss) if one is not None]
    scale = _Scale(max(metrics.steps, 1), max([*losses, 1e-6]) * 1.05)
    named = escape(title.translate(_UNPRINTABLE))
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" {_STYLE}>',
        f"<title>{named}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15" font-weight="600">{named}</text>',
        *_axes(scale),
        *_line(_points(metrics.curve, scale), _TRAINING, dashed=False),
        *_line(
            _points([one for one in metrics.curve if one.validation_loss is not None], scale, validation=True), _VALIDATION, dashed=True
        ),
        *_legend(any(one.validation_loss is not None for one in metrics.curve), best=metrics.best_step),
        "</svg>",
    ]
    return "\n".join(body) + "\n"


def _points(curve: Sequence[CurvePoint], scale: _Scale, *, validation: bool = False) -> list[tuple[float, float]]:
    losses = [(one.step, one.validation_loss if validation else one.loss) for one in curve]
    return [(scale.x(step), scale.y(loss)) for step, loss in losses if loss is not None]


def _line(points: Sequence[tuple[float, float]], stroke: str, *, dashed: bool) -> Iterator[str]:
    if points:
        more = ' stroke-dasharray="6 3"' if dashed else ""
        path = " ".join(f"{x},{y}" for x, y in points)
        yield f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="2"{more}/>'
    # A line of one point has no length, and few points should be seen as such.
    yield from (f'<circle cx="{x}" cy="{y}" r="2.5" fill="{stroke}"/>' for x, y in points)


def _axes(scale: _Scale) -> Iterator[str]:
    for loss in _ticks(scale.loss):
        y = scale.y(loss)
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="{_GRID}"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{loss:g}</text>'
    for step in sorted({math.ceil(one) for one in _ticks(scale.steps)}):
        yield f'<text x="{scale.x(step)}" y="{_HEIGHT - _BOTTOM + 18}" text-anchor="middle">{step}</text>'
    yield f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">step</text>'


def _ticks(most: float) -> list[float]:
    """Round numbers from zero: multiples of 1, 2 or 5 times a power of ten, at most six of them."""
    unit = 10.0 ** math.floor(math.log10(most / _MOST_TICKS))
    step = next(unit * factor for factor in (1, 2, 5, 10) if most / (unit * factor) <= _MOST_TICKS)
    return [round(step * number, 12) for number in range(int(most / step) + 1)]


def _legend(validated: bool, *, best: int | None) -> Iterator[str]:
    yield f'<text x="{_WIDTH - _RIGHT}" y="24" text-anchor="end" fill="{_TRAINING}">loss a label token (nats)</text>'
    if validated:
        kept = f", kept: step {best}" if best is not None else ""
        yield f'<text x="{_WIDTH - _RIGHT}" y="40" text-anchor="end" fill="{_VALIDATION}">validation loss (dashed){kept}</text>'
