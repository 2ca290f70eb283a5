"""Compare two revisions of a base, from their records first; weight files are opened only for tensors whose raw digests differ.

Worker side of `compare_bases`. It sees two trees of files, never how one came from the other. A tensor is `recast` when the values are
one another's: equal after the exact upcast to float32, or one side is the other rounded to nearest even in bf16 or fp16 without
overflow. Everything else that differs is `changed`, with the relative Frobenius distance computed in float64 over slices. Records are
canonical pieces (see `ringi.base_models.layout`): a change in a fused tensor names the split piece, and padding rows are not compared.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ringi.adapters.weights import DTYPE_BYTES
from ringi.base_models.fingerprint_config import changes
from ringi.base_models.fingerprint_weights import TensorRecord, canonical_name, is_ignored, records_from_lines
from ringi.base_models.layout import PADDING
from ringi.jobs.contracts.base_models import CompareBasesResult, ComparedBase, TensorChange
from ringi.jobs.contracts.parts import FileRef
from ringi_workers.base_models.read_weights import (
    INDEX,
    SINGLE,
    Located,
    as_float,
    byte_slices,
    is_float,
    locate,
    part_of,
    record_of,
    rounded_bits,
)

# Elements per step when two tensors are read side by side; 4 MiB as float32.
STEP = 1024 * 1024
_NARROW = {"BF16": "bf16", "F16": "fp16"}

# Gives a local path to the content of one of a side's files; fetched only when asked for.
Open = Callable[[FileRef], Path]
Floats = npt.NDArray[np.floating]


class _Side:
    """One revision: its records now, its weight files when they are needed."""

    def __init__(self, base: ComparedBase, open_file: Open) -> None:
        self._base, self._open = base, open_file
        with open_file(base.tensors).open("rb") as lines:
            self.records = {record.name: record for record in records_from_lines(lines)}
        self._located: dict[str, Located] | None = None

    def config(self) -> dict[str, object]:
        document: dict[str, object] = json.loads(self._open(self._base.f1_document).read_bytes())
        return document

    def weights(self) -> dict[str, FileRef]:
        """The weight files by path: the single file when there is one, else every safetensors file and the index."""
        files = {file.path: file for file in self._base.files if file.path.endswith(".safetensors") or file.path == INDEX}
        return {SINGLE: files[SINGLE]} if SINGLE in files else files

    def compared(self) -> dict[str, TensorRecord]:
        return {name: record for name, record in self.records.items() if record.in_root}

    def whole(self, record: TensorRecord) -> TensorRecord:
        """The record of an embedding or a head with its padding rows, measured from the file; any other record as it is."""
        padding = self.records.get(record.name + PADDING)
        if padding is None:
            return record
        shape = (record.shape[0] + padding.shape[0], *record.shape[1:])
        place = {"source": record.source, "first": 0}
        return record_of(self.tensor(record.model_copy(update={"shape": shape}))).model_copy(update=place)

    def tensor(self, record: TensorRecord) -> Located:
        if self._located is None:
            paths = tuple(self._open(file) for file in self.weights().values() if file.path != INDEX)
            self._located = {canonical_name(stored): at for stored, at in locate(paths).items() if not is_ignored(canonical_name(stored))}
        if record.source is None:
            return self._located[record.name]
        return part_of(self._located[record.source], name=record.name, first=record.first, shape=record.shape)


def compare(old: ComparedBase, new: ComparedBase, *, open_old: Open, open_new: Open) -> CompareBasesResult:
    """The facts between two revisions; names are canonical and sorted. Raises what `read_header` raises."""
    before, after = _Side(old, open_old), _Side(new, open_new)
    reshaped: list[str] = []
    recast: list[str] = []
    changed: list[TensorChange] = []
    ours, theirs = before.compared(), after.compared()
    for name in sorted(ours.keys() & theirs.keys()):
        one, other = ours[name], theirs[name]
        if one.shape != other.shape:  # The tokenizers may differ in length, and so have cut one tensor at two places.
            one, other = before.whole(one), after.whole(other)
        if one.shape != other.shape:
            reshaped.append(name)
        elif (one.dtype, one.raw) == (other.dtype, other.raw):
            continue
        elif _equal_after_rounding(one, other) or _is_recast(before.tensor(one), after.tensor(other)):
            recast.append(name)
        else:
            changed.append(TensorChange(name=name, relative=relative_change(before.tensor(one), after.tensor(other))))
    old_files, new_files = before.weights(), after.weights()
    return CompareBasesResult(
        byte_equal_files={path: file.digest for path, file in old_files.items()} == {path: file.digest for path, file in new_files.items()},
        config_changes=() if old.f1 == new.f1 else changes(before.config(), after.config()),
        added=tuple(sorted(theirs.keys() - ours.keys())),
        removed=tuple(sorted(ours.keys() - theirs.keys())),
        reshaped=tuple(reshaped),
        recast=tuple(recast),
        changed=tuple(changed),
    )


def _equal_after_rounding(one: TensorRecord, other: TensorRecord) -> bool:
    """F32 against bf16 or fp16, decided from stored digests: the value digest of the wide side is the raw digest of the narrow one."""
    for wide, narrow in ((one, other), (other, one)):
        if wide.dtype == "F32" and narrow.dtype in _NARROW:
            digest: str | None = getattr(wide, _NARROW[narrow.dtype])
            return digest is not None and digest == narrow.raw
    return False


def _is_recast(old: Located, new: Located) -> bool:
    """Read both tensors, slice by slice, until no relation between them is left.

    The relations: bitwise equal as float32; `new` is `old` rounded to bf16 or fp16; `old` is `new` rounded. Two F32 tensors may be related,
    too: a model that went through bf16 and was saved as float32 again.
    """
    kinds = {old.tensor.dtype, new.tensor.dtype}
    if not kinds <= {"F32", "F16", "BF16"} or kinds in ({"F32", "BF16"}, {"F32", "F16"}):
        return False  # Not comparable, or already decided by the digests of the records.
    relations = {"equal", "BF16 of old", "F16 of old", "BF16 of new", "F16 of new"}
    for one, other in _pairs(old, new):
        left, right = one.astype("<f4", copy=False), other.astype("<f4", copy=False)
        relations = {relation for relation in relations if _holds(relation, left, right)}
        if not relations:
            return False
    return True


def _holds(relation: str, old: Floats, new: Floats) -> bool:
    if relation == "equal":
        return bool(np.array_equal(old.view("<u4"), new.view("<u4")))
    dtype, _, side = relation.partition(" of ")
    source, result = (old, new) if side == "old" else (new, old)
    bits = rounded_bits(source, dtype)
    if bits is None:
        return False
    return bool(np.array_equal(as_float(memoryview(bits.tobytes()), dtype).view("<u4"), result.view("<u4")))


def _pairs(old: Located, new: Located) -> Iterator[tuple[Floats, Floats]]:
    """Both tensors as floats, `STEP` elements at a time."""
    return zip(_values(old), _values(new), strict=True)


def _values(at: Located) -> Iterator[Floats]:
    dtype = at.tensor.dtype
    for piece in byte_slices(at, slice_bytes=STEP * DTYPE_BYTES[dtype]):
        yield as_float(piece, dtype)


def relative_change(old: Located, new: Located) -> float | None:
    """||new - old|| / ||old|| (Frobenius), in float64; None for kinds that are not floats, a zero `old`, or values that are not finite."""
    if not (is_float(old.tensor.dtype) and is_float(new.tensor.dtype)):
        return None
    moved = total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for one, other in _pairs(old, new):
            before, after = one.astype("<f8"), other.astype("<f8")
            moved += float(np.vdot(after - before, after - before))
            total += float(np.vdot(before, before))
    if not (math.isfinite(moved) and math.isfinite(total)) or total == 0:
        return None
    return math.sqrt(moved / total)
