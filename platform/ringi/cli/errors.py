"""What the command line and the client can end with, and the exit code of each.

0 done; 1 the platform refused, or the job failed; 2 wrong usage; 3 the server cannot be reached; 130 interrupted.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ringi.kit.errors import RingiError

REFUSED, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130


class ApiError(RingiError):
    """A refusal as the platform sent it: `code`, `status`, `message`, `next_step` and `details` are the platform's own."""

    code, status = "api_error", 500

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int,
        next_step: str = "",
        details: Mapping[str, Any] | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message, next_step=next_step, details=details)
        self.code = code  # type: ignore[misc]  # each answer has its own
        self.status = status  # type: ignore[misc]
        self.request_id = request_id


class Unreachable(RingiError):
    """No answer from the server."""

    code, status = "server_unreachable", 503

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(
            f"The server {server} cannot be reached: {reason}.",
            next_step="Start it (ringi up), or name another one: ringi login --server URL, or RINGI_SERVER.",
            details={"server": server},
        )


class AnswerNotUnderstood(RingiError):
    """An answer that does not have the documented shape: another version of the platform, or no Ringi at all."""

    code, status = "answer_not_understood", 502

    def __init__(self, server: str, route: str, reason: str) -> None:
        super().__init__(
            f"{server} answered {route} in a shape that this client does not know: {reason}.",
            next_step="Check the server's address, and that client and server are of one version.",
        )


class Usage(RingiError):
    """The command was written wrongly; nothing was sent."""

    code, status = "usage", 400


class FileChanged(Usage):
    """A file became shorter or longer while it was being sent."""

    code = "file_changed"

    def __init__(self, path: Path) -> None:
        super().__init__(f"'{path}' changed while it was being sent.", next_step="Wait until nothing writes to it, then send it again.")


def plain(message: str) -> str:
    """What a rule of ours says, without what pydantic writes before it."""
    return message.removeprefix("Value error, ")


class BadValue(Usage):
    """A value does not have the documented form."""

    code = "bad_value"

    def __init__(self, fields: Mapping[str, str]) -> None:
        found = "; ".join(f"{name}: {plain(what)}" if name else plain(what) for name, what in fields.items())
        super().__init__(
            f"A value cannot be accepted: {found}.", next_step="Compare it with the command's --help.", details={"fields": dict(fields)}
        )


class JobFailed(RingiError):
    """A job that was waited for ended without a result. `code` and `details` are those of the job's error."""

    code, status = "job_failed", 409

    def __init__(self, job: str, *, kind: str, state: str, error: Mapping[str, Any] | None) -> None:
        known = error or {}
        super().__init__(
            known.get("message") or f"The {kind} job {job} is '{state}'.",
            next_step=known.get("next_step")
            or ("Let it go on: ringi runs continue." if state == "paused" else f"Read more: ringi jobs show {job}."),
            details={**known.get("details", {}), "job": job, "state": state},
        )
        self.code = known.get("code") or f"job_{state}"  # type: ignore[misc]


def exit_code_of(error: RingiError) -> int:
    """The exit code that a script can tell apart."""
    if isinstance(error, Unreachable):
        return UNREACHABLE
    return USAGE if isinstance(error, Usage) else REFUSED
