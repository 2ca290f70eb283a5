"""The manifest is the identity of an adapter version."""

import hashlib
import random

import pytest
from pydantic import ValidationError

from ringi.adapters.manifest import Manifest, diff
from ringi.jobs.contracts.parts import FileRef
from ringi.kit.digests import sha256_bytes

BASE = sha256_bytes(b"base")
FILES = [
    FileRef(path=path, size=size, digest=sha256_bytes(path.encode())) for path, size in (("b.json", 2), ("a.safetensors", 10), ("Z.md", 0))
]


def test_the_canonical_bytes_are_written_out_here_by_hand() -> None:
    manifest = Manifest.of(FILES[:1], "smol", 3, BASE)
    assert (
        manifest.canonical
        == (
            f'{{"base":{{"digest":"{BASE}","name":"smol","revision":3}},'
            f'"files":[{{"path":"b.json","sha256":"{hashlib.sha256(b"b.json").hexdigest()}","size":2}}],"format":"peft-lora/1"}}'
        ).encode()
    )
    assert manifest.digest == sha256_bytes(manifest.canonical)
    assert manifest.commit == manifest.digest.removeprefix("sha256:")[:40]


def test_the_order_of_the_files_does_not_matter_and_everything_else_does() -> None:
    manifest = Manifest.of(FILES, "smol", 1, BASE)
    shuffled = FILES.copy()
    random.Random(3).shuffle(shuffled)
    assert Manifest.of(shuffled, "smol", 1, BASE).digest == manifest.digest
    others = (
        Manifest.of(FILES[:2], "smol", 1, BASE),
        Manifest.of(FILES, "other", 1, BASE),
        Manifest.of(FILES, "smol", 2, BASE),
        Manifest.of(FILES, "smol", 1, sha256_bytes(b"x")),
        Manifest.of(FILES, "smol", 1, BASE, format="peft-lora/2"),
        Manifest.of([FILES[0].model_copy(update={"size": 3}), *FILES[1:]], "smol", 1, BASE),
    )
    assert len({manifest.digest, *(other.digest for other in others)}) == 7


def test_a_path_twice_or_no_file_at_all_is_refused() -> None:
    with pytest.raises(ValidationError):
        Manifest.of([FILES[0], FILES[0]], "smol", 1, BASE)
    with pytest.raises(ValidationError):
        Manifest.of([], "smol", 1, BASE)


def test_a_manifest_cannot_be_changed_and_survives_its_json() -> None:
    manifest = Manifest.of(FILES, "smol", 1, BASE)
    with pytest.raises(ValidationError):
        manifest.base_name = "other"  # type: ignore[misc]
    assert Manifest.model_validate_json(manifest.model_dump_json()).digest == manifest.digest


def test_the_difference_names_paths_base_and_format() -> None:
    old = Manifest.of(FILES, "smol", 1, BASE)
    moved = FILES[0].model_copy(update={"digest": sha256_bytes(b"new")})
    new = Manifest.of([moved, FILES[1], FileRef(path="new.md", size=1, digest=BASE)], "smol", 2, BASE)
    found = diff(old, new)
    assert (found.added, found.removed, found.changed) == (("new.md",), ("Z.md",), ("b.json",))
    assert found.base_changed
    assert not found.format_changed
    same = diff(old, old)
    assert (same.added, same.removed, same.changed, same.base_changed) == ((), (), (), False)
