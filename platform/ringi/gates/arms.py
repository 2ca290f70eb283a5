"""Finds the two measurements that a decision is about. It never falls back on something that happens to be there."""

from collections.abc import Sequence
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from ringi.adapters import service as adapters
from ringi.adapters.models import AdapterVersion, ChannelHead
from ringi.base_models.models import BaseRevision
from ringi.gates import refusals
from ringi.gates.schemas import MissingMeasurement
from ringi.identity.models import Project
from ringi.identity.permissions import visible
from ringi.kit.actor import Actor
from ringi.measurements import service as measurements
from ringi.measurements.models import Measurement
from ringi.measurements.schemas import MeasurementState
from ringi.suites.models import SuiteVersion

Which = Literal["candidate", "baseline"]


class Pair(NamedTuple):
    """What is judged, and what it is compared with."""

    candidate: Measurement
    baseline: Measurement


class Arms:
    """Of one suite's version in one project."""

    def __init__(self, session: Session, actor: Actor, project: Project, suite: SuiteVersion) -> None:
        self.session, self.actor, self.project, self.suite = session, actor, project, suite
        self.suite_name = f"{project.name}/{suite.suite.name}:v{suite.number}"

    def pair(self, candidate: str, baseline: str, *, base_revision: str | None = None) -> Pair:
        """Candidate and baseline in the caller's words, of one runtime. Raises the refusals of `refusals.py`."""
        candidates = self._candidates(candidate, base_revision)
        return self.paired(candidates, baseline)

    def paired(self, candidates: Sequence[Measurement], baseline: str) -> Pair:
        """The same for candidates that are known, newest first: all of one version on one base revision."""
        baselines = self.baselines(baseline, candidates[0].version, candidates[0].base_revision)
        # The newest pair of one runtime; without any, the newest of each tells what differs.
        for one in candidates:
            for other in baselines:
                if one.id == other.id:
                    raise refusals.BaselineIsCandidate(name_of(one))
                if one.runtime_digest == other.runtime_digest and _tells(one, other):
                    return Pair(one, other)
        one, other = candidates[0], baselines[0]
        if one.runtime_digest == other.runtime_digest:
            raise refusals.StoppedAgainstAnother(name_of(one), str((one.stopped or {}).get("baseline_name")), name_of(other))
        mine, theirs = one.runtime or {}, other.runtime or {}
        differing = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
        both = [self._missing("candidate", one.version, one.base_revision), self._missing("baseline", other.version, other.base_revision)]
        raise refusals.RuntimeDiffers(name_of(one), name_of(other), differing, both)

    def _candidates(self, candidate: str, base_revision: str | None) -> Sequence[Measurement]:
        if (named := self.by_id(candidate, "candidate")) is not None:
            return [named]
        version = measurements.version_named(self.session, self.actor, project=self.project, name=candidate)
        revision = version.base_revision
        if base_revision is not None:
            revision = measurements.revision_named(self.session, self.actor, base_revision)
        # What was measured whole says more than what was stopped.
        found = self._known(version, revision) or self._known(version, revision, MeasurementState.STOPPED)
        return found or self._measured("candidate", version, revision)

    def baselines(self, asked: str, version: AdapterVersion | None, revision: BaseRevision) -> Sequence[Measurement]:
        """What `asked` names for a candidate `version` that was, or will be, measured on `revision`; newest first, at least one."""
        if (named := self.by_id(asked, "baseline")) is not None:
            return [named]
        if asked == "base":
            return self._measured("baseline", None, revision)
        word, _, channel = asked.partition(":")
        if word == "channel" and channel:
            found = self._served(channel, version)
        else:
            found = measurements.version_named(self.session, self.actor, project=self.project, name=asked)
        # What is compared with was measured where it runs: on the base that it was trained on, or on the candidate's.
        own = self._known(found, found.base_revision) or self._known(found, revision)
        return own or self._measured("baseline", found, found.base_revision)

    def by_id(self, text: str, which: Which) -> Measurement | None:
        """The measurement whose id `text` is; None where it is no id."""
        try:
            wanted = UUID(text)
        except ValueError:
            return None
        one = measurements.find(self.session, self.actor, project=self.project, measurement_id=wanted)
        if one.suite_version_id != self.suite.id:
            other = one.suite_version
            raise refusals.SuitesDiffer(which, self.suite_name, f"{self.project.name}/{other.suite.name}:v{other.number}")
        if one.state != MeasurementState.MEASURED and (which == "baseline" or one.state != MeasurementState.STOPPED):
            raise refusals.NotMeasured(which, str(one.state))
        return one

    def _served(self, channel: str, candidate: AdapterVersion | None) -> AdapterVersion:
        if candidate is None:
            raise refusals.NothingServed(channel, "a bare base")
        adapter = candidate.adapter
        # unscoped: the caller holds the candidate already.
        head = select(ChannelHead.version_id).where(ChannelHead.adapter_id == adapter.id, ChannelHead.channel == channel)
        # By its id and not by `adapter:channel`: a channel may be called like a version.
        served = visible(self.actor, AdapterVersion).where(AdapterVersion.id == head.scalar_subquery()).options(*adapters.loads())
        version = self.session.scalars(served).one_or_none()
        if version is None:
            raise refusals.NothingServed(channel, adapter.reference)
        return version

    def _measured(self, which: Which, version: AdapterVersion | None, revision: BaseRevision) -> Sequence[Measurement]:
        """What was measured, or a refusal that says what to measure."""
        found = self._known(version, revision)
        if not found:
            raise refusals.MeasurementMissing(self._missing(which, version, revision))
        return found

    def _missing(self, which: Which, version: AdapterVersion | None, revision: BaseRevision) -> MissingMeasurement:
        base = f"{revision.base_model.name}:r{revision.number}"
        named = f"{version.adapter.reference}:v{version.number}" if version else None
        return MissingMeasurement(which=which, version=named, base=base, suite=self.suite_name, include_base=version is None)

    def _known(
        self, version: AdapterVersion | None, revision: BaseRevision, state: MeasurementState = MeasurementState.MEASURED
    ) -> Sequence[Measurement]:
        """What was measured here, newest first; what was brought in is named by its id alone."""
        query = measurements.listed(self.actor).where(
            Measurement.project_id == self.project.id, Measurement.suite_version_id == self.suite.id,
            Measurement.base_revision_id == revision.id, Measurement.version_id.is_not_distinct_from(version.id if version else None),
            Measurement.state == state, Measurement.imported_from.is_(None),
        )  # fmt: skip
        return self.session.scalars(query.order_by(Measurement.id.desc()).limit(20)).all()


def _tells(candidate: Measurement, baseline: Measurement) -> bool:
    """A measurement that was stopped says something of the records that it was compared with, and of no others."""
    return candidate.stopped is None or candidate.stopped["baseline_records"] == baseline.records_digest


def name_of(one: Measurement) -> str:
    """What was measured: a version, or a bare base; with the base where it is not the one that the version was trained on."""
    base = f"{one.base_revision.base_model.name}:r{one.base_revision.number}"
    if one.version is None:
        return base
    name = f"{one.version.adapter.reference}:v{one.version.number}"
    return name if one.version.base_revision_id == one.base_revision_id else f"{name} on {base}"
