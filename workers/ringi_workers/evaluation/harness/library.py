"""lm-evaluation-harness in this process: whether it is there, offline, quiet, and with templates in a sandbox. Loaded when a task needs it."""

import importlib
import importlib.metadata
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from ringi.suites.harness_patterns import Patterns
from ringi_workers.evaluation.harness.sandbox import sandbox

NAME = "lm_eval"
# The library's own seeds (lm_eval/defaults.py): DEFAULT_RANDOM_SEED, DEFAULT_OTHER_SEED.
RANDOM_SEED, OTHER_SEED = 0, 1234
_OFFLINE = (
    ("datasets.config", "HF_HUB_OFFLINE"), ("datasets.config", "HF_DATASETS_OFFLINE"), ("huggingface_hub.constants", "HF_HUB_OFFLINE"),
    ("evaluate.config", "HF_EVALUATE_OFFLINE"),
)  # fmt: skip

# Where a YAML's patterns are run.
_MATCHING = ("lm_eval.filters.extraction", "lm_eval.api.metrics")


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
    """No bars of progress; `sandboxed`: templates are rendered where nothing leads out of a document, and patterns are run by RE2.

    The library's own environment is an ordinary one, in which a template reaches every class of the process; its patterns are Python's.
    """
    tasks = "lm_eval.api.task"
    changed: list[tuple[str, str, Any]] = [(tasks, "tqdm", partial(module(tasks).tqdm, disable=True))]
    if sandboxed:
        changed += [("lm_eval.utils", "env", sandbox()), *((name, "re", Patterns) for name in _MATCHING)]
    with _replaced(changed):
        yield


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
