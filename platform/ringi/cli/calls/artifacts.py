"""Calls about what is stored and sealed: datasets, base models and adapters."""

from pathlib import Path
from typing import TypedDict, Unpack

from ringi.adapters.schemas import (
    AdapterOut,
    ChangeState,
    CreateAdapter,
    ManifestOut,
    RegisterVersion,
    VersionAccepted,
    VersionOut,
    VersionState,
)
from ringi.base_models.schemas import BaseModelOut, CreateBaseModel, RegisterRevision, RevisionOut
from ringi.cli.asked import Asked, AskedInOrder
from ringi.cli.connection import Connection, OnBytes, route
from ringi.cli.folders import adapter_files, base_files
from ringi.cli.listed import Listed
from ringi.datasets.schemas import (
    AddDatasetVersion,
    CreateDataset,
    DatasetOut,
    DatasetPolicyOut,
    DatasetTerms,
    DatasetVersionAccepted,
    DatasetVersionOut,
    SetDatasetPolicy,
)
from ringi.jobs.contracts.datasets import FileType, Recipe, RowFormat
from ringi.preflight.schemas import AskEstimate, Estimate
from ringi.training.schemas import TraceOut, TraceRows

_MOVES = {VersionState.DEPRECATED: "deprecate", VersionState.RETIRED: "retire", VersionState.REVOKED: "revoke"}


class AskedOfVersion(TypedDict, total=False):
    """What may be said of a new dataset version; the rest is as `AddDatasetVersion` says."""

    validation_fraction: float
    seed: int
    file_type: FileType | None
    row_format: RowFormat | None
    keep_validation_of: str
    recipe: Recipe
    terms: DatasetTerms


class DatasetCalls:
    """`client.datasets`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def create(self, project: str, name: str, *, description: str = "") -> DatasetOut:
        """A dataset without versions."""
        return self._http.post(_in(project, "datasets"), DatasetOut, CreateDataset(name=name, description=description))

    def all(self, project: str, **asked: Unpack[Asked]) -> Listed[DatasetOut]:
        """Datasets of the project."""
        return self._http.items(_in(project, "datasets"), DatasetOut, **asked)

    def get(self, project: str, name: str) -> DatasetOut:
        """One dataset."""
        return self._http.get(_in(project, "datasets", name), DatasetOut)

    def add_version(
        self, project: str, name: str, file: Path, *, on_bytes: OnBytes | None = None, **asked: Unpack[AskedOfVersion]
    ) -> DatasetVersionAccepted:
        """Upload a file and have it prepared, divided and sealed by a job; known bytes give the version that exists."""
        return self.seal_source(project, name, self._http.upload(file, on_bytes=on_bytes).digest, **asked)

    def seal_source(self, project: str, name: str, source: str, **asked: Unpack[AskedOfVersion]) -> DatasetVersionAccepted:
        """The same for a file that was uploaded before, by digest."""
        body = AddDatasetVersion(source=source, **asked)
        return self._http.post(_in(project, "datasets", name, "versions"), DatasetVersionAccepted, body)

    def policy(self, project: str) -> DatasetPolicyOut:
        """What the project wants of every new version, at the least."""
        return self._http.get(_in(project, "dataset-policy"), DatasetPolicyOut)

    def set_policy(self, project: str, wanted: SetDatasetPolicy, *, if_match: str | None = None) -> DatasetPolicyOut:
        """Set it for versions that are added from now on."""
        return self._http.put(_in(project, "dataset-policy"), DatasetPolicyOut, wanted, if_match=if_match)

    def trace(self, project: str, wanted: TraceRows) -> TraceOut:
        """Which rows of which versions hold a text or an id, and which adapters were trained on them."""
        return self._http.post(_in(project, "datasets", "trace"), TraceOut, wanted)

    def versions(self, project: str, name: str, **asked: Unpack[AskedInOrder]) -> Listed[DatasetVersionOut]:
        """Versions, newest first."""
        return self._http.items(_in(project, "datasets", name, "versions"), DatasetVersionOut, **asked)

    def version(self, project: str, name: str, selector: str = "latest") -> DatasetVersionOut:
        """One version by `v1`, `latest` or digest."""
        return self._http.get(_in(project, "datasets", name, "versions", selector), DatasetVersionOut)


class BaseCalls:
    """`client.bases`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def create(self, name: str, *, description: str = "") -> BaseModelOut:
        """A base model without revisions."""
        return self._http.post("/bases", BaseModelOut, CreateBaseModel(name=name, description=description))

    def all(self, **asked: Unpack[Asked]) -> Listed[BaseModelOut]:
        """Base models of the organisation."""
        return self._http.items("/bases", BaseModelOut, **asked)

    def get(self, name: str) -> BaseModelOut:
        """One base model."""
        return self._http.get(route("bases", name), BaseModelOut)

    def register(self, name: str, folder: Path, *, note: str = "", on_bytes: OnBytes | None = None) -> RevisionOut:
        """Upload a Hugging Face folder; a job computes its fingerprint and seals the revision."""
        files = self._http.upload_folder(folder, base_files(folder), on_bytes=on_bytes)
        return self._http.post(route("bases", name, "revisions"), RevisionOut, RegisterRevision(files=files, note=note))

    def revisions(self, name: str, **asked: Unpack[Asked]) -> Listed[RevisionOut]:
        """Revisions, newest first."""
        return self._http.items(route("bases", name, "revisions"), RevisionOut, **asked)

    def revision(self, name: str, selector: str = "latest") -> RevisionOut:
        """One revision by `r2`, `latest` or digest."""
        return self._http.get(route("bases", name, "revisions", selector), RevisionOut)

    def estimate(self, name: str, selector: str = "latest", *, ask: AskEstimate) -> Estimate:
        """Memory, time and cost of a training on a sealed revision."""
        given = ask.model_dump(mode="json", exclude_unset=True)
        return self._http.get(route("bases", name, "revisions", selector, "estimate"), Estimate, **given)


class AdapterCalls:
    """`client.adapters`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def create(self, project: str, name: str, *, base: str, description: str = "") -> AdapterOut:
        """An adapter without versions."""
        return self._http.post(_in(project, "adapters"), AdapterOut, CreateAdapter(name=name, base=base, description=description))

    def all(self, project: str, **asked: Unpack[Asked]) -> Listed[AdapterOut]:
        """Adapters of the project."""
        return self._http.items(_in(project, "adapters"), AdapterOut, **asked)

    def get(self, project: str, name: str) -> AdapterOut:
        """One adapter."""
        return self._http.get(_in(project, "adapters", name), AdapterOut)

    def register(
        self, project: str, name: str, folder: Path, *, base_revision: str = "latest", on_bytes: OnBytes | None = None
    ) -> VersionAccepted:
        """Upload a PEFT folder; a job inspects it and seals a version."""
        files = self._http.upload_folder(folder, adapter_files(folder), on_bytes=on_bytes)
        body = RegisterVersion(files=files, base_revision=base_revision)
        return self._http.post(_in(project, "adapters", name, "versions"), VersionAccepted, body)

    def versions(self, project: str, name: str, **asked: Unpack[Asked]) -> Listed[VersionOut]:
        """Versions, newest first."""
        return self._http.items(_in(project, "adapters", name, "versions"), VersionOut, **asked)

    def all_versions(self, project: str, **asked: Unpack[Asked]) -> Listed[VersionOut]:
        """Versions of every adapter of the project, newest first."""
        return self._http.items(_in(project, "versions"), VersionOut, **asked)

    def version(self, project: str, name: str, selector: str = "latest") -> VersionOut:
        """One version by `v3`, `latest`, a channel, a digest or a commit; `channel@TIME` and `latest@TIME` are what these meant then."""
        return self._http.get(_in(project, "adapters", name, "versions", selector), VersionOut)

    def manifest(self, project: str, name: str, selector: str) -> ManifestOut:
        """The canonical manifest of a version."""
        return self._http.get(_in(project, "adapters", name, "versions", selector, "manifest"), ManifestOut)

    def advance(self, project: str, name: str, selector: str, *, to: VersionState, reason: str, if_match: str | None = None) -> VersionOut:
        """Deprecate, retire or revoke."""
        path = _in(project, "adapters", name, "versions", selector, _MOVES[to])
        return self._http.post(path, VersionOut, ChangeState(reason=reason), if_match=if_match)


def _in(project: str, *segments: str) -> str:
    return route("projects", project, *segments)
