"""How an attempt ends that brought nothing: what the work raised, no room, or no time."""

from ringi.kit.errors import RingiError


class WorkFailed(RingiError):
    """The work raised what nobody foresaw; another try may end otherwise."""

    code, status, retryable = "job_work_failed", 500, True

    def __init__(self, error: Exception) -> None:
        next_step = "It is tried again; if it keeps failing, read the worker's log."
        super().__init__(f"The work failed with {type(error).__name__}: {error}"[:2000] + ".", next_step=next_step)


class WorkPaused(RingiError):
    """The work stopped because it was asked to rest, and kept what it needs to go on."""

    code, status = "job_paused", 409

    def __init__(self, step: int) -> None:
        super().__init__(f"The work rests after step {step}.", next_step="Let it go on: ringi runs continue.", details={"step": step})


class OutOfMemory(RingiError):
    """The device has no room for the work; the same work again would need the same room."""

    code, status = "job_out_of_memory", 409


class TimeLimitExceeded(RingiError):
    """The job ran longer than its kind may."""

    code, status = "job_time_limit", 409

    def __init__(self, limit_s: int) -> None:
        super().__init__(f"The job ran longer than its limit of {limit_s} s.", next_step="Make the work smaller, then start it again.")


# What torch's allocators and libraries say; only CUDA's own allocator has a class for it.
_SAID = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether this is the allocator of a device, or Python's own, that had no more; known without torch."""
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    return named or isinstance(error, MemoryError) or any(words in str(error) for words in _SAID)
