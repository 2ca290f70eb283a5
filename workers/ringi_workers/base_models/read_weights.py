"""Read a base model's safetensors files in bounded memory: where each tensor lies, its bytes in slices, its record.

No torch: this runs on the `cpu` queue. Slices are read into one buffer rather than mapped, so resident memory stays at a few slices and a
file cut short while it is read is an error, not a SIGBUS. safetensors stores little-endian, row-major bytes; numpy dtypes here say so.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from ringi.adapters.weights import BASE_LIMITS, DTYPE_BYTES, StoredTensor, WeightsTruncated, read_header
from ringi.base_models.fingerprint_weights import TensorRecord
from ringi.kit.errors import RingiError

SLICE_BYTES = 8 * 1024 * 1024
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_INDEX_BYTES = 64 * 1024 * 1024
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_NUMPY = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}


class BaseWeightsMissing(RingiError):
    """The folder has no safetensors weights."""

    code, status = "base_weights_missing", 400

    def __init__(self, found: str = "no weights at all") -> None:
        super().__init__(
            f"The base model has no safetensors weights: it holds {found}.",
            next_step="Save it with save_pretrained(..., safe_serialization=True) where you trust its source, and register that.",
            details={"found": found},
        )


class BaseWeightsPickle(BaseWeightsMissing):
    """Only formats that can run code when loaded."""

    code, status = "base_weights_pickle", 400


class BaseIndexInvalid(RingiError):
    """`model.safetensors.index.json` and the files disagree."""

    code, status = "base_index_invalid", 400

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The index of the base model's weights does not fit its files: {reason}.",
            next_step="Send every shard together with the index that save_pretrained() wrote.",
            details={"reason": reason},
        )


@dataclass(frozen=True, slots=True)
class Located:
    """A tensor and the file it is in."""

    path: Path
    tensor: StoredTensor


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The files that hold the weights, in the order in which transformers looks: the single file, the index, one safetensors file."""
    if (single := folder / SINGLE).is_file():
        return (single,)
    if (index := folder / INDEX).is_file():
        return _shards(folder, index)
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return (found[0],)
    if found:
        raise BaseIndexInvalid(f"{len(found)} safetensors files and no '{INDEX}'")
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise BaseWeightsPickle(f"only {pickles[0]}, which can run code when loaded")
    raise BaseWeightsMissing


def _index(path: Path) -> dict[str, str]:
    try:
        if path.stat().st_size > MAX_INDEX_BYTES:
            raise BaseIndexInvalid(f"it is larger than {MAX_INDEX_BYTES} bytes")
        weight_map = json.loads(path.read_bytes().decode("utf-8"))["weight_map"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise BaseIndexInvalid("it is not JSON with a 'weight_map'") from None
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(name, str) for name in weight_map.values()):
        raise BaseIndexInvalid("its 'weight_map' does not map tensors to files")
    return weight_map


def _shards(folder: Path, index: Path) -> tuple[Path, ...]:
    names = sorted(set(_index(index).values()))
    for name in names:
        if PurePosixPath(name).name != name or "\\" in name or not name.endswith(".safetensors"):
            raise BaseIndexInvalid(f"{name[:200]!a} is not the name of a safetensors file beside it")
        if not (folder / name).is_file():
            raise BaseIndexInvalid(f"'{name}' is listed but absent")
    return tuple(folder / name for name in names)


def locate(files: tuple[Path, ...]) -> dict[str, Located]:
    """Every tensor by its stored name; raises what `read_header` raises, and BaseIndexInvalid when a name is in two files."""
    located: dict[str, Located] = {}
    for path in files:
        for tensor in read_header(path, file_size=path.stat().st_size, limits=BASE_LIMITS).tensors:
            if tensor.name in located:
                raise BaseIndexInvalid(f"the tensor '{tensor.name}' is in two files")
            located[tensor.name] = Located(path, tensor)
    return located


def check_index(folder: Path, located: dict[str, Located]) -> None:
    """Every tensor that the index (when it is the one in use) promises is in the file it names."""
    if (folder / SINGLE).is_file() or not (folder / INDEX).is_file():
        return
    for name, file in _index(folder / INDEX).items():
        if name not in located or located[name].path.name != file:
            raise BaseIndexInvalid(f"the tensor {name[:200]!a} is not in '{file}'")


def byte_slices(at: Located, *, slice_bytes: int = SLICE_BYTES) -> Iterator[memoryview]:
    """The tensor's bytes in order, in pieces of whole elements. A piece is valid until the next one is asked for."""
    item = DTYPE_BYTES[at.tensor.dtype]
    buffer = memoryview(bytearray(min(max(item, slice_bytes // item * item), max(at.tensor.end - at.tensor.begin, item))))
    with at.path.open("rb", buffering=0) as stream:
        stream.seek(at.tensor.begin)
        position = at.tensor.begin
        while position < at.tensor.end:
            piece = buffer[: min(len(buffer), at.tensor.end - position)]
            filled = 0
            while filled < len(piece):
                count = stream.readinto(piece[filled:])
                if not count:
                    raise WeightsTruncated(needed=at.tensor.end, present=position + filled)
                filled += count
            position += filled
            yield piece


def part_of(at: Located, *, name: str, first: int, shape: tuple[int, ...]) -> Located:
    """A run of the tensor's elements as a tensor of its own: `shape`, row-major, from element `first` on."""
    item = DTYPE_BYTES[at.tensor.dtype]
    begin = at.tensor.begin + first * item
    return Located(at.path, StoredTensor(name, at.tensor.dtype, shape, begin, begin + math.prod(shape) * item))


def is_float(dtype: str) -> bool:
    """Whether `as_float` can read the dtype."""
    return dtype == "BF16" or dtype in _NUMPY


def as_float(piece: memoryview, dtype: str) -> npt.NDArray[np.floating]:
    """The values of a slice: float32 for BF16, F16 and F32 (exact), float64 for F64."""
    if dtype == "BF16":
        return (np.frombuffer(piece, dtype="<u2").astype("<u4") << 16).view("<f4")
    values: npt.NDArray[np.floating] = np.frombuffer(piece, dtype=_NUMPY[dtype])
    return values.astype("<f4") if dtype == "F16" else values


def to_bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """bfloat16 bits of float32 values, rounded to nearest, ties to even; not for NaN."""
    bits = values.view("<u4")
    rounded: npt.NDArray[np.uint16] = ((bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16).astype("<u2")
    return rounded


def to_fp16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """IEEE binary16 bits of float32 values, rounded to nearest, ties to even."""
    with np.errstate(over="ignore", invalid="ignore"):
        bits: npt.NDArray[np.uint16] = values.astype("<f2").view("<u2")
    return bits


def rounded_bits(values: npt.NDArray[np.float32], dtype: str) -> npt.NDArray[np.uint16] | None:
    """`values` rounded to "BF16" or "F16" as bits; None when there is no one rounding: a finite value overflows, or a value is NaN.

    The bits that a NaN rounds to differ between torch's own scalar and vector paths.
    """
    if np.isnan(values).any():
        return None
    bits, infinity = (to_bf16(values), 0x7F80) if dtype == "BF16" else (to_fp16(values), 0x7C00)
    overflowed = ((bits & 0x7FFF) == infinity) & np.isfinite(values)
    return None if overflowed.any() else bits


def record_of(at: Located, *, slice_bytes: int = SLICE_BYTES) -> TensorRecord:
    """One pass over the tensor: its raw digest and, for F32, the digests of its values in bf16 and fp16."""
    tensor = at.tensor
    raw = blake3()
    rounded = {"BF16": blake3(), "F16": blake3()} if tensor.dtype == "F32" else {}
    for piece in byte_slices(at, slice_bytes=slice_bytes):
        raw.update(piece)
        for dtype in tuple(rounded):
            bits = rounded_bits(np.frombuffer(piece, dtype="<f4"), dtype)
            if bits is None:
                del rounded[dtype]
            else:
                rounded[dtype].update(bits.tobytes())
    return TensorRecord(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        raw=raw.hexdigest(),
        bf16=rounded["BF16"].hexdigest() if "BF16" in rounded else None,
        fp16=rounded["F16"].hexdigest() if "F16" in rounded else None,
    )


def read_records(files: tuple[Path, ...]) -> Iterator[TensorRecord]:
    """A record for every tensor of the files, under its stored name, in the order of files and bytes."""
    for at in locate(files).values():
        yield record_of(at)
