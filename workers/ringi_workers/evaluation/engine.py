"""Under what an answer is made. Two measurements are compared, and one is taken over for another, where all of this is equal."""

import torch

from ringi_workers.adapters.attach import runtime_facts

# Raised when answering or scoring changes what comes out: what was measured before it is measured again and never compared with what comes after.
ENGINE = "2"


def answering_facts(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Versions, device and dtype, and Ringi's own way of answering and scoring."""
    return runtime_facts(device, dtype) | {"engine": ENGINE}
