"""Paths inside an uploaded folder: relative, plain, and no two of them the same file anywhere. Pure."""

import unicodedata
from collections.abc import Iterable

from ringi.kit.errors import RingiError

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


def check_safe(paths: Iterable[str]) -> None:
    """Raises UploadPathUnsafe for the first path that could leave its folder, or that collides with another one on some file system."""
    seen: dict[str, str] = {}
    folders: set[str] = set()
    for path in paths:
        _check_path(path)
        key = _folded(path)
        if key in seen:
            raise UploadPathUnsafe(path, f"it is the same name as {seen[key]!a} on some file systems")
        seen[key] = path
        parts = key.split("/")
        folders.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    for key in sorted(folders & seen.keys()):
        raise UploadPathUnsafe(seen[key], "it is a file and a folder at once")


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
