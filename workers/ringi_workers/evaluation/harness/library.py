"""lm-evaluation-harness in this process: whether it is there, offline, quiet, and with templates in a sandbox. Loaded when a task needs it."""

import importlib
import importlib.metadata
import logging
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from jinja2 import BaseLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ringi.suites.harness_words import check_pattern

NAME = "lm_eval"
# The library's own seeds (lm_eval/defaults.py): DEFAULT_RANDOM_SEED, DEFAULT_OTHER_SEED.
RANDOM_SEED, OTHER_SEED = 0, 1234
_OFFLINE = (
    ("datasets.config", "HF_HUB_OFFLINE"), ("datasets.config", "HF_DATASETS_OFFLINE"), ("huggingface_hub.constants", "HF_HUB_OFFLINE"),
    ("evaluate.config", "HF_EVALUATE_OFFLINE"),
)  # fmt: skip


def version() -> str | None:
    """Its version, None where it is not installed."""
    try:
        return importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        return None


def module(name: str) -> Any:
    """A module of the library or of what it brings; it says what it does to nobody but errors."""
    logging.getLogger(NAME).setLevel(logging.ERROR)
    return importlib.import_module(name)


@contextmanager
def offline(*, unless: bool) -> Iterator[None]:
    """Nothing is fetched within, whatever the environment says; `unless` leaves the environment's word."""
    if unless:
        yield
        return
    with _replaced([(*place, True) for place in _OFFLINE]):
        yield


@contextmanager
def seeded() -> Iterator[None]:
    """The generators of the process as the library sets them before it begins, and afterwards as they were."""
    kept = random.getstate(), np.random.get_state()  # noqa: NPY002  # those that tasks of the library draw from
    random.seed(RANDOM_SEED)
    np.random.seed(OTHER_SEED)  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(OTHER_SEED)
            yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002


@contextmanager
def rendering(*, sandboxed: bool) -> Iterator[None]:
    """No bars of progress; `sandboxed`: templates are rendered where nothing leads out of a document.

    The library's own environment is an ordinary one, in which a template reaches every class of the process.
    """
    tasks = "lm_eval.api.task"
    changed: list[tuple[str, str, Any]] = [(tasks, "tqdm", partial(module(tasks).tqdm, disable=True))]
    if sandboxed:
        changed.append(("lm_eval.utils", "env", _sandbox()))
    with _replaced(changed):
        yield


@cache
def _sandbox() -> ImmutableSandboxedEnvironment:
    found = ImmutableSandboxedEnvironment(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)
    found.filters["regex_replace"] = _regex_replace
    return found


def _regex_replace(text: str, pattern: str, replacement: str, count: int = 0) -> str:
    check_pattern(pattern)
    return re.sub(pattern, replacement, text, count=count)


@contextmanager
def _replaced(values: list[tuple[str, str, Any]]) -> Iterator[None]:
    """Module attributes with other values; a worker runs one job at a time."""
    before = [(module(name), attribute, getattr(module(name), attribute)) for name, attribute, _ in values]
    try:
        for name, attribute, value in values:
            setattr(module(name), attribute, value)
        yield
    finally:
        for owner, attribute, value in before:
            setattr(owner, attribute, value)
