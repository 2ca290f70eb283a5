"""Calls about the server itself; they need no token."""

from ringi.api.health_schemas import Health, Readiness
from ringi.cli.connection import Connection


class HealthCalls:
    """`client.health`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def alive(self) -> Health:
        """The process answers."""
        return self._http.get_beside("/healthz", Health)

    def ready(self) -> Readiness:
        """How each dependency stands; also an unready server gives this answer."""
        return self._http.get_beside("/readyz", Readiness)
