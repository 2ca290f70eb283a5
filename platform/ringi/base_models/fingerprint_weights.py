"""Part F2 of the base fingerprint: one record a tensor, and a root over them that sharding, order and metadata do not move.

A record is (canonical name, shape, dtype, raw), `raw` = BLAKE3-256 hex of the tensor's little-endian row-major bytes, dtype as
safetensors spells it. The root is "blake3:" + BLAKE3-256 hex of the RFC 8785 form of the list `[[name, [sizes], dtype, raw], ...]`, sorted
by the code points of the name. Value digests (`bf16`, `fp16`: the tensor after rounding to nearest even, for F32 tensors) ride along in
the record for later comparisons and are no part of the root; neither are records of padding rows (`in_root` False) and the place that a
record was cut from (see `layout`). Worker code measures; this file only orders and names.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from blake3 import blake3
from pydantic import BaseModel, ConfigDict

from ringi.base_models.layout import EMBEDDINGS, HEAD, PADDING
from ringi.kit.digests import canonical_json
from ringi.kit.errors import RingiError

_WRAPPERS = ("_orig_mod.", "module.", "base_model.model.")
_TEXT_TOWER = "model.language_model."
# Written only for a record that was cut or renamed: a plain record's line is the same as before there were layouts.
_PLACE = {"source", "first", "in_root"}


class TensorNameCollision(RingiError):
    """Two tensors of a base have one name after canonicalisation."""

    code, status = "base_tensor_name_collision", 400

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Two tensors of the base are called '{name}' once wrappers are taken off and fused tensors are split.",
            next_step="Save the model again without wrappers (torch.compile, DataParallel, PEFT) and register that.",
            details={"name": name},
        )


class TensorRecord(BaseModel):
    """One tensor. `bf16` and `fp16` are None for other dtypes than F32, and where a value overflows or is NaN.

    `source`: the stored tensor, without wrappers, when the record is a piece of it that begins at element `first`; None: it is the tensor.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    shape: tuple[int, ...]
    dtype: str
    raw: str
    bf16: str | None = None
    fp16: str | None = None
    source: str | None = None
    first: int = 0
    in_root: bool = True


def canonical_name(name: str) -> str:
    """The name without wrappers, with the text tower of a multimodal layout where the text-only layout has it."""
    while (wrapper := next((prefix for prefix in _WRAPPERS if name.startswith(prefix)), None)) is not None:
        name = name[len(wrapper) :]
    if name.startswith(_TEXT_TOWER):
        name = "model." + name[len(_TEXT_TOWER) :]
    return name


def is_ignored(name: str) -> bool:
    """Rotary frequencies are computed from the configuration; old files store them, new ones do not."""
    return name.rpartition(".")[2] in {"inv_freq", "original_inv_freq"}


def canonical_records(records: Iterable[TensorRecord], *, tied: bool) -> tuple[TensorRecord, ...]:
    """The records that count, renamed and sorted. `tied`: the configuration ties the head to the embedding, so an equal copy is dropped."""
    named: dict[str, TensorRecord] = {}
    for record in records:
        name = canonical_name(record.name)
        if is_ignored(name):
            continue
        if name in named:
            raise TensorNameCollision(name)
        named[name] = record.model_copy(update={"name": name})
    if tied:
        for rows in ("", PADDING):
            head = named.get(HEAD + rows)
            if head is not None and any(_same(head, named.get(embedding + rows)) for embedding in EMBEDDINGS):
                del named[HEAD + rows]
    return tuple(named[name] for name in sorted(named))


def _same(one: TensorRecord, other: TensorRecord | None) -> bool:
    return other is not None and (one.shape, one.dtype, one.raw) == (other.shape, other.dtype, other.raw)


def weights_root(records: Iterable[TensorRecord]) -> str:
    """F2 of canonical records, in whatever order they come."""
    counted = (record for record in records if record.in_root)
    rows = sorted(([record.name, list(record.shape), record.dtype, record.raw] for record in counted), key=lambda row: str(row[0]))
    return "blake3:" + blake3(canonical_json(rows)).hexdigest()


def records_to_lines(records: Iterable[TensorRecord]) -> bytes:
    """JSON lines, one canonical record a line: the stored form."""
    return b"".join(canonical_json(_stored(record)) + b"\n" for record in records)


def _stored(record: TensorRecord) -> dict[str, Any]:
    return record.model_dump(mode="json", exclude=_PLACE if record.source is None else None)


def records_from_lines(lines: Iterable[bytes]) -> Iterator[TensorRecord]:
    """The records of a stored file."""
    for line in lines:
        if line.strip():
            yield TensorRecord.model_validate(json.loads(line))
