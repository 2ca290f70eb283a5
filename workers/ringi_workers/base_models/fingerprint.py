"""Parts F1 and F2 of a base revision's fingerprint, and its facts, from a folder of files. Worker side of `fingerprint`; no torch."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ringi.base_models.config_defaults import ALIASES
from ringi.base_models.fingerprint_config import BaseConfigInvalid, fingerprint_config, parse_config
from ringi.base_models.fingerprint_weights import TensorRecord, canonical_name, canonical_records, weights_root
from ringi.base_models.layout import canonical_pieces
from ringi.jobs.contracts.base_models import BaseFacts
from ringi.kit.errors import RingiError
from ringi_workers.base_models.read_weights import Located, check_index, locate, part_of, record_of, weight_files

MAX_TOKENIZER_BYTES = 256 * 1024 * 1024


class BaseFileMissing(RingiError):
    """A file without which nothing can be said about a base."""

    code, status = "base_file_missing", 400

    def __init__(self, missing: str) -> None:
        super().__init__(
            f"The base model's folder has no '{missing}'.",
            next_step="Send the whole folder that save_pretrained() wrote.",
            details={"missing": missing},
        )


class BaseTokenizerInvalid(RingiError):
    """A tokenizer file is there but cannot be read."""

    code, status = "base_tokenizer_invalid", 400

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"The tokenizer file '{path}' is not acceptable: {reason}.",
            next_step="Save the tokenizer again with save_pretrained() and register that.",
            details={"path": path, "reason": reason},
        )


class Fingerprint(NamedTuple):
    """`f1_document` is canonical JSON; `records` are canonical and sorted by name."""

    f1: str
    f1_document: bytes
    f2: str
    records: tuple[TensorRecord, ...]
    facts: BaseFacts


def fingerprint(folder: Path) -> Fingerprint:
    """Read every byte of the weights once, in bounded memory.

    Raises BaseFileMissing, BaseConfigInvalid, BaseWeightsMissing, BaseWeightsPickle, BaseIndexInvalid, BaseTokenizerInvalid,
    TensorNameCollision, and the refusals of `ringi.adapters.weights.read_header`.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise BaseFileMissing("config.json")
    config = parse_config(path.read_bytes())
    measured = fingerprint_config(config)
    body: dict[str, Any] = measured.document["config"]
    tokenizer = _tokenizer(folder)
    located = locate(weight_files(folder))
    check_index(folder, located)
    kept = _text(body)
    pieces = (record for at in located.values() for record in _records(at, kept, tokenizer.length))
    records = canonical_records(pieces, tied=_tied(body))
    facts = BaseFacts(
        model_type=_model_type(config),
        architectures=tuple(name for name in body.get("architectures") or () if isinstance(name, str)),
        parameters=sum(math.prod(record.shape) for record in records),
        tensors=sum(record.in_root for record in records),
        weight_bytes=sum(at.tensor.end - at.tensor.begin for at in located.values()),
        dtypes=tuple(sorted({record.dtype for record in records})),
        hidden_size=_count(kept, "hidden_size"),
        layers=_count(kept, "num_hidden_layers"),
        vocab_size=_count(kept, "vocab_size"),
        tokenizer_class=tokenizer.name,
        tokenizer_vocab_size=tokenizer.size,
        chat_template=tokenizer.chat_template,
    )
    return Fingerprint(measured.f1, measured.canonical, weights_root(records), records, facts)


def _model_type(config: dict[str, Any]) -> str:
    model_type = config.get("model_type")
    if not isinstance(model_type, str) or not model_type:
        raise BaseConfigInvalid("it has no 'model_type'")
    return model_type


def _text(body: dict[str, Any]) -> dict[str, Any]:
    nested = body.get("text_config")
    return nested if isinstance(nested, dict) else body


def _tied(body: dict[str, Any]) -> bool:
    return body.get("tie_word_embeddings", _text(body).get("tie_word_embeddings")) is True


def _count(body: dict[str, Any], key: str) -> int | None:
    value = body.get(ALIASES.get(str(body.get("model_type")), {}).get(key, key))
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _records(at: Located, config: dict[str, Any], vocabulary: int | None) -> Iterator[TensorRecord]:
    """The records of one stored tensor: one, or one a piece of its layout."""
    stored = canonical_name(at.tensor.name)
    for piece in canonical_pieces(stored, at.tensor.shape, config, vocabulary):
        if (piece.name, piece.shape) == (stored, at.tensor.shape):
            yield record_of(at)
        else:
            record = record_of(part_of(at, name=piece.name, first=piece.first, shape=piece.shape))
            yield record.model_copy(update={"source": stored, "first": piece.first, "in_root": piece.in_root})


class _Tokenizer(NamedTuple):
    """`size`: distinct ids; `length`: highest id + 1, the rows of an embedding that a token can reach."""

    name: str | None
    size: int | None
    length: int | None
    chat_template: bool


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    if path.stat().st_size > MAX_TOKENIZER_BYTES:
        raise BaseTokenizerInvalid(path.name, f"it is larger than {MAX_TOKENIZER_BYTES} bytes")
    try:
        document = json.loads(path.read_bytes().decode("utf-8"))
    except (ValueError, RecursionError):
        raise BaseTokenizerInvalid(path.name, "it is not UTF-8 JSON") from None
    if not isinstance(document, dict):
        raise BaseTokenizerInvalid(path.name, "it is not a JSON object")
    return document


def _tokenizer(folder: Path) -> _Tokenizer:
    settings = _object(folder / "tokenizer_config.json")
    name = settings.get("tokenizer_class")
    template = bool(settings.get("chat_template")) or (folder / "chat_template.jinja").is_file()
    ids = _vocabulary(folder / "tokenizer.json")
    size, length = (None, None) if ids is None else (len(ids), max(ids, default=-1) + 1)
    return _Tokenizer(name if isinstance(name, str) else None, size, length, template)


def _vocabulary(path: Path) -> set[int] | None:
    """The ids of a `tokenizers` file, added tokens included; None without the file."""
    if not path.is_file():
        return None
    document = _object(path)
    model = document.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    added = document.get("added_tokens") or []
    if isinstance(vocabulary, dict):
        if not all(type(number) is int and number >= 0 for number in vocabulary.values()):
            raise BaseTokenizerInvalid(path.name, "its vocabulary has ids that are no numbers from 0 on")
        ids = set(vocabulary.values())
    elif isinstance(vocabulary, list):  # Unigram: the position is the id.
        ids = set(range(len(vocabulary)))
    else:
        raise BaseTokenizerInvalid(path.name, "it has no vocabulary")
    if not isinstance(added, list) or not all(isinstance(token, dict) and isinstance(token.get("id"), int) for token in added):
        raise BaseTokenizerInvalid(path.name, "its added tokens have no ids")
    return ids | {token["id"] for token in added}
