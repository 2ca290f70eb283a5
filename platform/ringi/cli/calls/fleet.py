"""Calls about the workers and what there is to do for them."""

from ringi.cli.connection import Connection, route
from ringi.fleet.schemas import ChangeWorker, Device, WorkerOut
from ringi.jobs.schemas import DemandOut


class WorkerCalls:
    """`client.workers`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def all(self) -> list[WorkerOut]:
        """The workers that serve one's organisation, by name."""
        return self._http.get_list("/workers", WorkerOut)

    def get(self, name: str) -> WorkerOut:
        """One worker."""
        return self._http.get(route("workers", name), WorkerOut)

    def cordon(self, name: str, *, reason: str, if_match: str | None = None) -> WorkerOut:
        """Let it take no more jobs."""
        return self._http.post(route("workers", name, "cordon"), WorkerOut, ChangeWorker(reason=reason), if_match=if_match)

    def uncordon(self, name: str, *, reason: str, if_match: str | None = None) -> WorkerOut:
        """Let it take jobs again."""
        return self._http.post(route("workers", name, "uncordon"), WorkerOut, ChangeWorker(reason=reason), if_match=if_match)

    def drain(self, name: str, *, reason: str, if_match: str | None = None) -> WorkerOut:
        """Let it finish what it has, and end."""
        return self._http.post(route("workers", name, "drain"), WorkerOut, ChangeWorker(reason=reason), if_match=if_match)

    def demand(self, queue: str, *, device: Device | None = None, memory_bytes: int | None = None) -> DemandOut:
        """How many workers the queue could keep busy."""
        return self._http.get(route("queues", queue, "demand"), DemandOut, device=device, memory_bytes=memory_bytes)
