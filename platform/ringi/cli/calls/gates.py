"""Calls about suites, sweeps, what was measured, and decisions of the gate."""

from collections.abc import Iterator
from pathlib import Path
from typing import Unpack
from uuid import UUID

from ringi.cli.asked import Asked, AskedInOrder
from ringi.cli.connection import Connection, OnBytes, route
from ringi.cli.events import ServerEvent
from ringi.cli.listed import Listed
from ringi.gates.schemas import DecideGate, DecideTogether, Format, GateOut, TogetherOut
from ringi.jobs.contracts.suites import Item
from ringi.jobs.contracts.sweeps import Record
from ringi.jobs.schemas import Level
from ringi.measurements.schemas import ImportMeasurement, MeasurementOut, RequestSweep
from ringi.suites.schemas import AddCanaries, AddSuiteVersion, AdviceOut, CreateSuite, SuiteOut, SuiteVersionOut
from ringi.sweeps.schemas import SweepLine, SweepOut


class SuiteCalls:
    """`client.suites`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def create(self, project: str, name: str, *, description: str = "") -> SuiteOut:
        """A suite without versions."""
        return self._http.post(route("projects", project, "suites"), SuiteOut, CreateSuite(name=name, description=description))

    def all(self, project: str, **asked: Unpack[Asked]) -> Listed[SuiteOut]:
        """Suites of the project."""
        return self._http.items(route("projects", project, "suites"), SuiteOut, **asked)

    def get(self, project: str, name: str) -> SuiteOut:
        """One suite."""
        return self._http.get(route("projects", project, "suites", name), SuiteOut)

    def add_version(self, project: str, name: str, body: AddSuiteVersion) -> SuiteVersionOut:
        """Seal a version; equal content gives the version that exists."""
        return self._http.post(route("projects", project, "suites", name, "versions"), SuiteVersionOut, body)

    def add_canaries(self, project: str, name: str, body: AddCanaries) -> SuiteVersionOut:
        """Seal a version that asks for what a dataset's training rows hold."""
        return self._http.post(route("projects", project, "suites", name, "canaries"), SuiteVersionOut, body)

    def versions(self, project: str, name: str, **asked: Unpack[AskedInOrder]) -> Listed[SuiteVersionOut]:
        """Versions, newest first."""
        return self._http.items(route("projects", project, "suites", name, "versions"), SuiteVersionOut, **asked)

    def version(self, project: str, name: str, selector: str = "latest") -> SuiteVersionOut:
        """One version by `v1`, `latest` or digest."""
        return self._http.get(route("projects", project, "suites", name, "versions", selector), SuiteVersionOut)

    def advice(self, project: str, name: str, selector: str = "latest") -> AdviceOut:
        """What the items of a version can show."""
        return self._http.get(route("projects", project, "suites", name, "versions", selector, "advice"), AdviceOut)

    def items(self, project: str, name: str, selector: str, *, task: str) -> Listed[Item]:
        """The items of a task, in their order."""
        return self._http.items(route("projects", project, "suites", name, "versions", selector, "items"), Item, task=task)


class SweepCalls:
    """`client.sweeps`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def request(self, project: str, body: RequestSweep) -> SweepOut:
        """Measure many versions with a suite, as one job."""
        return self._http.post(route("projects", project, "sweeps"), SweepOut, body)

    def all(self, project: str, **asked: Unpack[AskedInOrder]) -> Listed[SweepLine]:
        """Sweeps of the project, newest first."""
        return self._http.items(route("projects", project, "sweeps"), SweepLine, **asked)

    def get(self, project: str, job_id: UUID) -> SweepOut:
        """One sweep with its arms."""
        return self._http.get(route("projects", project, "sweeps", str(job_id)), SweepOut)

    def events(self, project: str, job_id: UUID, *, last: str | None = None, level: Level | None = None) -> Iterator[ServerEvent | None]:
        """What `client.jobs.events` gives for the sweep's job."""
        return self._http.events(route("projects", project, "sweeps", str(job_id), "events"), last=last, level=level)

    def cancel(self, project: str, job_id: UUID, *, if_match: str | None = None) -> SweepOut:
        """Cancel the whole sweep; arms that are done stay."""
        return self._http.post(route("projects", project, "sweeps", str(job_id), "cancel"), SweepOut, if_match=if_match)

    def cancel_arm(self, project: str, job_id: UUID, measurement_id: UUID) -> SweepOut:
        """Take one arm out of it."""
        path = route("projects", project, "sweeps", str(job_id), "children", str(measurement_id), "cancel")
        return self._http.post(path, SweepOut)


class MeasurementCalls:
    """`client.measurements`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def all(self, project: str, **asked: Unpack[AskedInOrder]) -> Listed[MeasurementOut]:
        """Measurements of the project, newest first."""
        return self._http.items(route("projects", project, "measurements"), MeasurementOut, **asked)

    def get(self, project: str, measurement_id: UUID) -> MeasurementOut:
        """One measurement."""
        return self._http.get(route("projects", project, "measurements", str(measurement_id)), MeasurementOut)

    def records(self, project: str, measurement_id: UUID, *, task: str | None = None) -> Listed[Record]:
        """What was answered to each item, in the order of the suite."""
        return self._http.items(route("projects", project, "measurements", str(measurement_id), "records"), Record, task=task)

    def bring_in(self, project: str, body: ImportMeasurement) -> MeasurementOut:
        """Answers that were measured elsewhere, uploaded before."""
        return self._http.post(route("projects", project, "measurements", "imports"), MeasurementOut, body)

    def bring_in_file(
        self, project: str, file: Path, *, suite: str, base_revision: str, version: str | None, origin: str, on_bytes: OnBytes | None = None
    ) -> MeasurementOut:
        """The same, with the upload."""
        digest = self._http.upload(file, on_bytes=on_bytes).digest
        body = ImportMeasurement(suite=suite, base_revision=base_revision, version=version, records=digest, source=origin)
        return self.bring_in(project, body)


class GateCalls:
    """`client.gates`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def decide(self, project: str, body: DecideGate) -> GateOut:
        """Judge a candidate against a baseline from what was measured."""
        return self._http.post(route("projects", project, "gates"), GateOut, body)

    def together(self, project: str, body: DecideTogether) -> TogetherOut:
        """Judge many candidates at once: one decision each, corrected for their number."""
        return self._http.post(route("projects", project, "gates", "together"), TogetherOut, body)

    def all(self, project: str, **asked: Unpack[AskedInOrder]) -> Listed[GateOut]:
        """Decisions of the project, newest first."""
        return self._http.items(route("projects", project, "gates"), GateOut, **asked)

    def get(self, project: str, gate_id: UUID) -> GateOut:
        """One decision."""
        return self._http.get(route("projects", project, "gates", str(gate_id)), GateOut)

    def report(self, project: str, gate_id: UUID, written: Format = Format.MARKDOWN) -> bytes:
        """The decision as a page, for CI servers, or as a picture; texts are UTF-8."""
        return self._http.get_bytes(route("projects", project, "gates", str(gate_id), "report"), format=written.value)
