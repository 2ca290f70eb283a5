"""The files of a pilot: the figures that the user enters, and what is written for people and programs."""

import os
from pathlib import Path

from pydantic import ValidationError

from ringi.cli.errors import Usage
from ringi.cli.output import note
from ringi.gating.painting import PictureUnavailable, painted
from ringi.pilots.page import page, writer
from ringi.pilots.pictures import effort_picture, quality_picture
from ringi.pilots.schemas import Figures, Language, Report
from ringi.suites.reading import SuiteYamlRefused, read_document

_MOST_BYTES = 64 * 1024


class FiguresRefused(Usage):
    """The file of figures cannot be read, or holds something else."""

    code = "pilot_figures_refused"

    def __init__(self, path: Path | None, reasons: list[str]) -> None:
        super().__init__(
            f"The figures {f'in {path.name}' if path is not None else 'of the options'} cannot be used: {'; '.join(reasons)}.",
            next_step="Write them as in docs/pilot.md: one 'name: number' a line.",
            details={"reasons": reasons},
        )


class FolderRefused(Usage):
    """Nothing can be written where the result was wanted."""

    code = "pilot_folder_refused"

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"'{path}' cannot be written to: {reason}.", next_step="Name another folder: --out.")


def figures_of(path: Path | None, given: dict[str, object]) -> Figures:
    """What the file says, and over it what was given as options (None: not given). Raises FiguresRefused."""
    told = _read(path) if path is not None else {}
    try:
        return Figures.model_validate(told | {name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        reasons = [f"{'.'.join(str(step) for step in one['loc'])}: {one['msg']}" for one in error.errors()]
        raise FiguresRefused(path, reasons) from None


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES)
        return dict(read_document(content))
    except OSError as error:
        raise FiguresRefused(path, [f"it cannot be read ({error.strerror})"]) from None
    except SuiteYamlRefused:
        raise FiguresRefused(path, ["it is no list of 'name: number' in UTF-8"]) from None


def folder_of(path: Path) -> Path:
    """The folder, made where it was not. Raises FolderRefused: before anything is trained for it."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderRefused(path, error.strerror or str(error)) from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise FolderRefused(path, "you may not write there")
    return path


def written(report: Report, folder: Path, language: Language) -> list[Path]:
    """`pilot.json`, `pilot.html` and the pictures, which stand in the page too. Without the extra `pictures` there are no PNG, and that is said."""
    words = writer(report, language)
    files = {
        "pilot.json": (report.model_dump_json(indent=1) + "\n").encode(),
        "pilot.html": page(report, language).encode(),
    }
    try:
        files |= {"quality.png": painted(quality_picture(report, words)), "effort.png": painted(effort_picture(report, words))}
    except PictureUnavailable as refusal:
        note(f"{refusal.message} {refusal.next_step}")
    for name, content in files.items():
        try:
            (folder / name).write_bytes(content)
        except OSError as error:
            raise FolderRefused(folder / name, error.strerror or str(error)) from None
    return [folder / name for name in files]
