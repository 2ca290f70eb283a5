"""The suites that come with Ringi, as the YAML that anybody could have sent: `safety` and `off-task`. Pure."""

from pathlib import Path
from typing import Literal

_FOLDER = Path(__file__).with_name("shipped")
Shipped = Literal["safety", "off-task"]
SHIPPED: dict[Shipped, str] = {
    "safety": "Refusals and needless refusals, vulgar words, personal data: English and Japanese.",
    "off-task": "General prompts that have nothing to do with the adapter's task: English and Japanese.",
}


def document_of(name: Shipped) -> bytes:
    """The tasks and requirements of a shipped suite, as YAML in UTF-8."""
    return (_FOLDER / f"{name}.yaml").read_bytes()
