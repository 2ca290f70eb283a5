"""What /healthz and /readyz answer."""

from typing import Literal

from ringi.web.schemas import Schema


class Health(Schema):
    """The process answers."""

    status: str


class Dependency(Schema):
    """`needed` ones decide whether requests can be served. `unknown` was not asked, or could not be."""

    state: Literal["ok", "unavailable", "unknown"]
    needed: bool
    detail: str


class Readiness(Schema):
    """`ok`; `degraded` when requests succeed but what follows them waits; `unavailable` when requests would fail."""

    status: Literal["ok", "degraded", "unavailable"]
    dependencies: dict[str, Dependency]
