"""A refusal is an answer with a stable code: `with refused("self_approval", 403) as why: …`, then `why.details`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from ringi.kit.errors import RingiError


@dataclass
class Refusal:
    """What was answered; filled when the block has ended."""

    message: str = ""
    next_step: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def codes(self) -> set[str]:
        """The codes of the listed reasons."""
        return {reason["code"] for reason in self.details.get("reasons", [])}


@contextmanager
def refused(code: str, status: int | None = None) -> Iterator[Refusal]:
    """The block is refused under `code`, with `status`, and with an explanation."""
    refusal = Refusal()
    with pytest.raises(RingiError) as caught:
        yield refusal
    error = caught.value
    assert error.code == code, f"{error.code}: {error}"
    assert status is None or error.status == status
    refusal.message, refusal.next_step, refusal.details = error.message, error.next_step, error.details
    assert refusal.message
    assert refusal.next_step
