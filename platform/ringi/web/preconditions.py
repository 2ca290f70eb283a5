"""`ETag`, `If-Match` and `If-None-Match` (RFC 9110, sections 8.8.3 and 13.1).

A tag is `"<row version>-<digest>"`. The digest is of the answer's bytes, so it changes with everything that is shown, also with what is only
derived; it decides 304. The row version counts the changes of the thing itself; it decides whether a change may go on, under the row's
lock, and it is in the body too (`row_version`), so `If-Match: "7"` is enough. Things that nobody can change have a digest alone.
"""

import hashlib
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from fastapi.dependencies.models import Dependant
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import FileResponse, StreamingResponse

from ringi.db.base import Versioned
from ringi.kit.errors import InvalidInput, RingiError

IF_MATCH, IF_NONE_MATCH = "If-Match", "If-None-Match"
_DIGEST_HEX = 32
# RFC 9110, section 8.8.3: etagc is any visible character but the quote.
_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"\s*(?:,\s*)*{_TAG}(?:\s*,\s*(?:{_TAG})?)*\s*")


class PreconditionFailed(RingiError):
    """The thing is no longer what the request's `If-Match` names."""

    code, status = "precondition_failed", 412

    def __init__(self, current: int | None) -> None:
        now = "" if current is None else f" It is at version {current} now."
        super().__init__(
            f"It has changed since it was read, so nothing was done.{now}",
            next_step="Read it again, decide again, and send the new ETag as If-Match.",
            details={} if current is None else {"row_version": current},
        )


class InvalidPrecondition(InvalidInput):
    """`If-Match` or `If-None-Match` is no list of entity tags."""

    code = "invalid_precondition"

    def __init__(self, header: str) -> None:
        super().__init__(f"{header} is neither '*' nor a list of quoted entity tags.", next_step='Send the ETag as it came, or e.g. "7".')


class PreconditionNotSupported(InvalidInput):
    """`If-Match` on a route that would not look at it: better refused than ignored."""

    code = "precondition_not_supported"

    def __init__(self) -> None:
        super().__init__(
            "This route changes nothing that exists already, so it cannot honour If-Match.", next_step="Send the request without If-Match."
        )


def _parsed(header: str, text: str) -> tuple[str, ...]:
    if not _TAGS.fullmatch(text):
        raise InvalidPrecondition(header)
    return tuple(re.findall(_TAG, text))


@dataclass(frozen=True)
class Match:
    """A request's `If-Match`: `versions` that it allows, or None when it allows any (no header, or `*`)."""

    versions: frozenset[str] | None

    def check(self, session: Session, row: Versioned) -> None:
        """Lock `row` and compare; without the header there is nothing to lock for. Raises PreconditionFailed."""
        if self.versions is None:
            return
        model = type(row)
        # Not the key: rows that point at this one can still be written beside it.
        current = session.scalar(select(model.row_version).where(model.id == row.id).with_for_update(key_share=True))
        self.require(current)

    def require(self, current: int | None) -> None:
        """Compare with a version that the caller read under its own lock. Raises PreconditionFailed."""
        if self.versions is not None and str(current) not in self.versions:
            raise PreconditionFailed(current)


def if_match(
    if_match: Annotated[str | None, Header(max_length=1000, description='Change it only if it is still this: its ETag, or "row_version".')] = None,
) -> Match:  # fmt: skip
    """Read the header. Weak tags match nothing here: the comparison is strong (section 13.1.1)."""
    if if_match is None or if_match.strip() == "*":
        return Match(None)
    tags = _parsed(IF_MATCH, if_match)
    return Match(frozenset(tag[1:-1].partition("-")[0] for tag in tags if tag.startswith('"')))


IfMatch = Annotated[Match, Depends(if_match)]


def is_checked_by(dependant: Dependant) -> bool:
    """Whether a route takes `IfMatch`."""
    return any(one.call is if_match or is_checked_by(one) for one in dependant.dependencies)


def tag_of(body: bytes, row_version: int | None) -> str:
    """The strong tag of an answer."""
    digest = hashlib.sha256(body).hexdigest()[:_DIGEST_HEX]
    return f'"{digest}"' if row_version is None else f'"{row_version}-{digest}"'


def selected(request: Request, answer: Response) -> Response:
    """A read's answer with its ETag; 304 when the client has it already, 412 when `If-Match` names another one."""
    if answer.status_code != HTTPStatus.OK or isinstance(answer, FileResponse | StreamingResponse):
        return answer
    tag = tag_of(bytes(answer.body), getattr(request.state, "row_version", None))
    answer.headers["ETag"] = tag
    # Whoever keeps it asks again each time, and shares it with nobody.
    answer.headers.setdefault("Cache-Control", "private, no-cache")
    wanted = request.headers.get(IF_MATCH)
    if wanted is not None and wanted.strip() != "*" and tag not in _parsed(IF_MATCH, wanted):
        raise PreconditionFailed(getattr(request.state, "row_version", None))
    known = request.headers.get(IF_NONE_MATCH)
    if known is not None and (known.strip() == "*" or tag in {one.removeprefix("W/") for one in _parsed(IF_NONE_MATCH, known)}):
        kept = {name: answer.headers[name] for name in ("ETag", "Cache-Control")}
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=kept)
    return answer
