"""What the platform has stored that a forecast needs: shapes of registered bases, lengths of sealed rows, speeds of finished runs.

Comes before service.py. Everything read here is sealed, so what was computed from a digest is kept.
"""

import json
from functools import lru_cache

from sqlalchemy import Select
from sqlalchemy.orm import Session

from ringi.base_models.fingerprint_config import MAX_CONFIG_BYTES, parse_config
from ringi.base_models.models import BaseRevision
from ringi.datasets.models import DatasetVersion
from ringi.identity.permissions import visible
from ringi.jobs.contracts.datasets import DatasetReport
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import FileRef
from ringi.jobs.contracts.training import TrainMetrics, TrainPayload
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.kit.actor import Actor
from ringi.kit.digests import Digest
from ringi.kit.errors import Conflict, RingiError
from ringi.preflight.calibration import Sample, sample_of
from ringi.preflight.labels import LabelCounts, counted
from ringi.preflight.lengths import Lengths, every_nth, measure
from ringi.preflight.shapes import Shape, shape_of
from ringi.storage import blobs

# The newest runs tell how fast the fleet is today.
_RUNS = 60
# What the API reads and tokenises while somebody waits.
_TOKENIZER_BYTES, _ROWS_BYTES = 32 * 2**20, 256 * 2**20
_TENSORS_BYTES = 64 * 2**20


class BaseConfigMissing(Conflict):
    """A base without the one file that tells its shape."""

    code = "preflight_config_missing"

    def __init__(self) -> None:
        super().__init__(
            "The base's config.json is not stored, so its shape is not known.",
            next_step="Register a revision of the base with its config.json.",
        )


def shape_of_base(revision: BaseRevision) -> Shape:
    """The shape of a registered base; raises BaseConfigMissing, UnknownShape, ShapeInvalid."""
    config = _file(revision.files, "config.json")
    if config is None:
        raise BaseConfigMissing
    try:
        return _shape(config)
    except blobs.BlobMissing as missing:
        raise BaseConfigMissing from missing


def shape_or_why(revision: BaseRevision) -> tuple[Shape | None, str]:
    """The shape, or why there is none: a run of an unknown base is not refused."""
    try:
        return shape_of_base(revision), ""
    except RingiError as error:
        return None, error.message


@lru_cache(maxsize=256)
def _shape(config: Digest) -> Shape:
    return shape_of(parse_config(blobs.read_all(blobs.get_store(), config, limit=MAX_CONFIG_BYTES)))


def _file(files: list[object], path: str) -> Digest | None:
    return next((one.digest for one in map(FileRef.model_validate, files) if one.path == path), None)


def linear_modules(revision: BaseRevision) -> frozenset[str]:
    """Names of the modules with a two-dimensional weight, as they are stored; empty where the tensors are not known."""
    tensors = (revision.parts or {}).get("tensors")
    if not isinstance(tensors, dict):
        return frozenset()
    try:
        return _modules(FileRef.model_validate(tensors).digest)
    except RingiError:
        return frozenset()


@lru_cache(maxsize=64)
def _modules(tensors: Digest) -> frozenset[str]:
    found = set()
    for line in blobs.read_all(blobs.get_store(), tensors, limit=_TENSORS_BYTES).splitlines():
        record = json.loads(line)
        # A fused tensor was split for the fingerprint; adapters know it under the name that it is stored with.
        for name in (record["name"], record.get("source")):
            if name and name.endswith(".weight") and len(record["shape"]) == 2:  # noqa: PLR2004  # a matrix
                found.add(name.removesuffix(".weight"))
    return frozenset(found)


def lengths_of(revision: BaseRevision, dataset: DatasetVersion) -> Lengths | None:
    """Lengths of a sample of the training rows in the base's tokens; None where either cannot be read here."""
    tokenizer = _file(revision.files, "tokenizer.json")
    if tokenizer is None or dataset.train_size > _ROWS_BYTES:
        return None
    rows = DatasetReport.model_validate(dataset.report).train_rows
    try:
        return _lengths(tokenizer, dataset.train_digest, rows)
    except RingiError:
        return None


@lru_cache(maxsize=256)
def _lengths(tokenizer: Digest, rows_digest: Digest, rows: int) -> Lengths | None:
    store = blobs.get_store()
    lines = every_nth(blobs.lines(store.open(rows_digest)), rows=rows)
    return measure(blobs.read_all(store, tokenizer, limit=_TOKENIZER_BYTES), lines)


def labels_of(dataset: DatasetVersion) -> LabelCounts | None:
    """How often each label stands in the training and validation rows; None where they cannot be read here."""
    if dataset.train_size > _ROWS_BYTES:
        return None
    try:
        return _labels(dataset.train_digest, dataset.validation_digest)
    except RingiError:
        return None


@lru_cache(maxsize=64)
def _labels(train: Digest, validation: Digest) -> LabelCounts | None:
    store = blobs.get_store()
    return counted(blobs.lines(store.open(train)), blobs.lines(store.open(validation)))


def samples(session: Session, actor: Actor) -> list[Sample]:
    """What the newest finished runs in the caller's sight measured."""
    found: list[Sample] = []
    for job in session.scalars(_finished(actor)):
        payload, result = TrainPayload.model_validate(job.payload), job.result or {}
        config = next((file.digest for file in payload.base.files if file.path == "config.json"), None)
        device = _device_name(str(result.get("runtime", {}).get("device", "")))
        if config is None or device is None or "metrics" not in result:
            continue
        try:
            shape = _shape(config)
        except RingiError:
            continue
        metrics = TrainMetrics.model_validate(result["metrics"])
        one = sample_of(shape, payload.spec, metrics, device_name=device, base=payload.base.digest, rows=payload.rows)
        if one is not None:
            found.append(one)
    return found


def _finished(actor: Actor) -> Select[Job]:
    ended = visible(actor, Job).where(Job.kind == JobKind.TRAIN, Job.state == JobState.SUCCEEDED)
    return ended.order_by(Job.id.desc()).limit(_RUNS)


def _device_name(device: str) -> str | None:
    """`NVIDIA L4` of `cuda (NVIDIA L4)`: how a run names its device, and a worker the same one."""
    _, opened, rest = device.partition(" (")
    return rest.removesuffix(")") if opened and rest.endswith(")") else None


def tokens_seen(known: list[Sample], *, base: str, rows: Digest) -> Sample | None:
    """The newest run on the same rows and base: its tokens a row are exact, template and truncation included."""
    return next((one for one in known if one.base == base and one.rows == rows), None)
