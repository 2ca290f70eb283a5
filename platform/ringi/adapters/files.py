"""Which files a PEFT folder may bring: safe relative paths, safetensors weights, and text.

`check_paths` decides from the names, `check_content` looks inside.
"""

from collections.abc import Iterable
from itertools import islice

from ringi.adapters.weights import WeightsPickle, content_kind
from ringi.kit.errors import RingiError
from ringi.uploads.paths import UploadPathUnsafe, check_safe

__all__ = ["CONFIG", "WEIGHTS", "AdapterFileMissing", "UploadFileNotAllowed", "UploadPathUnsafe", "check_content", "check_paths"]

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
REQUIRED = (CONFIG, WEIGHTS)
TEXT_SUFFIXES = (".md", ".txt", ".json", ".jinja")
MAX_FILES = 200


class UploadFileNotAllowed(RingiError):
    """The kind or number of files is not what an adapter consists of."""

    code, status = "upload_file_not_allowed", 400

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"The file {path[:200]!a} is not accepted: {reason}.",
            next_step=f"Send {WEIGHTS}, {CONFIG} and, if you like, text files ({', '.join(TEXT_SUFFIXES)}).",
            details={"path": ascii(path[:200]), "reason": reason},
        )


class AdapterFileMissing(RingiError):
    """A PEFT folder without its weights or its configuration."""

    code, status = "adapter_file_missing", 400

    def __init__(self, missing: str) -> None:
        super().__init__(
            f"The folder has no '{missing}'.",
            next_step="Send the whole folder that save_pretrained() of peft wrote.",
            details={"missing": missing},
        )


def check_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """The paths, sorted by code point, when all of them are acceptable; raises the refusal of the first that is not."""
    named = tuple(islice(paths, MAX_FILES + 1))
    if len(named) > MAX_FILES:
        raise UploadFileNotAllowed(named[-1], f"a folder has at most {MAX_FILES} files")
    check_safe(named)
    for path in named:
        _check_kind(path)
    for required in REQUIRED:
        if required not in named:
            raise AdapterFileMissing(required)
    return tuple(sorted(named))


def check_content(path: str, head: bytes) -> None:
    """Refuse a text file whose first bytes (`head`, 512 are enough) show another format: `.json` in name only."""
    if path == WEIGHTS:
        return  # weights.read_header is the judge of that one.
    if (kind := content_kind(head)) is not None:
        raise WeightsPickle(kind)
    if b"\0" in head:
        raise UploadFileNotAllowed(path, "its content is binary")


def _check_kind(path: str) -> None:
    if path == WEIGHTS:
        return
    if any(part.startswith(".") for part in path.split("/")):
        raise UploadFileNotAllowed(path, "hidden files are not part of an adapter")
    if path.endswith(".safetensors"):
        whole = "; a whole model is no adapter, and is registered as a base" if path.startswith("model") else ""
        raise UploadFileNotAllowed(path, f"the only weights file is '{WEIGHTS}'{whole}")
    if not path.endswith(TEXT_SUFFIXES):
        raise UploadFileNotAllowed(path, "its kind is not on the list of accepted files")
