"""The most memory that this process held on a device since it was last asked to forget: resident memory on a CPU, what torch had allocated on a GPU."""

import resource
import sys
from pathlib import Path

import torch

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget(device: torch.device) -> None:
    """Let the peak begin anew (proc(5): 5 to clear_refs); where the system has no such thing for a CPU it stands since the process began."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        _REFERENCES.write_text("5")
    except OSError:
        return


def bytes_of(device: torch.device) -> int:
    """The peak in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        # In bytes on macOS, in KiB elsewhere (getrusage(2)).
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
