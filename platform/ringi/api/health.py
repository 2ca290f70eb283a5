"""Liveness and readiness. `/readyz` says which dependency is missing, and only those without which requests fail make the API unready.

Needed: the database, tables as new as this code, the blob store. Not needed: the broker, the relay, the sequencer, the notifier and the watcher: without
them requests succeed, jobs, deliveries and looks wait and the log grows later; taking the API away as well would make it worse. `audit_log` is
unavailable while the platform is read-only: reads go on, so the API stays.
"""

import logging
from collections.abc import Mapping
from typing import Literal

from fastapi import APIRouter, Response
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from ringi.api.health_schemas import Dependency, Health, Readiness
from ringi.audit.generations import AuditOriginDiffers, must_be
from ringi.audit.read_only import open_stop
from ringi.kit.errors import RingiError
from ringi.observe import probes, signs
from ringi.observe.probes import Found
from ringi.settings import get_settings
from ringi.storage.blobs import get_store

log = logging.getLogger("ringi.health")
router = APIRouter(tags=["health"])
PUBLIC_PATHS = ("/healthz", "/readyz")
NEEDED = frozenset({"database", "migrations", "blob_store"})


@router.get("/healthz")
def healthz() -> Health:
    """The process is alive."""
    return Health(status="ok")


@router.get("/readyz", responses={503: {"model": Readiness}})
def readyz(response: Response) -> Readiness:
    """Requests can be served, and what each dependency says."""
    found = {**_in_database(), "blob_store": _blob_store(), "broker": probes.broker()}
    missing = {name for name, one in found.items() if one.state == "unavailable"}
    status: Literal["ok", "degraded", "unavailable"] = "unavailable" if missing & NEEDED else "degraded" if missing else "ok"
    response.status_code = 503 if status == "unavailable" else 200
    rendered = {name: Dependency(state=one.state, needed=name in NEEDED, detail=one.detail) for name, one in found.items()}
    return Readiness(status=status, dependencies=rendered)


def _in_database() -> Mapping[str, Found]:
    asked = ("migrations", "audit_log", *signs.ROLES)
    unknown = {name: Found("unknown", "only the database knows") for name in asked}
    try:
        with probes.connected() as connection:
            found = {"database": probes.database(connection), "migrations": probes.migrations(connection)}
            if found["migrations"].state == "unavailable":
                return unknown | found
            found["audit_log"] = _audit_log(connection)
            ages = signs.seconds_since(connection)
    except SQLAlchemyError as error:
        return {"database": Found("unavailable", probes.reason(error)), **unknown}
    return found | {role: _alive(ages.get(role)) for role in signs.ROLES}


def _audit_log(connection: Connection) -> Found:
    try:
        must_be(connection, get_settings().audit_origin)
    except AuditOriginDiffers as error:
        return Found("unavailable", f"origin: {error.message}")
    why = open_stop(connection)
    return Found("ok") if why is None else Found("unavailable", f"read-only: {why}")


def _alive(age_s: float | None) -> Found:
    if age_s is None:
        return Found("unavailable", "it never left a sign of life")
    return Found("ok" if age_s <= signs.silent_after_s() else "unavailable", f"last sign of life {age_s:.0f} s ago")


def _blob_store() -> Found:
    try:
        get_store().check()
    except RingiError as error:
        # The whole message names addresses, and anybody may ask here.
        log.warning("the blob store does not answer: %s", error.message)
        return Found("unavailable", error.code)
    except Exception as error:  # noqa: BLE001  # whatever a store's client raises, the answer is that it does not answer
        return Found("unavailable", probes.reason(error))
    return Found("ok")
