"""Which of the logs of a database is meant: the one that grows, or one that has ended when another origin was opened (`origins.py`)."""

from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, literal, select
from sqlalchemy.orm import Session

from ringi.audit.models import AuditCheckpoint, AuditHead, AuditOrigin
from ringi.audit.ringi_verify import Checkpoint, parse_note
from ringi.kit.errors import NotFound, RingiError

# Of the tables' leaves, nodes and checkpoints: those of the log that grows. One look-up a statement.
GROWING: ColumnElement[int] = select(AuditHead.generation).where(AuditHead.id == 1).scalar_subquery()


class AuditOriginDiffers(RingiError):
    """RINGI_AUDIT_ORIGIN of this process is not the name of the log of the database."""

    code, status = "audit_origin_differs", 503

    def __init__(self, told: str, found: str) -> None:
        super().__init__(
            f"RINGI_AUDIT_ORIGIN is '{told}', and the log of this database is '{found}'. Nothing was changed.",
            next_step="Start every process with the origin of the database, or give it the database that belongs to its origin.",
            details={"told": told, "found": found},
        )


class Log(NamedTuple):
    """One of the logs; `vkey` is the key that it began with, None for one that nothing has followed yet."""

    generation: int
    origin: str
    vkey: str | None


def of(generation: int | None) -> ColumnElement[int]:
    """The generation as a value of a statement; None is the one that grows."""
    return GROWING if generation is None else literal(generation)


def logs(session: Session | Connection) -> list[Log]:
    """Every log of the database, oldest first; none before the first checkpoint."""
    rows = session.execute(select(AuditOrigin.generation, AuditOrigin.origin, AuditOrigin.vkey).order_by(AuditOrigin.generation))
    found = [Log(*row) for row in rows]
    if found:
        return found
    note = session.scalar(select(AuditCheckpoint.note).order_by(AuditCheckpoint.size.desc()).limit(1))
    return [] if note is None else [Log(1, Checkpoint.parse(parse_note(note)[0]).origin, None)]


def must_be(session: Session | Connection, origin: str) -> None:
    """Raises AuditOriginDiffers unless the log that grows has this name, or none yet."""
    found = logs(session)
    if found and found[-1].origin != origin:
        raise AuditOriginDiffers(origin, found[-1].origin)


def log_named(session: Session, origin: str) -> Log:
    """Raises NotFound."""
    for one in logs(session):
        if one.origin == origin:
            return one
    raise NotFound("audit log", origin)


def must_exist(session: Session, generation: int) -> None:
    """Raises NotFound for a number that no log of this database has."""
    if generation > session.scalars(select(AuditHead.generation)).one():
        raise NotFound("audit log", generation)
