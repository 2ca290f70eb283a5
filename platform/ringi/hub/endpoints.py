"""The read side of the Hugging Face Hub protocol: `HF_ENDPOINT=http://host/hf/<channel>`. No state of its own.

GET  /api/models/{repo}[/revision/{rev}]      what a revision is          GET /api/whoami-v2               whose token it is
GET  /api/models/{repo}/tree/{rev}[/{path}]   its files and folders       GET /api/models/{repo}/auth-check
GET  /api/models/{repo}/refs, /commits/{rev}  branches, tags, history     GET /api/agent-harnesses         asked by every client at its start
POST /api/models/{repo}/paths-info/{rev}      the named files             GET, HEAD /{repo}/resolve/{rev}/{path}      the bytes

`{repo}` is `project/adapter` (adapter_repository.py) or `bases/<name>` (base_repository.py). Who gets what is decided in access.py.
"""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.db.session import transaction
from ringi.hub import adapter_repository, base_repository, documents, paths, ranges
from ringi.hub.access import Refusal
from ringi.hub.adapter_repository import AdapterRepository
from ringi.hub.answers import ANONYMOUS, BAD_TOKEN, HubRefused, HubRoute, answer, entry_not_found, held_back
from ringi.hub.base_repository import BaseRepository
from ringi.hub.documents import Snapshot
from ringi.hub.paths import MAIN, Target
from ringi.identity.dependencies import Bearer, admitted, identified
from ringi.identity.models import Organization
from ringi.identity.permissions import Permission
from ringi.jobs.contracts.parts import FileRef
from ringi.kit.actor import Actor
from ringi.kit.errors import Unauthenticated
from ringi.storage.blobs import get_store
from ringi.web.session import SessionDep

router = APIRouter(route_class=HubRoute, include_in_schema=False)
# Paths that answer without a token, as the application mounts them: clients ask them before they have one, and they reveal nothing.
PUBLIC_PATHS = ("/hf/{channel}/api/agent-harnesses", "/hf/{channel}/{anything:path}")
_ALL_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
_REPOSITORY = "/{channel}/api/models/{namespace}/{name}"
_WEIGHTS = ".safetensors"
_DETAIL_CHARACTERS = 256


def hub_actor(request: Request, session: SessionDep, credentials: Bearer) -> Actor:
    """The caller; without a valid token, the two 401 answers that hub clients tell apart."""
    try:
        actor = identified(request, session, credentials)
    except Unauthenticated as error:
        raise HubRefused(ANONYMOUS if error.details["reason"] == "missing" else BAD_TOKEN) from None
    admitted(request, actor)
    return actor


# The declared action of every route here; what it allows is asked per repository.
hub_actor.ringi_permission = Permission.RELEASE_PULL  # type: ignore[attr-defined]


def asked(request: Request) -> Target:
    """What the raw path names."""
    return paths.split(request.scope["raw_path"], root_path=request.scope.get("root_path", ""))


Caller = Annotated[Actor, Depends(hub_actor)]
Asked = Annotated[Target, Depends(asked)]


def repository(session: SessionDep, actor: Caller, target: Asked) -> AdapterRepository | BaseRepository:
    """The repository that the path names, if the caller may see it."""
    if target.namespace == base_repository.NAMESPACE:
        return base_repository.find(session, actor, target)
    return adapter_repository.find(session, actor, target)


Repository = Annotated[AdapterRepository | BaseRepository, Depends(repository)]


def _json(document: Any, snapshot: Snapshot) -> JSONResponse:
    return JSONResponse(document, headers={"X-Repo-Commit": snapshot.commit, **documents.warning_headers(snapshot)})


@router.get("/{channel}/api/agent-harnesses")  # noqa: FAST003  # the same on every channel
def agent_harnesses() -> dict[str, Any]:
    """An empty register; the client keeps this answer for a day, and asks again in every process after any other."""
    return {"standardEnvVars": [], "harnesses": {}}


@router.get("/{channel}/api/whoami-v2")  # noqa: FAST003  # the same on every channel
def whoami(session: SessionDep, actor: Caller) -> dict[str, Any]:
    """Whose token this is."""
    organization = session.get_one(Organization, actor.organization_id)
    token = {"displayName": actor.name, "role": "read"}
    return {
        "type": "user", "id": str(actor.id), "name": actor.name, "fullname": actor.name, "orgs": [{"type": "org", "name": organization.name}],
        "auth": {"type": "access_token", "accessToken": token},
    }  # fmt: skip


@router.get(_REPOSITORY)
@router.get(_REPOSITORY + "/revision/{rest:path}")
def model_info(found: Repository, target: Asked, blobs: Annotated[str, Query()] = "") -> Response:
    """What a revision is, with its list of files."""
    snapshot = found.snapshot(target.revision)
    return _json(documents.info(snapshot, blobs=_yes(blobs)), snapshot)


@router.get(_REPOSITORY + "/tree/{rest:path}")
def tree(
    request: Request, found: Repository, target: Asked, recursive: Annotated[str, Query()] = "", cursor: Annotated[str, Query()] = ""
) -> Response:
    """Files and folders, a page at a time; `Link: rel="next"` names the next page."""
    snapshot = found.snapshot(target.revision)
    items = documents.tree(snapshot.files, target.path, recursive=_yes(recursive))
    if items is None:
        raise entry_not_found(snapshot.repository, target.path, snapshot.commit)
    start = int(cursor) if cursor.isascii() and cursor.isdigit() and len(cursor) < 10 else 0  # noqa: PLR2004  # an index
    response = _json(items[start : start + documents.TREE_PAGE], snapshot)
    if start + documents.TREE_PAGE < len(items):
        query = urlencode({**request.query_params, "cursor": start + documents.TREE_PAGE})
        # The raw path again: decoding it would take an encoded revision apart.
        here = f"{request.url.scheme}://{request.url.netloc}{request.scope['raw_path'].decode('ascii')}"
        response.headers["Link"] = f'<{here}?{query}>; rel="next"'
    return response


@router.get(_REPOSITORY + "/refs")
def refs(found: Repository) -> dict[str, Any]:
    """Branch `main` and the tags that the caller may pull."""
    return documents.refs(found.refs())


@router.get(_REPOSITORY + "/commits/{rest:path}")
def commits(found: Repository, target: Asked) -> Response:
    """The history up to a revision."""
    snapshot = found.snapshot(target.revision)
    return _json(documents.commits(found.history(snapshot)), snapshot)


@router.post(_REPOSITORY + "/paths-info/{rest:path}")
def paths_info(found: Repository, target: Asked, paths: Annotated[list[str], Form()]) -> Response:
    """The named files and folders."""
    snapshot = found.snapshot(target.revision)
    return _json(documents.paths_info(snapshot.files, paths), snapshot)


@router.get(_REPOSITORY + "/auth-check")
def auth_check(found: Repository) -> dict[str, Any]:
    """Whether the caller may pull `main`."""
    found.snapshot(MAIN)
    return {}


@router.get(_REPOSITORY + "/auth-check/write", dependencies=[Depends(repository)])
def auth_check_write() -> Response:
    """Nobody writes here."""
    raise HubRefused(Refusal(403, None, "This hub serves reads only; adapters are registered through /api/v1.", "hub_read_only"))


@router.api_route("/{channel}/{namespace}/{name}/resolve/{rest:path}", methods=["GET", "HEAD"])
def resolve(request: Request, found: Repository, target: Asked) -> Response:
    """The headers or the bytes of one file; ranges resume a cut download."""
    snapshot = found.snapshot(target.revision)
    file = next((file for file in snapshot.files if file.path == target.path), None)
    if file is None:
        raise entry_not_found(snapshot.repository, target.path, snapshot.commit)
    headers = documents.file_headers(snapshot, file)
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(file.size)})
    # A range is about the file that the client knows: with another ETag in If-Range it gets the whole one (RFC 9110, 13.1.5).
    same = request.headers.get("if-range", headers["ETag"]) == headers["ETag"]
    span = ranges.parse(request.headers.get("range") if same else None, file.size)
    if span is None:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{file.size}", "Content-Length": "0"})
    headers["Content-Length"] = str(span.end - span.start)
    if span.partial:
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{file.size}"
    pieces = get_store().open(file.digest, start=span.start, end=span.end)
    # One byte is how some clients ask for a file's size; whatever is more than that is a download, from wherever it starts.
    if span.end - span.start > 1 and file.path.endswith(_WEIGHTS):
        _note_download(found.actor, target, snapshot, file)
    return StreamingResponse(held_back(pieces), status_code=206 if span.partial else 200, headers=headers)


def _note_download(actor: Actor, target: Target, snapshot: Snapshot, file: FileRef) -> None:
    """In a transaction of its own, which is committed before the first byte leaves."""
    details: dict[str, str | bool | None] = {
        "channel": target.channel, "path": file.path[:_DETAIL_CHARACTERS], "file": file.digest, "revision": target.revision,
        "candidate": snapshot.candidate,
    }  # fmt: skip
    with transaction() as own:
        audit.record(
            own, actor, AuditAction.HUB_FILE_DOWNLOAD, object_type=snapshot.object_type, object_id=snapshot.object_id,
            object_digest=snapshot.digest, project_id=snapshot.project_id, details=details,
        )  # fmt: skip


@router.api_route("/{channel}/{anything:path}", methods=_ALL_METHODS)
def not_served() -> Response:
    """Telemetry, single sign-on exchange, uploads and whatever else the protocol has: not here."""
    return answer(
        Refusal(404, None, "This hub serves reads only and has no such route; adapters are registered through /api/v1.", "hub_no_route")
    )


def _yes(flag: str) -> bool:
    return flag.lower() in {"1", "true"}
