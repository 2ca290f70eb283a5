"""What every request and response model shares. Imports pydantic alone, so that the client can load it quickly."""

from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, StringConstraints

Item = TypeVar("Item")


def _not_git(name: str) -> str:
    if name.endswith(".git"):
        raise ValueError("a name must not end in '.git': hub clients refuse it")
    return name


# A name becomes part of a hub repository id, so it follows the hub's rules too: no '--', no '..', no '.git' at its end.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(?:[._-][a-z0-9]+)*$", max_length=63), AfterValidator(_not_git)]
# Line breaks and tabs are text; other control characters and overrides of the writing direction could forge what a reader sees.
PRINTABLE = r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]*$"
Text = Annotated[str, StringConstraints(max_length=2000, pattern=PRINTABLE)]
Reason = Annotated[str, StringConstraints(min_length=10, max_length=2000, strip_whitespace=True, pattern=PRINTABLE)]

# What names a version or a revision: `v2`, `r1`, `latest`, a digest, a commit, a channel; `production@2026-11-01T00:00Z` is what the channel
# served then. ASCII alone, so that it can be stored and compared.
Selector = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,80}(@[0-9TZ:.+-]{10,32})?$")]

# A secret in an answer: shown once, and where the answer is kept for a repeated request, it is kept encrypted (web/route.py).
Secret = Annotated[str, Field(json_schema_extra={"format": "password"})]


# A JSON integer. Without this a body's `false` would count as 0 and "12" as 12.
Integer = Annotated[int, Strict()]
# The same of true and false, for which 1 and "yes" would count.
Truth = Annotated[bool, Strict()]


class Schema(BaseModel):
    """Closed models: an unknown field is an error, in both directions."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


class Problem(BaseModel):
    """A refusal, or what went wrong (RFC 9457). `code` is stable; `details` is what the refusal carries."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    next_step: str
    request_id: str | None
    details: dict[str, Any] = {}


class Page(Schema, Generic[Item]):
    """One page of a list, newest first unless the list says otherwise; `next_cursor` is null on the last page.

    `total` counts what is listed on all pages, when it was asked for (`count=true`); with `total_exact` false there are at least so many.
    """

    items: list[Item]
    next_cursor: str | None
    total: int | None = None
    total_exact: bool | None = None
