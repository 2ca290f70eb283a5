"""Which files a PEFT folder may bring: safe relative paths, safetensors weights, and text.

`check_paths` decides from the names, `check_content` looks inside.
"""

import unicodedata
from collections.abc import Iterable

from ringi.adapters.weights import WeightsPickle, content_kind
from ringi.kit.errors import RingiError

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
REQUIRED = (CONFIG, WEIGHTS)
TEXT_SUFFIXES = (".md", ".txt", ".json", ".jinja")
MAX_FILES = 200
MAX_PATH_BYTES = 1024
MAX_PART_BYTES = 255


class UploadPathUnsafe(RingiError):
    """A path could leave the folder, hide, or collide with another one."""

    code, status = "upload_path_unsafe", 400

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"The path {path[:200]!a} is not accepted: {reason}.",
            next_step="Name files by plain relative paths with '/' between the parts.",
            details={"path": ascii(path[:200]), "reason": reason},
        )


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
    seen: dict[str, str] = {}
    folders: set[str] = set()
    for count, path in enumerate(paths, start=1):
        if count > MAX_FILES:
            raise UploadFileNotAllowed(path, f"a folder has at most {MAX_FILES} files")
        _check_path(path)
        key = _folded(path)
        if key in seen:
            raise UploadPathUnsafe(path, f"it is the same name as {seen[key]!a} on some file systems")
        seen[key] = path
        parts = key.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
        _check_kind(path)
    for key in sorted(folders & seen.keys()):
        raise UploadPathUnsafe(seen[key], "it is a file and a folder at once")
    for required in REQUIRED:
        if required not in seen.values():
            raise AdapterFileMissing(required)
    return tuple(sorted(seen.values()))


def check_content(path: str, head: bytes) -> None:
    """Refuse a text file whose first bytes (`head`, 512 are enough) show another format: `.json` in name only."""
    if path == WEIGHTS:
        return  # weights.read_header is the judge of that one.
    if (kind := content_kind(head)) is not None:
        raise WeightsPickle(kind)
    if b"\0" in head:
        raise UploadFileNotAllowed(path, "its content is binary")


def _folded(path: str) -> str:
    # Folding may denormalise and normalising may unfold, so normalise on both sides (Unicode 16, section 3.13, D145).
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _check_path(path: str) -> None:
    if not path or path.startswith("/"):
        raise UploadPathUnsafe(path, "it is empty or absolute")
    if any(unicodedata.category(character).startswith("C") for character in path):
        raise UploadPathUnsafe(path, "it has a control, invisible or unassigned character")
    if "\\" in path or ":" in path:
        raise UploadPathUnsafe(path, "it has a backslash or a colon")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise UploadPathUnsafe(path, f"it is longer than {MAX_PATH_BYTES} bytes")
    for part in path.split("/"):
        if part in {"", ".", ".."}:
            raise UploadPathUnsafe(path, "it has an empty part, '.' or '..'")
        if part != part.strip() or part.endswith("."):
            raise UploadPathUnsafe(path, "a part begins with a space, or ends with a space or a dot")
        if len(part.encode()) > MAX_PART_BYTES:
            raise UploadPathUnsafe(path, f"a part is longer than {MAX_PART_BYTES} bytes")


def _check_kind(path: str) -> None:
    if path == WEIGHTS:
        return
    if any(part.startswith(".") for part in path.split("/")):
        raise UploadFileNotAllowed(path, "hidden files are not part of an adapter")
    if path.endswith(".safetensors"):
        raise UploadFileNotAllowed(path, f"the only weights file is '{WEIGHTS}'")
    if not path.endswith(TEXT_SUFFIXES):
        raise UploadFileNotAllowed(path, "its kind is not on the list of accepted files")
