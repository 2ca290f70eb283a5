"""Two revisions of a base against each other: what moved, what was only written differently."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from ringi.base_models.fingerprint_weights import records_to_lines
from ringi.jobs.contracts.base_models import CompareBasesResult, ComparedBase
from ringi.jobs.contracts.parts import FileRef
from ringi.kit.digests import sha256_file
from ringi_workers.base_models.compare import compare
from ringi_workers.base_models.fingerprint import fingerprint

Tensors = dict[str, npt.NDArray[Any]]
CONFIG = '{"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "rope_theta": %s}'


@dataclass
class Revision:
    """A folder, as the compare job sees one side; `opened` lists what was asked for."""

    folder: Path
    opened: list[str] = field(default_factory=list)

    def seal(self) -> ComparedBase:
        found = fingerprint(self.folder)
        files = [self.ref(path) for path in sorted(self.folder.iterdir())]
        (self.folder / "tensors.jsonl").write_bytes(records_to_lines(found.records))
        (self.folder / "f1.json").write_bytes(found.f1_document)
        document, tensors = self.ref(self.folder / "f1.json"), self.ref(self.folder / "tensors.jsonl")
        return ComparedBase(
            revision_id=uuid4(), revision=1, f1=found.f1, f2=found.f2, f1_document=document, tensors=tensors, files=tuple(files)
        )

    def ref(self, path: Path) -> FileRef:
        return FileRef(path=path.name, size=path.stat().st_size, digest=sha256_file(path))

    def open(self, file: FileRef) -> Path:
        self.opened.append(file.path)
        return self.folder / file.path


Write = Callable[..., Revision]


@pytest.fixture
def revision(tmp_path: Path) -> Write:
    def write(tensors: Tensors, *, theta: float = 10000.0, files: int = 1) -> Revision:
        folder = tmp_path / uuid4().hex
        folder.mkdir()
        (folder / "config.json").write_text(CONFIG % theta)
        if files == 1:
            save_file(tensors, folder / "model.safetensors")
        else:
            weight_map = {name: f"model-{number % files}.safetensors" for number, name in enumerate(sorted(tensors))}
            for file in set(weight_map.values()):
                save_file({name: tensors[name] for name in tensors if weight_map[name] == file}, folder / file)
            (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        return Revision(folder)

    return write


def judged(old: Revision, new: Revision) -> CompareBasesResult:
    return compare(old.seal(), new.seal(), open_old=old.open, open_new=new.open)


def draw(seed: int = 0) -> Tensors:
    dice = np.random.default_rng(seed)
    return {name: dice.standard_normal((16, 8), dtype=np.float32) for name in ("model.a.weight", "model.b.weight", "model.c.weight")}


def test_equal_files_are_byte_equal_and_nothing_else(revision: Write) -> None:
    result = judged(revision(draw()), revision(draw()))
    assert result == CompareBasesResult(byte_equal_files=True, config_changes=(), added=(), removed=(), reshaped=(), recast=(), changed=())


def test_resharding_changes_files_and_no_tensor_and_opens_no_weights(revision: Write) -> None:
    old, new = revision(draw()), revision(draw(), files=2)
    result = judged(old, new)
    assert not result.byte_equal_files
    assert (result.recast, result.changed, result.added, result.removed) == ((), (), (), ())
    assert not [path for path in old.opened + new.opened if path.endswith(".safetensors")]


def test_a_changed_tensor_is_named_with_its_relative_distance(revision: Write) -> None:
    tensors = draw()
    moved = {**tensors, "model.b.weight": tensors["model.b.weight"] * np.float32(1.25)}
    result = judged(revision(tensors), revision(moved, files=2))
    assert [change.name for change in result.changed] == ["model.b.weight"]
    assert result.changed[0].relative == pytest.approx(0.25, abs=1e-7)
    assert result.recast == ()


def test_the_distance_is_the_frobenius_one_of_numpy_across_slices(revision: Write) -> None:
    dice = np.random.default_rng(5)
    old = {"w": dice.standard_normal((1100, 1000), dtype=np.float32)}
    new = {"w": old["w"] + np.float32(0.01) * dice.standard_normal((1100, 1000), dtype=np.float32)}
    expected = np.linalg.norm(new["w"].astype(np.float64) - old["w"]) / np.linalg.norm(old["w"].astype(np.float64))
    assert judged(revision(old), revision(new)).changed[0].relative == pytest.approx(expected, rel=1e-12)


def test_one_flipped_bit_is_changed_and_not_recast(revision: Write) -> None:
    for dtype in (np.float32, np.float16):
        old = {name: value.astype(dtype) for name, value in draw().items()}
        new = {name: value.copy() for name, value in old.items()}
        new["model.c.weight"].view(np.uint8).reshape(-1)[5] ^= 1
        result = judged(revision(old), revision(new))
        assert [change.name for change in result.changed] == ["model.c.weight"]
        assert result.changed[0].relative is not None
        assert result.changed[0].relative > 0


def test_dtype_casts_are_recast_in_both_directions(revision: Write) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    wide = {name: torch.from_numpy(value) for name, value in draw().items()}

    def saved(dtype: str, *through: str) -> Revision:
        base = revision({"w": np.zeros(1)})
        tensors = wide
        for step in (*through, dtype):
            tensors = {name: value.to(getattr(torch, step)) for name, value in tensors.items()}
        save_torch(tensors, base.folder / "model.safetensors")
        return base

    pairs = [
        (saved("float32"), saved("bfloat16")), (saved("float32"), saved("float16")), (saved("bfloat16"), saved("float32", "bfloat16")),
        (saved("bfloat16"), saved("float16", "bfloat16")), (saved("float16"), saved("bfloat16", "float16")),
        (saved("float32"), saved("float32", "bfloat16")), (saved("float32"), saved("float32", "float16")),
    ]  # fmt: skip
    for one, other in pairs:
        for old, new in ((one, other), (other, one)):
            result = judged(old, new)
            assert result.changed == ()
            assert result.recast == tuple(sorted(wide))


def test_a_cast_that_overflows_is_a_change(revision: Write) -> None:
    big = {"w": np.array([70000.0, 1.0], dtype=np.float32)}
    with np.errstate(over="ignore"):
        small = {"w": big["w"].astype(np.float16)}
    result = judged(revision(big), revision(small))
    assert result.recast == ()
    assert (result.changed[0].name, result.changed[0].relative) == ("w", None)


def test_noise_below_the_bf16_grid_is_a_change_not_a_recast(revision: Write) -> None:
    tensors = draw()
    noisy = {**tensors, "model.a.weight": (tensors["model.a.weight"].view(np.uint32) ^ 1).view(np.float32)}
    result = judged(revision(tensors), revision(noisy))
    assert [change.name for change in result.changed] == ["model.a.weight"]


def test_integers_and_zero_tensors_have_no_distance(revision: Write) -> None:
    result = judged(
        revision({"i": np.arange(3), "z": np.zeros(3, dtype=np.float32)}),
        revision({"i": np.arange(3) + 1, "z": np.ones(3, dtype=np.float32)}),
    )
    assert [(change.name, change.relative) for change in result.changed] == [("i", None), ("z", None)]


def test_added_removed_and_reshaped_tensors_are_told_apart(revision: Write) -> None:
    tensors = draw()
    other = {
        "model.a.weight": tensors["model.a.weight"].reshape(8, 16),
        "model.b.weight": tensors["model.b.weight"],
        "model.z.weight": np.ones(2),
    }
    result = judged(revision(tensors), revision(other))
    assert (result.added, result.removed, result.reshaped) == (("model.z.weight",), ("model.c.weight",), ("model.a.weight",))
    assert result.changed == ()


def test_a_config_change_is_named_and_leaves_weights_byte_equal(revision: Write) -> None:
    result = judged(revision(draw()), revision(draw(), theta=500000.0))
    assert result.byte_equal_files
    assert result.config_changes == ("rope_parameters.rope_theta: 10000 -> 500000",)
