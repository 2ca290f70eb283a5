"""A corpus of hostile safetensors files against the header reader, and the real library's files through it."""

import io
import json
import pickle
import random
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from ringi.adapters.weights import (
    StoredTensor,
    WeightsHeader,
    WeightsHeaderInvalid,
    WeightsNotSafetensors,
    WeightsPickle,
    WeightsTruncated,
    read_header,
)
from ringi.kit.errors import RingiError


def framed(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def stored(entries: dict[str, Any], data: bytes = b"") -> bytes:
    return framed(json.dumps(entries).encode(), data)


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def read(content: bytes) -> WeightsHeader:
    return read_header(io.BytesIO(content), file_size=len(content))


def test_a_file_of_the_real_library_is_read_with_its_byte_ranges(tmp_path: Path) -> None:
    tensors: dict[str, npt.NDArray[Any]] = {
        "b.lora_A.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a.lora_B.weight": np.ones((3, 2), dtype=np.float16),
    }
    path = tmp_path / "adapter_model.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    header = read_header(path, file_size=path.stat().st_size)
    content = path.read_bytes()
    assert header.metadata == {"format": "pt"}
    assert {tensor.name for tensor in header.tensors} == set(tensors)
    for tensor in header.tensors:
        assert content[tensor.begin : tensor.end] == tensors[tensor.name].tobytes()
        assert tensor.fact.shape == tensors[tensor.name].shape


def test_a_header_whose_length_looks_like_a_pickle_is_still_read() -> None:
    body = json.dumps({"a": entry()}).encode().ljust(0x0280)
    content = framed(body, b"\0" * 8)
    assert content.startswith(b"\x80\x02")
    assert read(content).tensors == (StoredTensor("a", "F32", (2,), 8 + 0x0280, 16 + 0x0280),)


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
    return out.getvalue()


def _npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros(3))
    return out.getvalue()


PICKLES = {
    **{f"pickle protocol {protocol}": pickle.dumps({"w": [1.0, 2.0]}, protocol=protocol) for protocol in range(6)},
    "pickle that calls": b"cos\nsystem\n(S'touch canary'\ntR.",
    "torch zip": _zip(),
    "numpy": _npy(),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "old torch tar": bytes(257) + b"ustar\x00" + bytes(300),
}


@pytest.mark.parametrize("content", PICKLES.values(), ids=PICKLES.keys())
def test_formats_that_run_code_are_refused_by_content(content: bytes) -> None:
    with pytest.raises(WeightsPickle) as refusal:
        read(content)
    assert refusal.value.code == "weights_pickle"


@pytest.mark.parametrize("content", [b"GGUF\x03\0\0\0" + bytes(64), b"version https://git-lfs.github.com/spec/v1\n", b"<html>" * 9])
def test_other_content_is_not_safetensors(content: bytes) -> None:
    with pytest.raises(WeightsNotSafetensors):
        read(content)


def test_every_truncation_of_a_good_file_is_refused_as_truncated(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": np.zeros((4, 4), dtype=np.float32)}, path)
    content = path.read_bytes()
    for size in range(len(content)):
        with pytest.raises(WeightsTruncated):
            read(content[:size])


def test_a_stream_shorter_than_its_announced_size_is_truncated() -> None:
    content = stored({"a": entry()}, bytes(8))
    with pytest.raises(WeightsTruncated):
        read_header(io.BytesIO(content[:20]), file_size=len(content))


_GOOD = json.dumps(entry())
HOSTILE: dict[str, tuple[str, bytes]] = {
    "duplicate key": ("duplicate_key", framed(f'{{"a":{_GOOD},"a":{_GOOD}}}'.encode(), bytes(8))),
    "duplicate inner key": ("duplicate_key", framed(b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8))),
    "deep nesting": ("too_deep", framed(b'{"a":' + b"[" * 500_000)),
    "deep objects": ("too_deep", framed(b'{"a":' * 500_000)),
    "not json": ("not_json", framed(b"{oops}")),
    "not utf8": ("not_json", framed(b'{"\xff\xfe":1}')),
    "huge integer": ("not_json", framed(b'{"a":' + b"9" * 50_000 + b"}")),
    "empty": ("no_tensors", framed(b"{}")),
    "metadata only": ("no_tensors", stored({"__metadata__": {"a": "b"}})),
    "metadata numbers": ("metadata", stored({"__metadata__": {"a": 1}, "a": entry()}, bytes(8))),
    "metadata list": ("metadata", stored({"__metadata__": [], "a": entry()}, bytes(8))),
    "traversal name": ("name", stored({"../../etc/x": entry()}, bytes(8))),
    "empty name": ("name", stored({"": entry()}, bytes(8))),
    "long name": ("name", stored({"a" * 513: entry()}, bytes(8))),
    "newline name": ("name", stored({"a\n": entry()}, bytes(8))),
    "entry is a list": ("entry", stored({"a": [1]}, bytes(8))),
    "extra entry key": ("entry", stored({"a": {**entry(), "x": 1}}, bytes(8))),
    "missing entry key": ("entry", stored({"a": {"dtype": "F32", "shape": [2]}}, bytes(8))),
    "unknown dtype": ("dtype", stored({"a": entry("F33")}, bytes(8))),
    "integer dtype": ("dtype", stored({"a": entry("I64", (1,))}, bytes(8))),
    "dtype no text": ("dtype", stored({"a": entry(["F32"])}, bytes(8))),
    "rank 5": ("shape", stored({"a": entry(shape=(1, 1, 1, 1, 2))}, bytes(8))),
    "negative size": ("shape", stored({"a": entry(shape=(-2,))}, bytes(8))),
    "fractional size": ("shape", stored({"a": entry(shape=(2.0,))}, bytes(8))),
    "boolean size": ("shape", stored({"a": entry(shape=(True, 2))}, bytes(8))),
    "overflowing size": ("shape", stored({"a": entry(shape=(2**63, 2**63))}, bytes(8))),
    "shape no list": ("shape", stored({"a": entry(shape="2")}, bytes(8))),
    "one offset": ("offsets", stored({"a": entry(offsets=(0,))}, bytes(8))),
    "negative offset": ("offsets", stored({"a": entry(offsets=(-8, 0))}, bytes(8))),
    "reversed offsets": ("size", stored({"a": entry(offsets=(8, 0))}, bytes(8))),
    "bytes do not fit": ("size", stored({"a": entry(offsets=(0, 4))}, bytes(4))),
    "wrap around": ("size", stored({"a": entry(shape=(2**40, 2**40, 2**40))}, bytes(8))),
    "overlap": ("overlap", stored({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12))),
    "same bytes twice": ("overlap", stored({"a": entry(), "b": entry()}, bytes(8))),
    "gap": ("gap", stored({"a": entry(), "b": entry(offsets=(16, 24))}, bytes(24))),
    "gap in front": ("gap", stored({"a": entry(offsets=(8, 16))}, bytes(16))),
    "trailing bytes": ("trailing_bytes", stored({"a": entry()}, bytes(9))),
    "polyglot zip behind": ("trailing_bytes", stored({"a": entry()}, bytes(8) + _zip())),
    "too many tensors": ("too_many_tensors", stored({f"t{n}": entry(shape=(0,), offsets=(0, 0)) for n in range(20_001)})),
    "header over 8 MiB": ("too_large", framed(b"{" + b" " * (8 * 1024 * 1024 + 1))),
}


@pytest.mark.parametrize(("reason", "content"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_header_is_refused_with_its_reason_in_time(reason: str, content: bytes) -> None:
    started = time.monotonic()
    with pytest.raises(WeightsHeaderInvalid) as refusal:
        read(content)
    assert refusal.value.details["reason"] == reason
    # A blow-up takes minutes; a busy machine takes seconds.
    assert time.monotonic() - started < 20


def test_a_claimed_length_beyond_the_file_is_refused_without_reading_it() -> None:
    with pytest.raises((WeightsTruncated, WeightsNotSafetensors)):
        read(framed(b"{}", length=2**63))
    with pytest.raises(WeightsTruncated):
        read(framed(b"{}", length=4096))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_end_in_a_coded_refusal(content: bytes) -> None:
    with pytest.raises(RingiError):
        read(content)


def test_random_single_byte_edits_never_end_in_anything_but_a_reading_or_a_refusal() -> None:
    good = bytearray(stored({"__metadata__": {"format": "pt"}, "a.lora_A.weight": entry(), "b": entry(offsets=(8, 16))}, bytes(16)))
    dice = random.Random(7)
    for _ in range(3000):
        content = bytearray(good)
        content[dice.randrange(len(content))] = dice.randrange(256)
        try:
            header = read(bytes(content))
        except RingiError:
            continue
        assert header.tensors[-1].end == len(content)
