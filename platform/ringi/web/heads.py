"""What in a request could be read in two ways, or would be left unread, is refused: better than a guess that differs from the caller's."""

from typing import Any

from fastapi import Request
from fastapi.dependencies.models import Dependant
from pydantic import BaseModel

from ringi.kit.errors import InvalidInput, RingiError

# Each has one value (RFC 9110, section 5.3); of two, a proxy might believe one and this server the other.
_SINGLE = (
    "authorization",
    "content-encoding",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "last-event-id",
    "range",
    "x-csrf-token",
)
_MAX_SHOWN = 80


class RepeatedHeader(InvalidInput):
    """A header that has one value came several times."""

    code, status = "repeated_header", 400

    def __init__(self, name: str) -> None:
        super().__init__(f"The header {name} came more than once; nothing was done.", next_step="Send it once.", details={"header": name})


class UnsupportedContentEncoding(RingiError):
    """The body is said to be compressed; nothing here decompresses (RFC 9110, section 15.5.16)."""

    code, status = "unsupported_content_encoding", 415

    def __init__(self, encoding: str) -> None:
        super().__init__(
            f"The body is said to be encoded as {encoding[:_MAX_SHOWN]!a}; bodies are read as they are.",
            next_step="Send the body without Content-Encoding.",
        )
        self.answer_headers = {"Accept-Encoding": "identity"}


class UnknownParameter(InvalidInput):
    """A query parameter that the route does not have: left out, it would answer something else than was asked."""

    code, status = "unknown_parameter", 422

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(
            f"There is no query parameter '{name[:_MAX_SHOWN]}' here.",
            next_step=f"There are: {', '.join(known)}." if known else "Send the request without query parameters.",
            details={"parameters": known},
        )


def check_head(request: Request) -> None:
    """Raises RepeatedHeader, UnsupportedContentEncoding."""
    names = [name.decode("latin-1") for name, _ in request.scope["headers"]]
    for name in _SINGLE:
        if names.count(name) > 1:
            raise RepeatedHeader(name)
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in {"", "identity"}:
        raise UnsupportedContentEncoding(encoding)


def parameters_of(dependant: Dependant) -> frozenset[str]:
    """The names of a route's query parameters, its dependencies' included."""
    own = (_names(parameter.alias, parameter.field_info.annotation) for parameter in dependant.query_params)
    return frozenset().union(*own, *(parameters_of(one) for one in dependant.dependencies))


def _names(alias: str, annotation: Any) -> frozenset[str]:
    """A parameter's name, or the fields of a model that stands for all parameters of a route."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return frozenset(field.alias or name for name, field in annotation.model_fields.items())
    return frozenset({alias})


def check_parameters(request: Request, known: frozenset[str]) -> None:
    """Raises UnknownParameter."""
    for name in request.query_params:
        if name not in known:
            raise UnknownParameter(name, sorted(known))
