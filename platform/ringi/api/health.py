"""Liveness and readiness. `/readyz` says which dependency is missing."""

from fastapi import APIRouter, Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from ringi.db.session import get_engine
from ringi.kit.errors import RingiError
from ringi.storage.blobs import get_store
from ringi.web.schemas import Schema

router = APIRouter(tags=["health"])
PUBLIC_PATHS = ("/healthz", "/readyz")


class Health(Schema):
    """The process answers."""

    status: str


class Readiness(Schema):
    """Every dependency: `ok`, or what is wrong. The broker is none of them: without it requests succeed and jobs wait."""

    status: str
    dependencies: dict[str, str]


@router.get("/healthz")
def healthz() -> Health:
    """The process is alive."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Readiness}})
def readyz(response: Response) -> Readiness:
    """Requests can be served."""
    found = {"database": _database(), "blob_store": _blob_store()}
    ready = all(state == "ok" for state in found.values())
    response.status_code = 200 if ready else 503
    return Readiness(status="ok" if ready else "unavailable", dependencies=found)


def _database() -> str:
    try:
        with get_engine().connect() as connection:
            connection.execute(text("SELECT 1 FROM alembic_version"))
    except SQLAlchemyError as error:
        return f"unavailable: {type(getattr(error, 'orig', None) or error).__name__}"
    return "ok"


def _blob_store() -> str:
    try:
        get_store().check()
    except RingiError as error:
        return f"unavailable: {error.message}"
    except OSError as error:
        return f"unavailable: {error.strerror}"
    return "ok"
