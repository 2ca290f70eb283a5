"""Fused and split layouts, and padded vocabularies: one root, and a comparison that names the split piece."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file
from transformers.conversion_mapping import _MODEL_TO_CONVERSION_PATTERN, get_checkpoint_conversion_mapping
from transformers.core_model_loading import MergeModulelist, WeightConverter
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ringi.base_models.fingerprint_weights import TensorNameCollision, records_from_lines, records_to_lines
from ringi.base_models.layout import _SPLIT_EXPERTS, Piece, canonical_pieces
from ringi.jobs.contracts.base_models import CompareBasesResult, ComparedBase
from ringi.jobs.contracts.parts import FileRef
from ringi.kit.digests import sha256_file
from ringi_workers.base_models.compare import compare
from ringi_workers.base_models.fingerprint import BaseTokenizerInvalid, Fingerprint, fingerprint

Tensors = dict[str, npt.NDArray[Any]]
LLAMA = {"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2}
# Four heads of two, two of keys and values: q has 8 rows, k and v have 4 each.
PHI3 = {"model_type": "phi3", "hidden_size": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 6}
LAYER = "model.layers.0."


def draw(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, dtype=np.float32)


def write(folder: Path, tensors: Tensors, config: dict[str, Any], *, tokens: int | None = None) -> Path:
    """A base folder; `tokens`: the highest id + 1 of its tokenizer, whose last id is an added token."""
    folder = folder / uuid4().hex
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, folder / "model.safetensors")
    if tokens is not None:
        model = {"type": "BPE", "vocab": {"a": 0, "b": 1}}
        (folder / "tokenizer.json").write_text(json.dumps({"model": model, "added_tokens": [{"id": tokens - 1, "content": "</s>"}]}))
    return folder


def judged(old: Path, new: Path) -> CompareBasesResult:
    def ref(path: Path) -> FileRef:
        return FileRef(path=path.name, size=path.stat().st_size, digest=sha256_file(path))

    def seal(folder: Path) -> ComparedBase:
        found = fingerprint(folder)
        files = tuple(ref(path) for path in sorted(folder.iterdir()))
        (folder / "tensors.jsonl").write_bytes(records_to_lines(found.records))
        (folder / "f1.json").write_bytes(found.f1_document)
        document, tensors = ref(folder / "f1.json"), ref(folder / "tensors.jsonl")
        return ComparedBase(revision_id=uuid4(), revision=1, f1=found.f1, f2=found.f2, f1_document=document, tensors=tensors, files=files)

    return compare(seal(old), seal(new), open_old=lambda file: old / file.path, open_new=lambda file: new / file.path)


def names(found: Fingerprint) -> list[str]:
    return [record.name for record in found.records]


def phi3(seed: int = 0) -> tuple[Tensors, Tensors]:
    """One layer, split and fused."""
    split = {
        **{
            f"{LAYER}self_attn.{name}_proj.weight": draw(rows, 8, seed=seed + at)
            for at, (name, rows) in enumerate((("q", 8), ("k", 4), ("v", 4)))
        },
        **{
            f"{LAYER}self_attn.{name}_proj.bias": draw(rows, seed=seed + at)
            for at, (name, rows) in enumerate((("q", 8), ("k", 4), ("v", 4)))
        },
        f"{LAYER}mlp.gate_proj.weight": draw(6, 8, seed=seed + 3),
        f"{LAYER}mlp.up_proj.weight": draw(6, 8, seed=seed + 4),
        "model.norm.weight": draw(8),
    }
    fused = {"model.norm.weight": split["model.norm.weight"]}
    for kind in ("weight", "bias"):
        fused[f"{LAYER}self_attn.qkv_proj.{kind}"] = np.concatenate([split[f"{LAYER}self_attn.{name}_proj.{kind}"] for name in "qkv"])
    fused[f"{LAYER}mlp.gate_up_proj.weight"] = np.concatenate([split[f"{LAYER}mlp.{name}_proj.weight"] for name in ("gate", "up")])
    return split, fused


def experts(model_type: str, count: int = 3) -> tuple[Tensors, Tensors]:
    """One mixture layer as transformers 4 and as transformers 5 lay it out."""
    block, gate, up, down = (
        ("block_sparse_moe", "w1", "w3", "w2") if model_type in {"mixtral", "phimoe"} else ("mlp", "gate_proj", "up_proj", "down_proj")
    )
    gates, ups, downs = draw(count, 6, 8, seed=1), draw(count, 6, 8, seed=2), draw(count, 8, 6)
    split = {f"{LAYER}{block}.gate.weight": draw(count, 8)}
    for expert in range(count):
        for name, stack in ((gate, gates), (up, ups), (down, downs)):
            split[f"{LAYER}{block}.experts.{expert}.{name}.weight"] = stack[expert]
    fused = {
        f"{LAYER}mlp.{'router' if model_type == 'phimoe' else 'gate'}.weight": draw(count, 8),
        f"{LAYER}mlp.experts.gate_up_proj": np.concatenate([gates, ups], axis=1),
        f"{LAYER}mlp.experts.down_proj": downs,
    }
    return split, fused


def test_fused_and_split_phi3_have_one_root(tmp_path: Path) -> None:
    split, fused = phi3()
    one, other = write(tmp_path, split, PHI3), write(tmp_path, fused, PHI3)
    assert fingerprint(one).f2 == fingerprint(other).f2
    assert names(fingerprint(other)) == sorted(split)
    facts = fingerprint(other).facts
    assert (facts.tensors, facts.parameters) == (len(split), sum(value.size for value in split.values()))
    result = judged(one, other)
    assert not result.byte_equal_files
    assert (result.added, result.removed, result.reshaped, result.recast, result.changed) == ((), (), (), (), ())


def test_a_fused_tensor_whose_rows_do_not_fit_the_config_stays_whole(tmp_path: Path) -> None:
    _, fused = phi3()
    found = fingerprint(write(tmp_path, fused, {**PHI3, "num_key_value_heads": 4}))
    assert f"{LAYER}self_attn.qkv_proj.weight" in names(found)
    assert f"{LAYER}self_attn.qkv_proj.weight" in names(fingerprint(write(tmp_path, fused, {**PHI3, "model_type": "other"})))


def test_a_fused_tensor_beside_its_split_twin_is_refused(tmp_path: Path) -> None:
    split, fused = phi3()
    with pytest.raises(TensorNameCollision):
        fingerprint(write(tmp_path, split | fused, PHI3))


@pytest.mark.parametrize("model_type", ["mixtral", "phimoe", "qwen3_moe"])
def test_fused_and_split_experts_have_one_root(tmp_path: Path, model_type: str) -> None:
    split, fused = experts(model_type)
    one, other = (fingerprint(write(tmp_path, tensors, {"model_type": model_type})) for tensors in (split, fused))
    assert names(other) == sorted(split)
    assert one.f2 == other.f2


def test_the_table_of_experts_is_the_one_of_the_installed_library() -> None:
    """Every model type whose files differ between versions by fused experts alone, under the names that the split files have."""

    def split_names(model_type: str) -> tuple[str, ...] | None:
        names: list[str] = []
        for step in get_checkpoint_conversion_mapping(model_type) or []:
            if isinstance(step, WeightConverter) and any(isinstance(one, MergeModulelist) for one in step.operations):
                names += [source.split("*.")[-1].removesuffix(".weight") for source in step.source_patterns]
            elif not any(".block_sparse_moe." in source or source == ".gate.weight" for source in step.source_patterns):
                return None  # the type renames something else too
        return tuple(names) or None

    known = {*CONFIG_MAPPING, *_MODEL_TO_CONVERSION_PATTERN}
    library = {one: names for one in known if one.islower() and (names := split_names(one))}
    assert dict(_SPLIT_EXPERTS) == library


def test_a_layout_that_is_not_mapped_never_compares_as_equal(tmp_path: Path) -> None:
    split, fused = experts("qwen3_moe")
    result = judged(write(tmp_path, split, {"model_type": "unheard_of"}), write(tmp_path, fused, {"model_type": "unheard_of"}))
    assert f"{LAYER}mlp.experts.gate_up_proj" in result.added
    assert f"{LAYER}mlp.experts.0.gate_proj.weight" in result.removed


def test_a_change_inside_a_fused_tensor_names_the_split_piece_and_its_own_distance(tmp_path: Path) -> None:
    split, fused = phi3()
    moved = {name: value.copy() for name, value in fused.items()}
    moved[f"{LAYER}self_attn.qkv_proj.weight"][8:12] *= np.float32(1.5)
    for old in (split, fused):
        result = judged(write(tmp_path, old, PHI3), write(tmp_path, moved, PHI3))
        assert [change.name for change in result.changed] == [f"{LAYER}self_attn.k_proj.weight"]
        assert result.changed[0].relative == pytest.approx(0.5, abs=1e-7)


def test_a_piece_that_was_only_cast_is_recast(tmp_path: Path) -> None:
    split, fused = experts("mixtral")
    half = {name: value.astype(np.float16) for name, value in split.items()}
    result = judged(write(tmp_path, half, {"model_type": "mixtral"}), write(tmp_path, fused, {"model_type": "mixtral"}))
    assert result.recast == tuple(sorted(split))
    assert result.changed == ()


def padded(rows: int, *, seed: int = 0) -> Tensors:
    """Ten rows that are the same for every seed, and padding that is not."""
    return {
        name: np.concatenate([draw(10, 8, seed=at + 100), draw(rows - 10, 8, seed=seed + at)])
        for at, name in enumerate(("model.embed_tokens.weight", "lm_head.weight"))
    }


def test_padding_rows_are_recorded_and_not_in_the_root(tmp_path: Path) -> None:
    folders = [write(tmp_path, tensors, LLAMA, tokens=10) for tensors in (padded(10), padded(12), padded(16), padded(16, seed=7))]
    found = [fingerprint(folder) for folder in folders]
    assert len({one.f2 for one in found}) == 1
    padding = [[record for record in one.records if not record.in_root] for one in found]
    assert [[record.name for record in records] for records in padding] == [[]] + 3 * [
        ["lm_head.weight#padding", "model.embed_tokens.weight#padding"]
    ]
    assert padding[2][0].shape == (6, 8)
    assert padding[2][0].raw != padding[3][0].raw
    assert (found[2].facts.tensors, found[2].facts.parameters) == (2, 256)
    assert tuple(records_from_lines(records_to_lines(found[2].records).splitlines())) == found[2].records
    for new in folders[1:]:
        result = judged(folders[2], new)
        assert (result.added, result.removed, result.reshaped, result.recast, result.changed) == ((), (), (), (), ())


def test_a_change_in_a_used_row_is_a_change_of_the_embedding(tmp_path: Path) -> None:
    moved = padded(16, seed=7)
    moved["model.embed_tokens.weight"][9] += 1
    result = judged(write(tmp_path, padded(16), LLAMA, tokens=10), write(tmp_path, moved, LLAMA, tokens=10))
    assert [change.name for change in result.changed] == ["model.embed_tokens.weight"]


def test_without_a_tokenizer_every_row_counts(tmp_path: Path) -> None:
    one, other = (fingerprint(write(tmp_path, padded(16, seed=seed), LLAMA)) for seed in (0, 7))
    assert one.f2 != other.f2
    assert names(one) == ["lm_head.weight", "model.embed_tokens.weight"]


def test_a_tokenizer_that_grew_into_the_padding_leaves_an_equal_embedding_equal(tmp_path: Path) -> None:
    old = write(tmp_path, padded(16), LLAMA, tokens=10)
    for tokens in (12, 16, None):
        result = judged(old, write(tmp_path, padded(16), LLAMA, tokens=tokens))
        assert (result.reshaped, result.recast, result.changed) == ((), (), ())
    result = judged(old, write(tmp_path, padded(16, seed=7), LLAMA, tokens=12))
    assert [change.name for change in result.changed] == ["lm_head.weight", "model.embed_tokens.weight"]
    assert judged(old, write(tmp_path, padded(20), LLAMA, tokens=12)).reshaped == ("lm_head.weight", "model.embed_tokens.weight")


def test_a_tied_head_goes_with_its_padding(tmp_path: Path) -> None:
    tied = {**LLAMA, "tie_word_embeddings": True}
    embedding = padded(16)["model.embed_tokens.weight"]
    alone = fingerprint(write(tmp_path, {"model.embed_tokens.weight": embedding}, tied, tokens=10))
    copied = fingerprint(write(tmp_path, {"model.embed_tokens.weight": embedding, "lm_head.weight": embedding}, tied, tokens=10))
    assert alone.records == copied.records


def test_ids_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, padded(10), LLAMA, tokens=10)
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": "zero"}}}))
    with pytest.raises(BaseTokenizerInvalid):
        fingerprint(folder)


def test_a_plain_tensor_is_one_piece_and_a_plain_line_has_no_place(tmp_path: Path) -> None:
    assert canonical_pieces("model.norm.weight", (8,), PHI3, 10) == (Piece("model.norm.weight", (8,)),)
    lines = records_to_lines(fingerprint(write(tmp_path, padded(10), LLAMA, tokens=10)).records).splitlines()
    assert {tuple(json.loads(line)) for line in lines} == {("bf16", "dtype", "fp16", "name", "raw", "shape")}
