"""The words of quotas: what a project may have and use. `null` is no limit."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from ringi.web.schemas import Integer, Schema

Count = Annotated[Integer, Field(ge=0, le=2**31 - 1)]
Bytes = Annotated[Integer, Field(ge=0, le=2**53 - 1)]
Hours = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class SetQuotas(Schema):
    """All limits of a project at once; what is left out has no limit."""

    requests_per_minute: Annotated[Integer, Field(ge=1, le=10**8)] | None = None
    open_jobs: Count | None = None
    jobs_per_day: Count | None = None
    gpu_hours_per_month: Hours | None = None
    stored_bytes: Bytes | None = None


class QuotasOut(SetQuotas):
    """The limits of a project. `row_version` 0: none was ever set."""

    project: str
    row_version: int


class CountUse(Schema):
    """What is used of a limit in things or bytes; `remaining` is null without a limit."""

    used: int
    limit: int | None
    remaining: int | None


class HoursUse(Schema):
    """The same in hours."""

    used: float
    limit: float | None
    remaining: float | None


class RequestsUse(Schema):
    """What is left of the requests a minute, and after how many seconds all of them are again; all null without a limit: nobody counts then."""

    limit: int | None
    remaining: int | None
    reset_s: int | None


class ProjectUsage(Schema):
    """What a project uses now. Days and months are those of UTC by the database's clock."""

    project: str
    requests_per_minute: RequestsUse
    open_jobs: CountUse
    jobs_per_day: CountUse
    gpu_hours_per_month: HoursUse
    stored_bytes: CountUse


class TokenUsage(Schema):
    """What a token has used of its requests a minute; all null when it has no limit. `shared`: counted for all API processes together."""

    token_id: UUID | None
    requests_per_minute: int | None
    remaining: int | None
    reset_s: int | None
    shared: bool | None
