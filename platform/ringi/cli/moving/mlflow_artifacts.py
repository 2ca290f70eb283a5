"""The files of a model version, through the tracking server: its artifact proxy, a run's artifacts, or a logged model's.

Nothing in a listing is trusted: an entry is a plain name directly in the folder that was asked for, or the version is refused. Folders
are looked through level by level, and the PEFT folder is the one nearest to the top.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from ringi.cli.connection import OnBytes
from ringi.cli.moving.mlflow_api import API, Answer, ModelVersion, TrackingServer
from ringi.cli.moving.refusals import (
    ArtifactIncomplete,
    ArtifactPathUnsafe,
    ArtifactsOutOfReach,
    ArtifactTooLarge,
    NoPeftFolder,
    SeveralPeftFolders,
)
from ringi.uploads.paths import UploadPathUnsafe, check_safe

CONFIG = "adapter_config.json"
MAX_DEPTH, MAX_FOLDERS, MAX_ENTRIES = 6, 300, 10_000
PROXY = "/api/2.0/mlflow-artifacts/artifacts"


class _File(Answer):
    path: str
    is_dir: bool = False
    file_size: int | None = None


class _Listing(Answer):
    files: tuple[_File, ...] = ()
    next_page_token: str = ""


class Entry(NamedTuple):
    """A file or folder directly in a folder; `size` in bytes where the listing tells."""

    name: str
    is_folder: bool
    size: int | None


@dataclass(frozen=True)
class Place:
    """A folder of artifacts. `root` leads to it; paths in listings of the proxy are bare names, elsewhere they begin at the top."""

    listing: str
    path_parameter: str
    file: str
    root: str = ""
    query: dict[str, str] = field(default_factory=dict)
    file_query: dict[str, str] = field(default_factory=dict)
    file_parameter: str | None = None
    bare_names: bool = False


def proxied(root: str) -> Place:
    """Below the artifact proxy (`mlflow server --serve-artifacts`)."""
    return Place(PROXY, "path", PROXY, root=_checked(root), bare_names=True)


def of_run(run_id: str, path: str) -> Place:
    """Below a run's artifacts, wherever they are stored."""
    query = {"run_id": run_id}
    return Place(f"{API}/artifacts/list", "path", "/get-artifact", _checked(path), query, query, "path")


def of_logged_model(model_id: str) -> Place:
    """Below a logged model (MLflow 3)."""
    where = f"logged-models/{quote(model_id, safe='')}/artifacts"
    return Place(
        f"{API}/{where}/directories", "artifact_directory_path", f"/ajax-api/2.0/mlflow/{where}/files", file_parameter="artifact_file_path"
    )


def place_of(server: TrackingServer, version: ModelVersion, uri: str, *, run_root: str) -> Place:
    """The place behind `uri`, a download URI; `run_root` is the artifact URI of the version's run. Raises ArtifactsOutOfReach."""
    parts = urlsplit(uri)
    here = urlsplit(server.server)
    path = unquote(parts.path)
    if parts.scheme == "mlflow-artifacts" and parts.netloc in {"", here.netloc}:
        return proxied(path.strip("/"))
    if parts.scheme in {"http", "https"} and parts.netloc == here.netloc and f"{PROXY}/" in path:
        return proxied(path.partition(f"{PROXY}/")[2].strip("/"))
    if parts.scheme == "runs":
        run_id, _, below = path.strip("/").partition("/")
        return of_run(run_id, below)
    if parts.scheme == "models" and path.startswith("/m-"):
        return of_logged_model(path.strip("/"))
    # Stored where this machine cannot look (file:, s3:, …): the server reads it for us through its run or its logged model.
    if version.run_id and run_root and (uri == run_root or uri.startswith(run_root.rstrip("/") + "/")):
        return of_run(version.run_id, uri[len(run_root.rstrip("/")) :].strip("/"))
    if version.model_id:
        return of_logged_model(version.model_id)
    raise ArtifactsOutOfReach(uri)


def _checked(path: str) -> str:
    if path:
        try:
            check_safe([path])
        except UploadPathUnsafe as error:
            raise ArtifactPathUnsafe(path, "") from error
    return path


def _joined(*parts: str) -> str:
    return "/".join(part for part in parts if part)


def entries(server: TrackingServer, place: Place, folder: str) -> list[Entry]:
    """What is directly in `folder` of a place. Raises ArtifactPathUnsafe, ArtifactTooLarge."""
    asked = _joined(place.root, folder)
    query = place.query | ({place.path_parameter: asked} if asked else {})
    found: list[Entry] = []
    for page in server.pages(place.listing, _Listing, **query):
        for file in page.files:
            found.append(Entry(_name_in(file.path, "" if place.bare_names else asked, shown=asked), file.is_dir, file.file_size))
            if len(found) > MAX_ENTRIES:
                raise ArtifactTooLarge("entries of one folder", MAX_ENTRIES)
    return found


def _name_in(path: str, folder: str, *, shown: str) -> str:
    prefix = f"{folder}/" if folder else ""
    name = path.removeprefix(prefix)
    if (prefix and not path.startswith(prefix)) or "/" in name or "%" in name:
        raise ArtifactPathUnsafe(path, shown)
    try:
        check_safe([name])
    except UploadPathUnsafe as error:
        raise ArtifactPathUnsafe(path, shown) from error
    return name


def peft_folder(server: TrackingServer, place: Place) -> tuple[str, list[Entry]]:
    """The folder nearest to the top that holds `adapter_config.json`, and what is in it. Raises NoPeftFolder, SeveralPeftFolders."""
    level, looked = [""], 0
    for _ in range(MAX_DEPTH):
        below: list[str] = []
        hits: list[tuple[str, list[Entry]]] = []
        for folder in level:
            looked += 1
            if looked > MAX_FOLDERS:
                raise ArtifactTooLarge("folders", MAX_FOLDERS)
            inside = entries(server, place, folder)
            if any(entry.name == CONFIG and not entry.is_folder for entry in inside):
                hits.append((folder, inside))
            below += [_joined(folder, entry.name) for entry in inside if entry.is_folder]
        if len(hits) > 1:
            raise SeveralPeftFolders(", ".join(sorted(folder or "." for folder, _ in hits))[:300])
        if hits:
            return hits[0]
        level = below
    raise NoPeftFolder


def download(server: TrackingServer, place: Place, path: str, out: BinaryIO, *, size: int | None, limit: int, on_bytes: OnBytes) -> int:
    """Write a file to `out` piece by piece; returns its bytes. Raises ArtifactTooLarge beyond `limit`, ArtifactIncomplete."""
    whole = _joined(place.root, path)
    route, query = place.file, dict(place.file_query)
    if place.file_parameter is None:
        route = f"{route}/{quote(whole)}"
    else:
        query[place.file_parameter] = whole
    got = 0
    with server.stream(route, **query) as answer:
        for piece in answer.iter_bytes():
            got += len(piece)
            if got > limit:
                raise ArtifactTooLarge(f"the bytes of {path}", limit)
            out.write(piece)
            on_bytes(got, size or got)
    if size is not None and got != size:
        raise ArtifactIncomplete(path, got, size)
    return got


def download_to(server: TrackingServer, place: Place, path: str, target: Path, *, size: int | None, limit: int, on_bytes: OnBytes) -> int:
    """The same into a new file."""
    with target.open("xb") as out:
        return download(server, place, path, out, size=size, limit=limit, on_bytes=on_bytes)
