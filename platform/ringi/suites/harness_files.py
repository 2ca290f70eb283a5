"""The files of a task of lm-evaluation-harness beside a suite: its YAML, what that includes, and its data. For the command line; nothing is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ringi.suites import refusals
from ringi.suites.reading import read_document

MAX_INCLUDES = 32
_SPLITS = ("test_split", "validation_split")


class Beside(NamedTuple):
    """A YAML with its includes put in, and the JSON lines that it names, None where it names none."""

    config: dict[str, Any]
    data: Path | None


def beside(root: Path, name: str, *, task: str) -> Beside:
    """The YAML `name` in the folder `root`. Raises SuiteHarnessInclude, SuiteHarnessCode, SuiteHarnessInvalid, SuiteYamlRefused."""
    place = _inside(root, root / name, task)
    config = _read(root, place, task, ())
    told = config.pop("dataset_kwargs", None)
    files = told.get("data_files") if isinstance(told, Mapping) and config.get("dataset_path") == "json" else None
    if told is not None and (files is None or set(told) != {"data_files"}):
        raise refusals.SuiteHarnessCode(task, "dataset_kwargs loads something else than a JSON file beside the suite")
    return Beside(config, _inside(root, place.parent / _chosen(files, config, task), task) if files is not None else None)


def _chosen(files: Any, config: Mapping[str, Any], task: str) -> str:
    """The file of the split that is asked, as the library chooses it: the test split, else the validation split."""
    if isinstance(files, Mapping):
        split = next((config[key] for key in _SPLITS if config.get(key)), None)
        files = files.get(split) if split is not None or len(files) > 1 else next(iter(files.values()), None)
    if not isinstance(files, str):
        raise refusals.SuiteHarnessInvalid(task, "data_files names no single file for the split that is asked")
    return files


def _read(root: Path, place: Path, task: str, seen: tuple[Path, ...]) -> dict[str, Any]:
    if place in seen or len(seen) > MAX_INCLUDES:
        raise refusals.SuiteHarnessInclude(task, f"'{place.name}' includes itself")
    content = place.read_bytes()
    _refuse_functions(content, task)
    config = read_document(content)
    named = config.pop("include", None) or []
    merged: dict[str, Any] = {}
    for name in named if isinstance(named, list) else [named]:
        merged |= _read(root, _inside(root, place.parent / str(name), task), task, (*seen, place))
    # The library lets what stands in the file itself win.
    return merged | config


def _inside(root: Path, place: Path, task: str) -> Path:
    found = place.resolve()
    if not found.is_relative_to(root.resolve()):
        raise refusals.SuiteHarnessInclude(task, f"'{place.name}' lies outside the suite's folder")
    if not found.is_file():
        raise refusals.SuiteHarnessInclude(task, f"there is no file '{place.name}'")
    return found


def _refuse_functions(content: bytes, task: str) -> None:
    """The library's own tag for a Python function, told by name; every other tag is refused with the rest of YAML's traps."""
    try:
        for event in yaml.parse(content, Loader=yaml.SafeLoader):
            if str(getattr(event, "tag", None) or "").startswith("!function"):
                line = event.start_mark.line + 1 if event.start_mark is not None else 0
                raise refusals.SuiteHarnessCode(task, f"'!function' in line {line} names a Python function")
    except yaml.YAMLError:
        # What is no YAML is refused by who reads it.
        return
