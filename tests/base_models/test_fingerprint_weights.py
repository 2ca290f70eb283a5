"""F2 and the facts of a base folder: what moves the root and what does not. Files are written by the real safetensors library."""

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from blake3 import blake3
from safetensors.numpy import save_file

from ringi.adapters.weights import WeightsHeaderInvalid, WeightsTruncated
from ringi.base_models.fingerprint_config import BaseConfigInvalid
from ringi.base_models.fingerprint_weights import (
    TensorNameCollision,
    TensorRecord,
    canonical_name,
    records_from_lines,
    records_to_lines,
    weights_root,
)
from ringi.kit.digests import canonical_json
from ringi_workers.base_models.fingerprint import BaseFileMissing, BaseTokenizerInvalid, fingerprint
from ringi_workers.base_models.read_weights import (
    INDEX,
    BaseIndexInvalid,
    BaseWeightsMissing,
    BaseWeightsPickle,
    byte_slices,
    locate,
    record_of,
    rounded_bits,
    to_bf16,
    weight_files,
)

Tensors = dict[str, npt.NDArray[Any]]
CONFIG = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 16}


def tensors(seed: int = 0) -> Tensors:
    dice = np.random.default_rng(seed)

    def draw(*shape: int) -> npt.NDArray[np.float32]:
        return dice.standard_normal(shape, dtype=np.float32)

    return {
        "model.embed_tokens.weight": draw(16, 8),
        "model.layers.0.self_attn.q_proj.weight": draw(8, 8),
        "model.layers.0.mlp.up_proj.weight": draw(16, 8),
        "model.norm.weight": draw(8),
        "lm_head.weight": draw(16, 8),
    }


def write(
    folder: Path, content: Tensors, *, shards: int = 1, config: dict[str, Any] | None = None, metadata: dict[str, str] | None = None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    if shards == 1:
        save_file(content, folder / "model.safetensors", metadata=metadata)
        return folder
    weight_map: dict[str, str] = {}
    for number in range(shards):
        file = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: content[name] for name in sorted(content, reverse=True)[number::shards]}
        save_file(part, folder / file, metadata=metadata)
        weight_map |= dict.fromkeys(part, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_sharding_order_and_metadata_do_not_move_the_root(tmp_path: Path) -> None:
    whole = fingerprint(write(tmp_path / "a", tensors(), metadata={"format": "pt"}))
    parts = fingerprint(write(tmp_path / "b", dict(reversed(tensors().items())), shards=3, metadata={"made": "elsewhere"}))
    assert whole.f2 == parts.f2
    assert whole.f1 == parts.f1
    assert whole.records == parts.records
    assert records_to_lines(whole.records) == records_to_lines(parts.records)


def test_one_flipped_bit_anywhere_moves_the_root(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", tensors())
    before = fingerprint(folder).f2
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    start = 8 + struct.unpack("<Q", content[:8])[0]
    seen = {before}
    places = range(start, len(content), 97)
    for place in places:
        content[place] ^= 1
        path.write_bytes(content)
        seen.add(fingerprint(folder).f2)
        content[place] ^= 1
    assert len(seen) == 1 + len(places)


@pytest.mark.parametrize("change", ["name", "shape", "dtype"])
def test_name_shape_and_dtype_are_part_of_the_root(tmp_path: Path, change: str) -> None:
    other = tensors()
    value = other.pop("model.norm.weight")
    name = "model.other.weight" if change == "name" else "model.norm.weight"
    other[name] = value.reshape(2, 4) if change == "shape" else value.view(np.int32) if change == "dtype" else value
    assert fingerprint(write(tmp_path / "a", tensors())).f2 != fingerprint(write(tmp_path / "b", other)).f2


def test_the_root_is_the_documented_encoding(tmp_path: Path) -> None:
    result = fingerprint(write(tmp_path / "a", {"b": np.arange(4, dtype=np.float16), "a": np.zeros((2, 1), dtype=np.float32)}))
    rows = [
        ["a", [2, 1], "F32", blake3(bytes(8)).hexdigest()],
        ["b", [4], "F16", blake3(np.arange(4, dtype="<f2").tobytes()).hexdigest()],
    ]
    assert result.f2 == "blake3:" + blake3(canonical_json(rows)).hexdigest()
    assert weights_root(reversed(result.records)) == result.f2


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "base_model.model.", "module._orig_mod."])
def test_wrapper_prefixes_do_not_move_the_root(tmp_path: Path, prefix: str) -> None:
    wrapped = {prefix + name: value for name, value in tensors().items()}
    assert fingerprint(write(tmp_path / "a", tensors())).f2 == fingerprint(write(tmp_path / "b", wrapped)).f2


def test_the_text_tower_layout_is_the_plain_layout() -> None:
    assert canonical_name("model.language_model.layers.0.mlp.up_proj.weight") == "model.layers.0.mlp.up_proj.weight"
    assert canonical_name("model.modules.weight") == "model.modules.weight"


def test_two_tensors_that_end_up_with_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TensorNameCollision):
        fingerprint(write(tmp_path / "a", {"model.norm.weight": np.zeros(2), "module.model.norm.weight": np.ones(2)}))


def test_rotary_frequencies_are_ignored(tmp_path: Path) -> None:
    more = {**tensors(), "model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, dtype=np.float32)}
    assert fingerprint(write(tmp_path / "a", tensors())).f2 == fingerprint(write(tmp_path / "b", more)).f2


def test_a_tied_head_is_dropped_only_when_tied_and_equal(tmp_path: Path) -> None:
    tied, untied = {**CONFIG, "tie_word_embeddings": True}, {**CONFIG, "tie_word_embeddings": False}
    alone = {name: value for name, value in tensors().items() if name != "lm_head.weight"}
    equal = {**alone, "lm_head.weight": alone["model.embed_tokens.weight"].copy()}
    bare = fingerprint(write(tmp_path / "a", alone, config=tied)).f2
    assert fingerprint(write(tmp_path / "b", equal, config=tied)).f2 == bare
    assert fingerprint(write(tmp_path / "c", tensors(), config=tied)).f2 != bare
    assert fingerprint(write(tmp_path / "d", equal, config=untied)).f2 != bare


def test_value_digests_of_an_f32_tensor_are_the_raw_digests_of_its_roundings(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(1).standard_normal(5000, dtype=np.float32)
    save_file({"w": values, "big": np.array([1e5, 1.0], dtype=np.float32)}, tmp_path / "w.safetensors")
    located = locate((tmp_path / "w.safetensors",))
    record = record_of(located["w"], slice_bytes=64)
    bf16 = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().tobytes()
    assert record.bf16 == blake3(bf16).hexdigest()
    assert record.fp16 == blake3(values.astype(np.float16).tobytes()).hexdigest()
    assert record == record_of(located["w"])
    big = record_of(located["big"])
    assert big.fp16 is None
    assert big.bf16 is not None


def test_bf16_rounding_agrees_with_torch_on_every_boundary() -> None:
    torch = pytest.importorskip("torch")
    high = np.arange(0, 2**16, 7, dtype=np.uint32) << 16
    bits = np.concatenate([high + low for low in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]).astype(np.uint32)
    values = bits.view(np.float32)
    theirs = torch.from_numpy(values.copy()).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    numbers = ~np.isnan(values)
    assert np.array_equal(to_bf16(values)[numbers], theirs[numbers])
    assert rounded_bits(values, "BF16") is None
    assert rounded_bits(np.array([3.39e38], dtype=np.float32), "BF16") is not None
    assert rounded_bits(np.array([np.finfo(np.float32).max], dtype=np.float32), "BF16") is None


def test_slices_cover_a_tensor_exactly(tmp_path: Path) -> None:
    value = np.arange(1001, dtype=np.float64)
    save_file({"w": value}, tmp_path / "w.safetensors")
    at = locate((tmp_path / "w.safetensors",))["w"]
    pieces = [bytes(piece) for piece in byte_slices(at, slice_bytes=100)]
    assert b"".join(pieces) == value.tobytes()
    assert {len(piece) % 8 for piece in pieces} == {0}
    assert max(map(len, pieces)) == 96


def test_records_survive_their_stored_form() -> None:
    records = (
        TensorRecord(name="a", shape=(), dtype="F32", raw="0" * 64, bf16="1" * 64),
        TensorRecord(name="b", shape=(2,), dtype="I8", raw="2" * 64),
    )
    assert tuple(records_from_lines(records_to_lines(records).splitlines())) == records


def test_facts_are_read_from_config_weights_and_tokenizer(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", tensors())
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer", "chat_template": "{{ x }}"}))
    added = [{"id": 2, "content": "<s>"}, {"id": 3, "content": "</s>"}]
    (folder / "tokenizer.json").write_text(
        json.dumps({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "<s>": 2}}, "added_tokens": added})
    )
    facts = fingerprint(folder).facts
    assert (facts.model_type, facts.tensors, facts.parameters, facts.weight_bytes) == ("llama", 5, 456, 4 * 456)
    assert (facts.hidden_size, facts.layers, facts.vocab_size, facts.dtypes) == (8, 1, 16, ("F32",))
    assert (facts.tokenizer_class, facts.tokenizer_vocab_size, facts.chat_template) == ("GPT2Tokenizer", 4, True)
    gpt2 = fingerprint(
        write(tmp_path / "b", {"wte.weight": np.zeros((4, 6))}, config={"model_type": "gpt2", "n_embd": 6, "n_layer": 2})
    ).facts
    assert (gpt2.hidden_size, gpt2.layers, gpt2.tokenizer_vocab_size, gpt2.chat_template) == (6, 2, None, False)


def test_a_base_that_is_pickle_only_empty_or_without_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    with pytest.raises(BaseWeightsMissing) as refusal:
        fingerprint(tmp_path)
    assert refusal.value.code == "base_weights_missing"
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    with pytest.raises(BaseWeightsPickle):
        fingerprint(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(BaseFileMissing):
        fingerprint(tmp_path)


def test_a_config_without_a_model_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseConfigInvalid):
        fingerprint(write(tmp_path, tensors(), config={"hidden_size": 8}))


@pytest.mark.parametrize("break_it", ["absent", "traversal", "not json", "wrong file", "promised tensor", "no index"])
def test_an_index_that_does_not_fit_its_files_is_refused(tmp_path: Path, break_it: str) -> None:
    folder = write(tmp_path / "a", tensors(), shards=2)
    index = json.loads((folder / INDEX).read_text())
    first, second = sorted(set(index["weight_map"].values()))
    if break_it == "absent":
        (folder / second).unlink()
    elif break_it == "traversal":
        index["weight_map"]["model.norm.weight"] = "../a/" + first
    elif break_it == "wrong file":
        index["weight_map"]["model.norm.weight"] = {first: second, second: first}[index["weight_map"]["model.norm.weight"]]
    elif break_it == "promised tensor":
        index["weight_map"]["model.more.weight"] = first
    (folder / INDEX).write_text("{" if break_it == "not json" else json.dumps(index))
    if break_it == "no index":
        (folder / INDEX).unlink()
    with pytest.raises(BaseIndexInvalid):
        fingerprint(folder)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", tensors(), shards=2)
    save_file(tensors(), min(folder.glob("*.safetensors")))
    with pytest.raises(BaseIndexInvalid):
        fingerprint(folder)


def test_a_truncated_shard_and_a_broken_tokenizer_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", tensors())
    (folder / "tokenizer.json").write_bytes(b"\xff")
    with pytest.raises(BaseTokenizerInvalid):
        fingerprint(folder)
    (folder / "tokenizer.json").unlink()
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1])
    with pytest.raises(WeightsTruncated):
        fingerprint(folder)
    (folder / "model.safetensors").write_bytes(content + b"\0")
    with pytest.raises(WeightsHeaderInvalid):
        fingerprint(folder)


def test_the_single_file_is_preferred_as_transformers_does(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", tensors(), shards=2)
    write(folder, tensors())
    assert [path.name for path in weight_files(folder)] == ["model.safetensors"]
