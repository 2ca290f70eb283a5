"""The forest plot as PNG, with Pillow and a Japanese font that comes with a wheel (IPAex Gothic, in `matplotlib-fontja`): the extra `pictures`.

Neither is imported before the first picture, and matplotlib never. The same drawing gives the same bytes with the same release of Pillow.
"""

import importlib.util
import io
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from ringi.gating.forest import Box, Drawing, Rule, Words, printable
from ringi.kit.errors import Conflict

# Pixels for each of the SVG's, so that it is sharp on a page.
SCALE = 2
# All of it is held as pixels: 12,000 of them high are 64 MB.
TALLEST = 6000
_FONTS, _FILE = "matplotlib_fontja", "fonts/ipaexg.ttf"
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}
# IPAex has one weight; a thin outline makes it bolder.
_OUTLINE = 0.5


class PictureUnavailable(Conflict):
    """What is needed to draw pixels is not installed where this runs."""

    code: ClassVar[str] = "gate_picture_unavailable"

    def __init__(self, missing: str) -> None:
        super().__init__(
            f"No PNG can be drawn here: {missing} is not installed.",
            next_step="Install the extra 'pictures', or take the same picture as SVG.",
            details={"missing": missing},
        )


class PictureTooLarge(Conflict):
    """So many lines that the pixels would fill the memory."""

    code: ClassVar[str] = "gate_picture_too_large"

    def __init__(self, height: int) -> None:
        super().__init__(
            f"The picture would be {height * SCALE} pixels high, and {TALLEST * SCALE} are drawn.",
            next_step="Take the same picture as SVG.",
            details={"height": height * SCALE},
        )


def painted(drawing: Drawing) -> bytes:
    """The drawing as PNG, twice as wide and high. Raises PictureUnavailable, PictureTooLarge."""
    if drawing.height > TALLEST:
        raise PictureTooLarge(drawing.height)
    font = _font_file()
    try:
        from PIL import Image, ImageDraw  # noqa: PLC0415 - see above
    except ModuleNotFoundError:
        raise PictureUnavailable("pillow") from None
    image = Image.new("RGB", (drawing.width * SCALE, drawing.height * SCALE), "#ffffff")
    pen = ImageDraw.Draw(image)
    for shape in drawing.shapes:
        match shape:
            case Box():
                corner = (shape.x + shape.width, shape.y + shape.height)
                pen.rectangle((*_at(shape.x, shape.y), *_at(*corner)), fill=shape.fill)
            case Rule():
                for x1, y1, x2, y2 in _dashes(shape):
                    pen.line((*_at(x1, y1), *_at(x2, y2)), fill=shape.stroke, width=shape.width * SCALE)
            case Words():
                pen.text(
                    _at(shape.x, shape.y), printable(shape.text), fill=shape.fill, font=_font(font, shape.size * SCALE),
                    anchor=_ANCHORS[shape.anchor], stroke_width=_OUTLINE if shape.bold else 0,
                )  # fmt: skip
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()


def _at(x: float, y: float) -> tuple[float, float]:
    return round(x * SCALE), round(y * SCALE)


def _dashes(rule: Rule) -> list[tuple[float, float, float, float]]:
    """A dashed rule is upright: two pixels of line, two of none."""
    if not rule.dashed:
        return [(rule.x1, rule.y1, rule.x2, rule.y2)]
    starts = range(round(rule.y1), round(rule.y2), 4)
    return [(rule.x1, start, rule.x2, min(start + 2, rule.y2) - 1 / SCALE) for start in starts]


def _font_file() -> Path:
    """Where the wheel put it: found without importing the wheel's module, which would import matplotlib."""
    found = importlib.util.find_spec(_FONTS)
    places = [Path(place) / _FILE for place in (found.submodule_search_locations or ())] if found is not None else []
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise PictureUnavailable("matplotlib-fontja")
    return file


@lru_cache(maxsize=4)
def _font(file: Path, size: int) -> Any:
    from PIL import ImageFont  # noqa: PLC0415 - as above

    # The other engine is a library that may be there or not, and places letters otherwise.
    return ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)
