"""How a run ends that brings no adapter."""

from collections.abc import Sequence

from ringi.kit.errors import RingiError

_NAMED = 20


class TrainingCancelled(RingiError):
    """Somebody asked the run to stop."""

    code, status = "training_cancelled", 409

    def __init__(self, step: int) -> None:
        super().__init__(
            f"The run was cancelled after step {step}.", next_step="Start a new run when you want one.", details={"step": step}
        )


class TrainingDiverged(RingiError):
    """Loss or gradient became NaN or infinite; another try from the same spec would end the same way.

    `rows` are those whose own loss is not finite, or all rows of the step where each by itself is.
    """

    code, status = "training_diverged", 400

    def __init__(self, step: int, what: str, rows: Sequence[int]) -> None:
        named = ", ".join(map(str, rows[:_NAMED])) + (f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else "")
        super().__init__(
            f"The {what} was not finite at step {step}, in rows {named} (counted from 1, without rows that have nothing to learn).",
            next_step="Look at these rows, or start a run with a lower learning rate or more warm-up.",
            details={"step": step, "what": what, "rows": list(rows)},
        )


class PackingUnsupported(RingiError):
    """Packing was asked for, and the base does not keep packed rows apart."""

    code, status = "training_packing_unsupported", 400

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"Rows cannot be packed on this base: {reason}.", next_step="Start a run with packing auto or off: its rows are then padded."
        )


class TrainingOutOfMemory(RingiError):
    """The device has no room for a forward and backward pass over a single row."""

    code, status = "training_out_of_memory", 409

    def __init__(self, step: int, tokens: int) -> None:
        super().__init__(
            f"A single row of {tokens} tokens does not fit the memory of the device at step {step}.",
            next_step="Use gradient checkpointing, a shorter max_length, or a larger device.",
            details={"step": step, "tokens": tokens},
        )
