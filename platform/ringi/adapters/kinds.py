"""Adapters, and the weights of a whole model (full fine-tuning): what is no adapter is refused wherever it would be taken for one.

An engine that is told to load a whole model as an adapter fails at best; at worst it serves the base as if nothing had been trained.
"""

from ringi.adapters.models import AdapterVersion
from ringi.adapters.schemas import VersionKind
from ringi.kit.errors import Conflict


class FullWeights(Conflict):
    """The version is the weights of a whole model, which have a base in themselves and are not put on one."""

    code = "version_full_weights"

    def __init__(self, reference: str, what: str, next_step: str) -> None:
        super().__init__(f"{reference} is full weights and no adapter: {what}.", next_step=next_step)


def require_adapter(version: AdapterVersion, *, reference: str, what: str, next_step: str) -> None:
    """Raises FullWeights; `what` says why it takes an adapter."""
    if version.kind is VersionKind.FULL_WEIGHTS:
        raise FullWeights(reference, what, next_step)
