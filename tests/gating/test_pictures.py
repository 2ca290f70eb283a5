"""The forest plot as pixels: of the right size, with Japanese names that can be told apart, the same bytes each time."""

import io
import subprocess
import sys

import pytest
from PIL import Image

from ringi.gating.decision import decide
from ringi.gating.forest import Drawing, Words, drawing
from ringi.gating.painting import TALLEST, PictureTooLarge, painted
from ringi.gating.schemas import Decision, Measured, Requirement, Tier
from ringi.kit.digests import sha256_bytes

PLACES = ("福岡", "大阪", "札幌", "東京", "横浜")
# In the order of the lines: the first line's middle, and from one line to the next.
TOP, LINE = 46, 22


def decision() -> Decision:
    def arm(wrong: int) -> dict[str, list[Measured]]:
        slices = [{"支店": PLACES[n % len(PLACES)]} for n in range(500)]
        return {"窓口": [Measured(item=f"q{n}", slices=one, scores={"accuracy": float(n % 50 != wrong)}) for n, one in enumerate(slices)]}

    wanted = Requirement(task="窓口", metric="accuracy", margin=0.03, slices={"支店": Tier.SUPPORTING})
    return decide([wanted], arm(1), arm(2))


def picture(drawn: Drawing) -> Image.Image:
    return Image.open(io.BytesIO(painted(drawn))).convert("RGB")


def names_of(image: Image.Image, count: int) -> list[bytes]:
    """The pixels of each line's name, the line of the whole task left out."""
    tops = (2 * (TOP + LINE * line) for line in range(1, count + 1))
    return [image.crop((0, top, 2 * 290, top + 2 * LINE)).tobytes() for top in tops]


def words(*texts: str) -> Drawing:
    """One line each, where a slice's name would stand."""
    lines = tuple(Words(28, TOP + LINE * (number + 1) + LINE // 2 + 4, text) for number, text in enumerate(texts))
    return Drawing(890, TOP + LINE * (len(texts) + 1), "字", lines)


def test_it_is_twice_the_size_of_the_svg_and_in_its_colours() -> None:
    drawn = drawing(decision(), title="回答 v2 対 v1")
    image = picture(drawn)
    assert painted(drawn).startswith(b"\x89PNG\r\n\x1a\n")
    assert image.size == (2 * drawn.width, 2 * drawn.height)
    shares = {colour: count / (image.width * image.height) for count, colour in image.getcolors(1 << 24) or []}
    assert 0.8 < shares[255, 255, 255] < 0.99
    # The squares of what is no worse, and the axis.
    assert (0, 0x9E, 0x73) in shares
    assert (0x88, 0x88, 0x88) in shares


def test_japanese_names_are_drawn_and_differ_from_each_other() -> None:
    found = names_of(picture(drawing(decision(), title="支店ごと")), len(PLACES))
    blank = names_of(picture(words(*[" "] * len(PLACES))), len(PLACES))
    assert len(set(found)) == len(PLACES)
    assert not set(found) & set(blank)
    # What the font does not have is one box for all: these are told apart by nothing, so the lines above are no boxes.
    boxes = names_of(picture(words("\uac00", "\uac01")), 2)
    assert boxes[0] == boxes[1]
    assert len(set(names_of(picture(words("福", "大", "札", "ア", "ん")), 5))) == 5


def program(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


DRAW = (
    "import sys; sys.path[:0] = {path!r}\n"
    "from gating.test_pictures import decision\n"
    "from ringi.gating.forest import drawing\n"
    "from ringi.gating.painting import painted\n"
    "from ringi.kit.digests import sha256_bytes\n"
    "print(sha256_bytes(painted(drawing(decision(), title='回答'))), 'matplotlib' in sys.modules)\n"
)


def test_another_process_draws_the_same_bytes_and_loads_no_matplotlib() -> None:
    own = sha256_bytes(painted(drawing(decision(), title="回答")))
    assert program(DRAW.format(path=sys.path)) == f"{own} False"


def test_the_api_loads_nothing_for_pictures_before_the_first() -> None:
    loaded = (
        "import sys; sys.path[:0] = {path!r}\nimport ringi.api.app\nprint([name for name in ('PIL', 'matplotlib') if name in sys.modules])"
    )
    assert program(loaded.format(path=sys.path)) == "[]"


@pytest.mark.parametrize(("module", "named"), [("PIL", "pillow"), ("matplotlib_fontja", "matplotlib-fontja")])
def test_where_a_part_is_not_installed_it_says_so_and_names_the_svg(module: str, named: str) -> None:
    code = (
        "import sys; sys.path[:0] = {path!r}\n"
        # As Python marks what is not to be found.
        "sys.modules[{module!r}] = None\n"
        "from ringi.gating.forest import Drawing\n"
        "from ringi.gating.painting import PictureUnavailable, painted\n"
        "try:\n    painted(Drawing(10, 10, '', ()))\n"
        "except PictureUnavailable as why:\n    print(why.code, why.details['missing'], 'SVG' in why.next_step)\n"
    )
    assert program(code.format(path=sys.path, module=module)) == f"gate_picture_unavailable {named} True"


def test_a_picture_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(PictureTooLarge):
        painted(Drawing(890, TALLEST + 1, "", ()))
