"""HTTP for the workers."""

from typing import Annotated

from fastapi import APIRouter

from ringi.fleet import service
from ringi.fleet.schemas import ChangeWorker, Wanted, WorkerName, WorkerOut
from ringi.fleet.service import Seen, WorkerShared
from ringi.identity.dependencies import allowed
from ringi.identity.permissions import Permission
from ringi.kit.actor import Actor
from ringi.kit.errors import Forbidden, NotFound, Unauthenticated
from ringi.web.errors import responses
from ringi.web.preconditions import IfMatch, PreconditionFailed
from ringi.web.route import ApiRoute
from ringi.web.session import SessionDep

router = APIRouter(route_class=ApiRoute, prefix="/workers", tags=["workers"], responses=responses(Unauthenticated, Forbidden, NotFound))
Reader = Annotated[Actor, allowed(Permission.ORGANIZATION_READ)]
Keeper = Annotated[Actor, allowed(Permission.WORKER_MANAGE)]


def worker_out(found: Seen) -> WorkerOut:
    """A worker as clients see it."""
    worker = found.worker
    computed = {"condition": found.condition, "shared": worker.organization_id is None}
    plain = {name: getattr(worker, name) for name in WorkerOut.model_fields if name not in computed}
    return WorkerOut(**plain, **computed)


@router.get("")
def list_workers(session: SessionDep, actor: Reader) -> list[WorkerOut]:
    """The workers that serve the caller's organisation, by name."""
    return [worker_out(one) for one in service.seen(session, actor)]


@router.get("/{name}")
def get_worker(session: SessionDep, actor: Reader, name: WorkerName) -> WorkerOut:
    """One worker: what it has, what it does, and when it was last heard of."""
    return worker_out(service.find(session, actor, name))


@router.post("/{name}/cordon", responses=responses(WorkerShared, PreconditionFailed))
def cordon_worker(session: SessionDep, actor: Keeper, name: WorkerName, body: ChangeWorker, match: IfMatch) -> WorkerOut:
    """Let it take no more jobs; it finishes the one it has."""
    return worker_out(service.want(session, actor, name=name, wanted=Wanted.CORDONED, reason=body.reason, match=match))


@router.post("/{name}/uncordon", responses=responses(WorkerShared, PreconditionFailed))
def uncordon_worker(session: SessionDep, actor: Keeper, name: WorkerName, body: ChangeWorker, match: IfMatch) -> WorkerOut:
    """Let it take jobs again."""
    return worker_out(service.want(session, actor, name=name, wanted=Wanted.ACTIVE, reason=body.reason, match=match))


@router.post("/{name}/drain", responses=responses(WorkerShared, PreconditionFailed))
def drain_worker(session: SessionDep, actor: Keeper, name: WorkerName, body: ChangeWorker, match: IfMatch) -> WorkerOut:
    """Let it finish the job it has, take no other, and end. Started again, it is cordoned."""
    return worker_out(service.want(session, actor, name=name, wanted=Wanted.DRAINING, reason=body.reason, match=match))
