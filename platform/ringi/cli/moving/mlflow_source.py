"""The registered models of an MLflow server as a source: what `plan.py` needs to know of each version."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from io import BytesIO
from math import isfinite, isnan
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ringi.adapters import files as adapter_files
from ringi.adapters.files import CONFIG, WEIGHTS
from ringi.cli.connection import OnBytes
from ringi.cli.moving.mlflow_api import Metric, ModelVersion, RegisteredModel, Run, RunInfo, Tag, TrackingServer
from ringi.cli.moving.mlflow_artifacts import Entry, Place, download, download_to, peft_folder, place_of
from ringi.cli.moving.plan import Found, Sight
from ringi.cli.moving.refusals import ArtifactsOutOfReach, NotMoved, SourceNotUnderstood, SourceRefused
from ringi.kit.digests import sha256_file
from ringi.origins.record import document_of
from ringi.origins.schemas import Facts, RecordOrigin, SourceFile

MAX_CONFIG_BYTES = 256 * 1024
_GONE = 404
# What MLflow itself writes beside a user's tags; of it only what tells the source of a run is kept.
_KEPT_OF_MLFLOW = frozenset({"mlflow.user", "mlflow.source.name", "mlflow.source.type", "mlflow.source.git.commit"})


class NotReady(NotMoved):
    """The registry never got all of the version."""

    code = "version_not_ready"

    def __init__(self, status: str) -> None:
        super().__init__(f"Its status in the registry is {status}.", next_step="Wait until it is READY, or delete it there.")


class MlflowSource:
    """Models whose name fits one of `patterns` (shell style); every name without any. `limit` bounds the bytes of one version."""

    system = "mlflow"

    def __init__(self, server: TrackingServer, patterns: Sequence[str], *, limit: int) -> None:
        self.server, self.limit = server, limit
        self.address = server.server
        self._models = {
            model.name: model for model in server.models() if not patterns or any(fnmatchcase(model.name, one) for one in patterns)
        }

    def names(self) -> list[str]:
        """By name, so that two runs say the same."""
        return sorted(self._models)

    def named(self, name: str) -> str | None:  # noqa: ARG002  # a source that has a mapping answers here
        """None: names are mapped, or renamed by the user."""
        return None

    def versions(self, name: str) -> Iterator[Found]:
        """Oldest first."""
        model = self._models[name]
        for version in self.server.versions(name):
            aliases = sorted(alias.alias for alias in model.aliases if alias.version == version.version)
            yield Found(name, version.version, aliases, None, partial(self._look, model, version, aliases))

    def _look(self, model: RegisteredModel, version: ModelVersion, aliases: list[str]) -> Sight:
        if version.status not in {"", "READY"}:
            raise NotReady(version.status)
        run = self._run(version)
        try:
            uri = self.server.artifact_uri(version)
            place = place_of(self.server, version, uri, run_root=run.info.artifact_uri if run else "")
            folder, inside = peft_folder(self.server, place)
        except SourceRefused as refused:
            if refused.answered == _GONE:
                raise ArtifactsOutOfReach(version.source) from refused
            raise
        wanted = [entry for entry in inside if not entry.is_folder and entry.name in {CONFIG, WEIGHTS}]
        # What the platform would refuse for its files is refused before its bytes are moved.
        adapter_files.check_paths([entry.name for entry in wanted] + [entry.name for entry in inside if entry.name == "adapter_model.bin"])
        base, revision = self._base(place, folder, wanted)
        origin = self._origin(model, version, aliases, run, base=base, revision=revision)
        return Sight(origin, partial(self._fetch, place, folder, wanted))

    def _run(self, version: ModelVersion) -> Run | None:
        if not version.run_id:
            return None
        try:
            return self.server.run(version.run_id)
        except SourceRefused as refused:
            if refused.answered == _GONE:
                return None  # deleted there; the version may still have its files
            raise

    def _base(self, place: Place, folder: str, inside: list[Entry]) -> tuple[str | None, str | None]:
        """What the adapter's own config says about its base; the platform judges the rest of it."""
        size = next(entry.size for entry in inside if entry.name == CONFIG)
        raw = BytesIO()
        path = f"{folder}/{CONFIG}" if folder else CONFIG
        download(self.server, place, path, raw, size=size, limit=MAX_CONFIG_BYTES, on_bytes=lambda _got, _all: None)
        return base_in(raw.getvalue())

    def _fetch(self, place: Place, folder: str, inside: list[Entry], target: Path, on_bytes: OnBytes) -> list[SourceFile]:
        left = self.limit
        found = []
        for entry in inside:
            path = f"{folder}/{entry.name}" if folder else entry.name
            file = target / entry.name
            got = download_to(self.server, place, path, file, size=entry.size, limit=left, on_bytes=on_bytes)
            left -= got
            found.append(SourceFile(path=path, size=got, digest=sha256_file(file)))
        return found

    def _origin(
        self, model: RegisteredModel, version: ModelVersion, aliases: list[str], run: Run | None, *, base: str | None, revision: str | None
    ) -> RecordOrigin:
        info = run.info if run else None
        facts = {
            "description": _text(version.description), "base": base, "base_revision": revision,
            "tags": _pairs(version.tags), "model_tags": _pairs(model.tags), "aliases": aliases,
            "stage": version.current_stage if version.current_stage not in {"", "None"} else None,
            "run_name": _text(info.run_name) if info else None,
            "run_tags": _pairs(tag for tag in run.data.tags if not tag.key.startswith("mlflow.") or tag.key in _KEPT_OF_MLFLOW) if run else {},
            "metrics": {metric.key: _metric(metric) for metric in run.data.metrics} if run else {},
            "parameters": _pairs(run.data.params) if run else {},
            "created_at": datetime.fromtimestamp(version.creation_timestamp / 1000, UTC) if version.creation_timestamp else None,
        }  # fmt: skip
        try:
            origin = RecordOrigin(
                system=self.system, source=self.address, name=version.name, version=version.version, run_id=version.run_id or None,
                run_url=self._run_url(info) if info else None,
                facts=Facts.model_validate(facts),
            )  # fmt: skip
        except ValidationError as error:
            first = error.errors()[0]
            reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise SourceNotUnderstood(self.address, f"version {version.version} of {version.name}", reason) from None
        document_of(origin)  # refused here, before its files are moved
        return origin

    def _run_url(self, info: RunInfo) -> str:
        return f"{self.address}/#/experiments/{info.experiment_id}/runs/{info.run_id}"


def base_in(config: bytes) -> tuple[str | None, str | None]:
    """`base_model_name_or_path` and `revision` of a config; None for what it does not say in printable text."""
    try:
        document: Any = json.loads(config)
    except ValueError:
        return None, None
    if not isinstance(document, dict):
        return None, None
    found = [document.get(key) for key in ("base_model_name_or_path", "revision")]
    base, revision = (value if isinstance(value, str) and value and value.isprintable() else None for value in found)
    return base, revision


def _pairs(tags: Any) -> dict[str, str]:
    return {tag.key: tag.value for tag in tags if isinstance(tag, Tag)}


def _metric(metric: Metric) -> float | str:
    if isfinite(metric.value):
        return metric.value
    return "NaN" if isnan(metric.value) else "Infinity" if metric.value > 0 else "-Infinity"


def _text(text: str) -> str:
    """Without control characters."""
    return "".join(character for character in text if character.isprintable() or character in "\n\t")
