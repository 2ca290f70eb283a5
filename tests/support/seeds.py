"""What a test draws, it draws from a seed: the same one in every run of `make test`, so that red is somebody's change; a new one in `make proof`."""

import os
import random

_ORDINARY = 20261122


def kept_seed(variable: str) -> int:
    """The environment variable's seed, or the same as ever."""
    return int(os.environ.get(variable) or _ORDINARY)


def drawn_seed(variable: str) -> int:
    """The environment variable's seed, or one that nobody has seen."""
    return int(os.environ.get(variable) or random.SystemRandom().randrange(2**31))
