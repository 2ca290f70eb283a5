"""One line for each event of a process, on standard error: JSON where a machine reads it, plain words where a person does.

`RINGI_LOG_FORMAT=auto` means JSON in production and wherever standard error is no terminal. Fields of a JSON line: `time` (UTC, RFC 3339),
`level`, `logger`, `message`, `process`, those of `context.py`, `trace_id` and `span_id`, what the writer added with `extra=`, and `error`.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

from ringi.observe import context, metrics, tracing
from ringi.observe.redaction import redact, secrets_of
from ringi.settings import Settings, get_settings

# What every record has; the rest was added by the writer of the line.
_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
# These tell every request that they send, with its whole address, which may be signed.
_TALKATIVE = ("httpx", "httpx2", "httpcore", "urllib3", "botocore", "boto3", "s3transfer", "opentelemetry")
# uvicorn brings handlers of its own, which know no request.
_TAKEN_OVER = ("uvicorn", "uvicorn.error")
# Says less of a request than our own line does; without a handler uvicorn does not even put it together.
_REPLACED = "uvicorn.access"
_LONGEST = 20_000


class Line(logging.Formatter):
    """What both forms have in common."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._process = settings.process_name
        self._secrets = secrets_of(settings)

    def clean(self, value: object) -> str:
        """A value as text without secrets, cut where no reader would go on."""
        return redact(str(value), self._secrets)[:_LONGEST]

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """What is known about the line beyond its words."""
        added = {name: value for name, value in vars(record).items() if name not in _OWN and value is not None}
        # Ids are ours, or were looked at when they came in; only what the writer added may hold anything.
        cleaned = {name: value if isinstance(value, int | float) else self.clean(value) for name, value in added.items()}
        return {**context.current(), **tracing.current_ids(), **cleaned}

    def story(self, record: logging.LogRecord) -> str:
        """The traceback, empty without an error."""
        return self.clean(self.formatException(record.exc_info)) if record.exc_info and record.exc_info[0] else ""


class JsonLine(Line):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """A line without its line feed."""
        document: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.clean(record.getMessage()),
            "process": self._process,
        } | {name: value for name, value in self.fields(record).items() if name not in {"time", "level", "logger", "message", "process"}}
        if story := self.story(record):
            document["error"] = {"type": record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else "", "story": story}
        return json.dumps(document, ensure_ascii=False)


class PlainLine(Line):
    """Time, level, logger and words, then what is known in brackets; an error's story below."""

    def format(self, record: logging.LogRecord) -> str:
        """A line without its line feed; what a caller sent cannot begin a line of its own."""
        words = self.clean(record.getMessage()).replace("\r", "\\r").replace("\n", "\\n")
        known = " ".join(f"{name}={value}" for name, value in self.fields(record).items())
        line = f"{self.formatTime(record)} {record.levelname} {record.name} {words}" + (f"  [{known}]" if known else "")
        story = self.story(record)
        return f"{line}\n{story}" if story else line


class Counted(logging.StreamHandler[Any]):
    """Counts what is worse than information."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line."""
        if record.levelno >= logging.WARNING:
            metrics.LOG_LINES.labels(record.levelname.lower()).inc()
        super().emit(record)


def wants_json(settings: Settings) -> bool:
    """Whether lines are for a machine."""
    if settings.log_format == "auto":
        return settings.profile == "production" or not sys.stderr.isatty()
    return settings.log_format == "json"


def configure() -> None:
    """Log to standard error, once; a process that has its own logging already, such as a test, keeps it."""
    root = logging.getLogger()
    if root.handlers:
        return
    settings = get_settings()
    handler = Counted(sys.stderr)
    handler.setFormatter(JsonLine(settings) if wants_json(settings) else PlainLine(settings))
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    logging.captureWarnings(capture=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _TAKEN_OVER:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger(_REPLACED).handlers.clear()
    logging.getLogger(_REPLACED).propagate = False
