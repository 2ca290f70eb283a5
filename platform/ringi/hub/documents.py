"""What hub clients read: JSON documents and the headers of a file, pure.

Every file is of the LFS class: `oid` and ETag are the SHA-256 of its content, which the manifest holds already, so no request hashes anything,
and `hf cache verify` compares exactly the digests that were approved. The git ids beside it are those of the LFS pointer texts.
No field and no header names Xet: a client would switch to another protocol.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from ringi.hub.paths import MAIN
from ringi.jobs.contracts.parts import FileRef
from ringi.kit.digests import hex_of

TREE_PAGE = 1000
_CAUSAL = "ForCausalLM"


@dataclass(frozen=True)
class Snapshot:
    """One revision as it is served: its files, and what an audit event about it names."""

    repository: str
    commit: str
    files: tuple[FileRef, ...]
    tags: tuple[str, ...]
    library: str
    architectures: tuple[str, ...]
    created_at: datetime
    object_type: str
    object_id: UUID
    digest: str
    project_id: UUID | None
    candidate: bool = False
    warning: str | None = None


@dataclass(frozen=True)
class Refs:
    """`main` and the tags as (name, commit)."""

    main: str | None
    tags: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Commit:
    """One line of the history."""

    id: str
    title: str
    message: str
    date: datetime
    author: str


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def _git_id(text: str) -> str:
    body = text.encode()
    return hashlib.sha1(b"blob %d\x00" % len(body) + body, usedforsecurity=False).hexdigest()


def _pointer(file: FileRef) -> str:
    """The Git LFS pointer (git-lfs spec v1) that stands for a file in a tree."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{hex_of(file.digest)}\nsize {file.size}\n"


def info(snapshot: Snapshot, *, blobs: bool) -> dict[str, Any]:
    """R1 and R2. Downloads and likes are not counted here, so they are left out."""
    namespace = snapshot.repository.partition("/")[0]
    causal = any(name.endswith(_CAUSAL) for name in snapshot.architectures)
    return {
        "id": snapshot.repository, "modelId": snapshot.repository, "author": namespace, "sha": snapshot.commit, "private": True, "gated": False,
        "disabled": False, "tags": list(snapshot.tags), "library_name": snapshot.library,
        **({"pipeline_tag": "text-generation"} if causal else {}),
        "createdAt": _time(snapshot.created_at), "lastModified": _time(snapshot.created_at),
        "siblings": [_sibling(file, blobs=blobs) for file in snapshot.files],
    }  # fmt: skip


def _sibling(file: FileRef, *, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": file.path}
    pointer = _pointer(file)
    lfs = {"sha256": hex_of(file.digest), "size": file.size, "pointerSize": len(pointer)}
    return {"rfilename": file.path, "size": file.size, "blobId": _git_id(pointer), "lfs": lfs}


def _file_item(file: FileRef) -> dict[str, Any]:
    pointer = _pointer(file)
    lfs = {"oid": hex_of(file.digest), "size": file.size, "pointerSize": len(pointer)}
    return {"type": "file", "path": file.path, "oid": _git_id(pointer), "size": file.size, "lfs": lfs}


def _folder_item(path: str, files: Iterable[FileRef]) -> dict[str, Any]:
    # Not a git tree, which nobody asks for by id: a name of the folder's content that changes with it.
    listing = "\n".join(f"{file.path} {file.digest}" for file in files if file.path.startswith(f"{path}/"))
    return {"type": "directory", "path": path, "oid": _git_id(listing), "size": 0}


def _folders(files: Iterable[FileRef]) -> set[str]:
    parts = (file.path.split("/") for file in files)
    return {"/".join(part[:depth]) for part in parts for depth in range(1, len(part))}


def tree(files: Sequence[FileRef], folder: str, *, recursive: bool) -> list[dict[str, Any]] | None:
    """R3: what lies in `folder` ('' is the root), by path; None when there is no such folder."""
    folders = _folders(files)
    if folder and folder not in folders:
        return None
    start = f"{folder}/" if folder else ""
    items = [_file_item(file) for file in files] + [_folder_item(path, files) for path in folders]
    inside = [item for item in items if item["path"].startswith(start) and (recursive or "/" not in item["path"][len(start) :])]
    return sorted(inside, key=lambda item: str(item["path"]))


def paths_info(files: Sequence[FileRef], paths: Sequence[str]) -> list[dict[str, Any]]:
    """R8: the named files and folders that exist; unknown ones are left out."""
    by_path, folders = {file.path: file for file in files}, _folders(files)
    found = []
    for path in dict.fromkeys(path.strip("/") for path in paths):
        if path in by_path:
            found.append(_file_item(by_path[path]))
        elif path in folders:
            found.append(_folder_item(path, files))
    return found


def refs(found: Refs) -> dict[str, Any]:
    """R6."""
    branches = [{"name": MAIN, "ref": f"refs/heads/{MAIN}", "targetCommit": found.main}] if found.main else []
    tags = [{"name": name, "ref": f"refs/tags/{name}", "targetCommit": commit} for name, commit in found.tags]
    return {"branches": branches, "converts": [], "tags": tags, "pullRequests": []}


def commits(history: Iterable[Commit]) -> list[dict[str, Any]]:
    """R7, newest first."""
    return [
        {"id": one.id, "title": one.title, "message": one.message, "date": _time(one.date), "authors": [{"user": one.author}]}
        for one in history
    ]


def file_headers(snapshot: Snapshot, file: FileRef) -> dict[str, str]:
    """Headers of R4 and R5; the digest is the ETag, the client's file name in its cache."""
    digest = hex_of(file.digest)
    return {
        "X-Repo-Commit": snapshot.commit, "ETag": f'"{digest}"', "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(file.size),
        "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", "X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.path.rpartition('/')[2])}",
        **warning_headers(snapshot),
    }  # fmt: skip


def warning_headers(snapshot: Snapshot) -> dict[str, str]:
    """`X-HF-Warning: topic; message`, which clients log."""
    return {"X-HF-Warning": f"deprecation; {header_text(snapshot.warning)}"} if snapshot.warning else {}


def header_text(text: str, *, limit: int = 300) -> str:
    """`text` for a header: at most `limit` characters, everything but printable ASCII percent-encoded as UTF-8."""
    return "".join(char if " " <= char <= "~" else quote(char) for char in text[:limit])
