"""Read the header of a safetensors file that may be hostile, before any library opens it.

The format (https://github.com/huggingface/safetensors#format): 8 bytes little-endian header length N, N bytes of UTF-8 JSON
`{name: {dtype, shape, data_offsets: [begin, end]}, "__metadata__": {str: str}}`, then the tensors' bytes. Stricter than the library on
purpose: header size, number of tensors, names, dtypes and ranks are bounded, and a key that occurs twice is refused. Nothing past the
header is read, so cost does not grow with the file.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ringi.jobs.contracts.adapters import TensorFact
from ringi.kit.errors import RingiError

DTYPE_BYTES: Mapping[str, int] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip

_PREFIX_BYTES = 8
_HEAD_BYTES = 512
_TAR_MAGIC_AT = 257
# No tensor dimension of today comes near it; it keeps the products small.
_MAX_DIMENSION = 2**48


@dataclass(frozen=True, slots=True)
class HeaderLimits:
    """What a header may hold. `max_header_bytes` in bytes."""

    dtypes: frozenset[str]
    name: re.Pattern[str]
    max_rank: int
    max_tensors: int = 20_000
    max_header_bytes: int = 8 * 1024 * 1024


ADAPTER_LIMITS = HeaderLimits(frozenset({"F16", "BF16", "F32", "F64"}), re.compile(r"[A-Za-z0-9_.]{1,512}"), max_rank=4)
# A base comes from its publisher's layout: 3-D convolutions have rank 5, quantised bases hold integers.
BASE_LIMITS = HeaderLimits(frozenset(DTYPE_BYTES), re.compile(r"[A-Za-z0-9_./:-]{1,512}"), max_rank=6)


class WeightsTruncated(RingiError):
    """The file ends before what its header promises."""

    code, status = "weights_truncated", 400

    def __init__(self, *, needed: int, present: int) -> None:
        super().__init__(
            f"The weights file has {present} bytes, but its header needs {needed}.",
            next_step="Upload the file again, whole.",
            details={"needed_bytes": needed, "present_bytes": present},
        )


class WeightsNotSafetensors(RingiError):
    """The content is not a safetensors file."""

    code, status = "weights_not_safetensors", 400

    def __init__(self, found: str = "unknown content") -> None:
        super().__init__(
            f"The weights file is not safetensors: it holds {found}.",
            next_step="Save the adapter with save_pretrained(..., safe_serialization=True).",
            details={"found": found},
        )


class WeightsPickle(RingiError):
    """The content is a format that can run code when it is loaded."""

    code, status = "weights_pickle", 400

    def __init__(self, found: str = "a pickle") -> None:
        super().__init__(
            f"The weights file holds {found}, a format that can run code when loaded.",
            next_step="Convert it to safetensors where you trust its source, and upload that.",
            details={"found": found},
        )


class WeightsHeaderInvalid(RingiError):
    """The header breaks a rule; `details['reason']` names it."""

    code, status = "weights_header_invalid", 400

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(
            f"The header of the weights file is not acceptable: {message}.",
            next_step="Write the file again with the safetensors library; hand-made headers are not accepted.",
            details={"reason": reason},
        )


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor and where its bytes lie: `[begin, end)` counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def fact(self) -> TensorFact:
        """Without the place."""
        return TensorFact(name=self.name, dtype=self.dtype, shape=self.shape)


@dataclass(frozen=True, slots=True)
class WeightsHeader:
    """The tensors in the order of their bytes, and the free text of `__metadata__`."""

    tensors: tuple[StoredTensor, ...]
    metadata: Mapping[str, str]


def content_kind(head: bytes) -> str | None:
    """What a file is that starts with `head` (512 bytes are enough), for the kinds that are refused by content; None for anything else."""
    for magic, kind in (
        (b"PK\x03\x04", "a zip archive (torch.save writes one)"),
        (b"PK\x05\x06", "an empty zip archive"),
        (b"\x93NUMPY", "a numpy array"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
    ):
        if head.startswith(magic):
            return kind
    if re.match(rb"\x80[\x00-\x05]", head) or re.match(rb"\((?:[dli]p?\d|[dl]\n|i\w)|[]})]q|c[A-Za-z_][\w.]*\n", head):
        return "a pickle"
    if head[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        return "a tar archive (old torch.save wrote one)"
    return None


def read_header(source: BinaryIO | Path, *, file_size: int, limits: HeaderLimits = ADAPTER_LIMITS) -> WeightsHeader:
    """The checked header of `source`, whose whole size is `file_size` bytes.

    Raises WeightsPickle, WeightsNotSafetensors, WeightsTruncated or WeightsHeaderInvalid; reads at most `max_header_bytes` + 520 bytes.
    """
    if isinstance(source, Path):
        with source.open("rb") as stream:
            return read_header(stream, file_size=file_size, limits=limits)
    head = _read(source, min(_HEAD_BYTES, file_size))
    length = int.from_bytes(head[:_PREFIX_BYTES], "little")
    # 640 = 0x0280 starts like a pickle of protocol 2, so the frame of safetensors is looked at first.
    framed = head[_PREFIX_BYTES : _PREFIX_BYTES + 1] == b"{" and length <= max(limits.max_header_bytes, file_size)
    if not framed:
        _refuse_unframed(head, length, file_size)
    if length > limits.max_header_bytes:
        raise WeightsHeaderInvalid("too_large", f"it claims {length} bytes, at most {limits.max_header_bytes} are read")
    data_start = _PREFIX_BYTES + length
    if data_start > file_size:
        raise WeightsTruncated(needed=data_start, present=file_size)
    text = (head + _read(source, max(0, data_start - len(head))))[_PREFIX_BYTES:data_start]
    if len(text) < length:
        raise WeightsTruncated(needed=data_start, present=_PREFIX_BYTES + len(text))
    return _check(_parse(text), data_start=data_start, file_size=file_size, limits=limits)


def _read(stream: BinaryIO, size: int) -> bytes:
    """Up to `size` bytes; a raw stream may answer in pieces."""
    pieces: list[bytes] = []
    while size > 0 and (piece := stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _refuse_unframed(head: bytes, length: int, file_size: int) -> None:
    if (kind := content_kind(head)) is not None:
        raise WeightsPickle(kind)
    if head.startswith(b"GGUF"):
        raise WeightsNotSafetensors("GGUF")
    if file_size <= _PREFIX_BYTES or len(head) <= _PREFIX_BYTES:
        raise WeightsTruncated(needed=_PREFIX_BYTES + max(length, 2), present=min(file_size, len(head)))
    raise WeightsNotSafetensors


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise WeightsHeaderInvalid("duplicate_key", "a key occurs twice")
    return document


def _parse(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        raise WeightsHeaderInvalid("too_deep", "its JSON is nested too deeply") from None
    # UnicodeDecodeError, JSONDecodeError and an integer of more than 4,300 digits are all ValueErrors.
    except ValueError:
        raise WeightsHeaderInvalid("not_json", "it is not UTF-8 JSON") from None
    if not isinstance(document, dict):
        raise WeightsHeaderInvalid("not_json", "it is not a JSON object")
    return document


def _check(document: dict[str, Any], *, data_start: int, file_size: int, limits: HeaderLimits) -> WeightsHeader:
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise WeightsHeaderInvalid("metadata", "'__metadata__' must map text to text")
    if len(document) > limits.max_tensors:
        raise WeightsHeaderInvalid("too_many_tensors", f"it names {len(document)} tensors, at most {limits.max_tensors} are accepted")
    if not document:
        raise WeightsHeaderInvalid("no_tensors", "it names no tensor")
    tensors = sorted((_tensor(name, entry, data_start, limits) for name, entry in document.items()), key=lambda t: (t.begin, t.end, t.name))
    position = data_start
    for tensor in tensors:
        if tensor.begin != position:
            reason = "overlap" if tensor.begin < position else "gap"
            raise WeightsHeaderInvalid(reason, f"the bytes of '{tensor.name}' leave a {reason} to the tensor before it")
        position = tensor.end
    if position > file_size:
        raise WeightsTruncated(needed=position, present=file_size)
    if position < file_size:
        raise WeightsHeaderInvalid("trailing_bytes", f"{file_size - position} bytes follow the last tensor")
    return WeightsHeader(tuple(tensors), metadata)


def _is_count(value: object, below: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below


def _tensor(name: str, entry: object, data_start: int, limits: HeaderLimits) -> StoredTensor:
    if not limits.name.fullmatch(name):
        raise WeightsHeaderInvalid("name", f"the tensor name {name[:80]!a} has characters outside {limits.name.pattern}")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise WeightsHeaderInvalid("entry", f"the entry of '{name}' must have dtype, shape and data_offsets, nothing else")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in limits.dtypes:
        raise WeightsHeaderInvalid("dtype", f"'{name}' has dtype {str(dtype)[:20]!a}; accepted are {', '.join(sorted(limits.dtypes))}")
    if not isinstance(shape, list) or len(shape) > limits.max_rank or not all(_is_count(size, _MAX_DIMENSION) for size in shape):
        raise WeightsHeaderInvalid("shape", f"'{name}' must have a shape of at most {limits.max_rank} non-negative integers")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(offset, 2**63) for offset in offsets):  # noqa: PLR2004  # begin and end
        raise WeightsHeaderInvalid("offsets", f"'{name}' must have two non-negative data_offsets")
    size = DTYPE_BYTES[dtype]
    for dimension in shape:
        size *= dimension
    if offsets[1] - offsets[0] != size:
        raise WeightsHeaderInvalid(
            "size", f"'{name}' takes {size} bytes by dtype and shape, but its data_offsets span {offsets[1] - offsets[0]}"
        )
    return StoredTensor(name, dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])
