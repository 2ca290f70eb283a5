"""Tests of identity name people whom nobody has asked for anything yet."""

import pytest

from support.running_platform import Platform
from support.shell import shell

__all__ = ["shell"]


@pytest.fixture
def platform(platform: Platform) -> Platform:
    """An organisation whose people have all joined."""
    return platform.with_everybody()
