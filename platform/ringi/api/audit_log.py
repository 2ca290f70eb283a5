"""The audit log as standard tools read it (C2SP tlog-tiles under /audit/log), proofs of single entries, and samples for auditors.

Hash tiles hold the hashes of everybody's entries, which reveal nothing. Entry bundles show an organisation's auditor its own entries, and every
other one with the length 0; the deployment's monitor (RINGI_MONITOR_TOKEN) gets all of them, so that it can replay the log.
"""

import hmac
import secrets
from collections.abc import Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from sqlalchemy.orm import Session

from ringi.api.audit import Auditor, entries_out
from ringi.api.audit_parts import BadTime, read_bound
from ringi.api.audit_schemas import AuditLogOut, ConsistencyOut, SampleOut
from ringi.audit import generations, reading, sampling
from ringi.audit.published import AuditNotSigned, newest_signed, published
from ringi.audit.ringi_verify import encode_base64
from ringi.audit.schemas import AuditAction
from ringi.audit.tiles import TILE_WIDTH, parse_tile
from ringi.db.session import platform_transaction
from ringi.identity.dependencies import Bearer, allowed
from ringi.identity.permissions import Permission
from ringi.kit.actor import Actor, ActorKind, system_actor
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.settings import get_settings
from ringi.web.errors import responses
from ringi.web.route import ApiRoute
from ringi.web.session import SessionDep

# A year: a tile never changes once it is there. `private`, because it is only for those who may read the log.
FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable", "Vary": "Authorization"}
FRESH = {"Cache-Control": "private, no-cache"}
BINARY = "application/octet-stream"
_auditor: Callable[..., Actor] = allowed(Permission.AUDIT_READ).dependency

router = APIRouter(
    route_class=ApiRoute, tags=["audit"], responses=responses(Unauthenticated, Forbidden, NotFound, AuditNotSigned)
)  # fmt: skip


def log_reader(request: Request, session: SessionDep, credentials: Bearer) -> Actor:
    """An auditor by their own token, or the monitor by this deployment's; compared in constant time."""
    expected = get_settings().monitor_token
    if credentials is not None and expected and hmac.compare_digest(credentials.credentials.encode(), expected.encode()):
        return system_actor("monitor")
    return _auditor(request, session, credentials)


log_reader.ringi_permission = Permission.AUDIT_READ  # type: ignore[attr-defined]  # read by the test that walks the routes
LogReader = Annotated[Actor, Depends(log_reader)]


class Bytes(Response):
    """What a tile is served as."""

    media_type = BINARY


@router.get("/audit/log/checkpoint", response_class=PlainTextResponse)
def log_checkpoint(session: SessionDep, actor: LogReader) -> PlainTextResponse:
    """The newest signed checkpoint (C2SP tlog-checkpoint) that enough witnesses have cosigned, with their cosignatures.

    The monitor gets the newest signed one, with the cosignatures that it has: it compares rows of now, and cannot wait for a witness.
    """
    return _shown(session, actor, None)


def _shown(session: Session, actor: Actor, number: int | None) -> PlainTextResponse:
    shown = newest_signed(session, number) if actor.kind is ActorKind.SYSTEM else published(session, number)
    return PlainTextResponse(shown.note, headers=FRESH)


@router.get("/audit/log/tile/{path:path}", response_class=Bytes)
def log_tile(session: SessionDep, actor: LogReader, path: Annotated[str, Path(max_length=60)]) -> Response:
    """A tile of hashes, `<level>/<N>[.p/<W>]`, or a bundle of entries, `entries/<N>[.p/<W>]` (C2SP tlog-tiles).

    N is written as x001/x234/067. Of other organisations' entries an auditor gets the length 0; the monitor gets all.
    """
    return _tile(session, actor, path, None)


def _tile(session: SessionDep, actor: Actor, path: str, number: int | None) -> Response:
    if number is not None:
        generations.must_exist(session, number)
    tile = parse_tile(path)
    if tile is None or tile.leaves > newest_signed(session, number).checkpoint.size:
        raise NotFound("tile", path)
    if tile.level is not None:
        content = reading.hash_tile(session, tile, number)
    else:
        # Of the whole log: what is withheld is told from what is missing.
        with platform_transaction() as everyone:
            content = reading.entry_tile(
                everyone, tile, everyones=actor.kind is ActorKind.SYSTEM, organization_id=actor.organization_id, generation=number
            )
    # A partial tile never changes either, but a full one takes its place.
    return Bytes(content, headers=FOR_EVER if tile.width == TILE_WIDTH else FRESH)


@router.get("/audit/logs")
def list_logs(session: SessionDep, actor: LogReader) -> list[AuditLogOut]:  # noqa: ARG001  # the declared permission
    """The logs of this database, oldest first: the last one grows, and each before it ended when entries of it were lost."""
    return [AuditLogOut(number=one.generation, origin=one.origin, vkey=one.vkey) for one in generations.logs(session)]


Number = Annotated[int, Path(ge=1, le=32767, description="Of a log, as /audit/logs has it.")]


@router.get("/audit/logs/{number}/checkpoint", response_class=PlainTextResponse)
def ended_checkpoint(session: SessionDep, actor: LogReader, number: Number) -> PlainTextResponse:
    """The newest checkpoint of one of the logs, as /audit/log/checkpoint has it of the one that grows."""
    generations.must_exist(session, number)
    return _shown(session, actor, number)


@router.get("/audit/logs/{number}/tile/{path:path}", response_class=Bytes)
def ended_tile(session: SessionDep, actor: LogReader, number: Number, path: Annotated[str, Path(max_length=60)]) -> Response:
    """A tile of one of the logs, as /audit/log/tile has it of the one that grows."""
    return _tile(session, actor, path, number)


@router.get("/audit/events/{event_id}/proof", response_class=PlainTextResponse, responses=responses(reading.AuditNotSealed))
def event_proof(session: SessionDep, actor: Auditor, event_id: UUID) -> PlainTextResponse:
    """The proof that an entry of the organisation is in the log (C2SP tlog-proof); its `extra` line brings the entry's exact bytes."""
    return PlainTextResponse(reading.proof_file(session, event_id, actor.organization_id))


@router.get("/audit/consistency", responses=responses(reading.SizesOutOfOrder))
def log_consistency(
    session: SessionDep,
    actor: Auditor,  # noqa: ARG001  # the declared permission
    old: Annotated[int, Query(ge=0, le=2**62)],
    new: Annotated[int | None, Query(ge=0, le=2**62)] = None,
) -> ConsistencyOut:
    """The proof (RFC 9162 section 2.1.4) that the log of `old` entries is the beginning of that of `new`, by default the newest."""
    found = reading.consistency(session, old, new)
    note = None if found.note is None else found.note.decode()
    return ConsistencyOut(old=found.old, new=found.new, proof=[encode_base64(one) for one in found.hashes], checkpoint=note)


@router.get("/audit/sample", responses=responses(BadTime))
def draw_sample(
    session: SessionDep,
    actor: Auditor,
    action: Annotated[AuditAction | None, Query(description="Only entries of this action.")] = None,
    since: Annotated[str | None, Query(alias="from", max_length=40, description="At or after this time.")] = None,
    until: Annotated[str | None, Query(alias="to", max_length=40, description="Before this time.")] = None,
    size: Annotated[int, Query(ge=1, le=200, description="How many to draw.")] = 25,
    seed: Annotated[
        str | None, Query(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$", description="Drawn too unless given.")
    ] = None,
) -> SampleOut:
    """A population of the organisation's entries, counted, and a sample of it that anybody who holds the export can draw again."""
    found = sampling.sample(
        session, actor.organization_id, seed=seed or secrets.token_hex(16), size=size, action=action, since=read_bound("from", since),
        until=read_bound("to", until),
    )  # fmt: skip
    rule, drawn = found.rule, found.drawn
    return SampleOut(
        seed=rule.seed, size=rule.size, action=rule.action, since=rule.since, until=rule.until, population=drawn.population,
        first=drawn.first, last=drawn.last, checkpoint=found.signed.note.decode(), entries=entries_out(session, found.rows),
    )  # fmt: skip
