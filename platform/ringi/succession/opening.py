"""End a log that has lost signed entries, and begin the one that follows it, in one transaction (governance B4.3).

What the old log holds up to its last checkpoint in the database stays as it is, for ever. Entries beyond, which no checkpoint there covers, leave the old
log and enter the new one behind leaf 0, with their bytes as they are: so nothing that is committed is lost, and nothing is unsigned. Leaf 0 says what was
signed, what is left, why, and who approved.
"""

from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import delete, func, insert, or_, select, text, update
from sqlalchemy.orm import Session

from ringi.audit import service as audit
from ringi.audit.generations import GROWING, logs
from ringi.audit.models import AuditCheckpoint, AuditEvent, AuditHead, AuditLeaf, AuditNode, AuditOrigin, AuditPending, AuditStop
from ringi.audit.note import Signer, sign_checkpoint
from ringi.audit.ringi_verify import APPROVALS, Checkpoint, Policy, VerifierKey, encode_base64, parse_statement
from ringi.audit.schemas import AuditAction
from ringi.audit.sequence import SEQUENCE_LOCK, SIGN_LOCK, place, read_head
from ringi.identity.models import Membership, User
from ringi.identity.schemas import Role
from ringi.kit.actor import system_actor
from ringi.kit.errors import Conflict
from ringi.settings import Settings
from ringi.succession.state import State, gather
from ringi.succession.statement import person_of, signature_line


class OriginOpened(Conflict):
    """The new log was begun before."""

    code = "audit_origin_opened"

    def __init__(self, origin: str) -> None:
        super().__init__(
            f"The log '{origin}' is open already.", next_step="Set RINGI_AUDIT_ORIGIN to it everywhere, and start the platform."
        )


class OtherProposed(Conflict):
    """A key was drawn for a new log of another name, which a statement may already name."""

    code = "audit_origin_proposed"

    def __init__(self, origin: str, path: Path) -> None:
        super().__init__(
            f"The log '{origin}' was proposed before, and its key lies in '{path}'.",
            next_step=f"Propose it again with --origin {origin}, or remove that file first: its statements are void then.",
        )


class NextKeyMissing(Conflict):
    """The key of the new log is not on this machine."""

    code = "audit_origin_key_missing"

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The new log's key is not at '{path}'.", next_step="Open it on the machine where it was proposed, or propose anew here."
        )


class TextUnusable(Conflict):
    """A file that should hold a statement does not even hold text."""

    code = "file_unusable"

    def __init__(self, path: Path) -> None:
        super().__init__(f"'{path}' is not text in UTF-8.", next_step="Give the file that propose-origin wrote.")


class StatementOutdated(Conflict):
    """The statement is not about the database as it is."""

    code = "audit_statement_outdated"

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"The statement is about another state of the database: {', '.join(names)} differ.",
            next_step="Propose anew, and let both administrators approve that statement.",
        )


class ApprovalsMissing(Conflict):
    """Fewer than two administrators approved."""

    code = "audit_approvals_missing"


class NotAdministrator(Conflict):
    """Who approved is no administrator of this platform."""

    code = "audit_not_administrator"


class Opened(NamedTuple):
    """The new log, and how many entries stand behind its leaf 0."""

    origin: str
    carried: int


def fields_of(state: State, new_key: VerifierKey) -> dict[str, str | int]:
    """What a statement says of the database; the reason and the time are its own."""
    return {
        "old_origin": state.held.origin, "old_key": str(state.key), "last_size": state.last.size, "last_root": encode_base64(state.last.root),
        "last_signature": state.line, "held_size": state.held.size, "held_root": encode_base64(state.held.root),
        "lost": state.last.size - state.held.size, "new_origin": new_key.name, "new_key": str(new_key),
    }  # fmt: skip


def open_origin(session: Session, settings: Settings, statement: str, approvals: list[bytes], policy: Policy, new_key: Signer) -> Opened:
    """Everything in `session`'s transaction, which must be the tables' owner's and has seen nothing yet; nothing is changed when it is refused.

    The new log is signed in it too: whenever it is lost again, its leaf 0 and what stands behind it are under one of its checkpoints.

    Raises OriginOpened, NotStopped, AuditOriginDiffers, StatementOutdated, ApprovalInvalid, ApprovalsMissing, NotAdministrator, NothingLost.
    """
    fields = parse_statement(statement)
    session.execute(text("SET LOCAL lock_timeout = '60s'"))
    for lock in (SEQUENCE_LOCK, SIGN_LOCK):
        session.execute(select(func.pg_advisory_xact_lock(lock)))
    # Whoever is writing an event ends first; whoever comes later writes for the new log, or not at all.
    session.execute(text("LOCK TABLE audit_event, audit_pending IN EXCLUSIVE MODE"))
    if any(one.origin == fields["new_origin"] for one in logs(session)):
        raise OriginOpened(fields["new_origin"])
    kept = f"{fields['old_origin']}\n{fields['last_size']}\n{fields['last_root']}\n\n{fields['last_signature']}\n".encode()
    # What a witness alone knew is in the statement, signed by the log.
    state = gather(session, settings, [kept] if fields["old_origin"] == settings.audit_origin else [])
    now = fields_of(state, new_key.verifier)
    # Another signature over the same checkpoint is as good.
    differ = [name for name in now if now[name] != fields[name] and name not in {"old_key", "last_signature"}]
    if differ:
        raise StatementOutdated(differ)
    lines = _approved(session, statement, approvals, policy)
    carried = _cut(session, state.held.size)
    _begin(session, fields)
    details = {**fields, **dict(zip(APPROVALS, lines, strict=True)), "carried": len(carried)}
    event = audit.record(
        session, system_actor("operator"), AuditAction.LOG_ORIGIN_OPEN, object_type="audit_log", object_id=fields["new_origin"],
        origin=fields["new_origin"], details=details,
    )  # fmt: skip
    first = session.execute(select(AuditEvent.id, AuditEvent.leaf_hash).where(AuditEvent.event_id == event)).one()
    place(session, [(first.id, first.leaf_hash), *carried])
    tree = read_head(session)
    note = sign_checkpoint(Checkpoint(fields["new_origin"], tree.size, tree.root()), new_key)
    session.execute(insert(AuditCheckpoint).values(generation=GROWING, size=tree.size, note=note))
    return Opened(fields["new_origin"], len(carried))


def _approved(session: Session, statement: str, approvals: list[bytes], policy: Policy) -> list[str]:
    """The lines of two different administrators."""
    lines: dict[str, str] = {}
    for note in approvals:
        name, line = signature_line(note, statement, policy.admins)
        _must_be_administrator(session, name)
        lines[name] = line
    if len(lines) < len(APPROVALS):
        raise ApprovalsMissing(
            f"{len(lines)} administrator approved; two different ones must.", next_step="Let another one approve the same statement."
        )
    return [lines[name] for name in sorted(lines)[: len(APPROVALS)]]


def _must_be_administrator(session: Session, name: str) -> None:
    # unscoped: the deployment's log is every organisation's.
    roles = (
        select(Membership.id)
        .join(User, User.id == Membership.user_id)
        .where(Membership.user_id == person_of(name), Membership.role.in_([Role.SYSTEM_ADMIN, Role.IDENTITY_ADMIN]))
        .where(Membership.revoked_at.is_(None), User.disabled_at.is_(None))
        .where(or_(Membership.expires_at.is_(None), Membership.expires_at > func.clock_timestamp()))
    )
    if session.scalar(roles.limit(1)) is None:
        raise NotAdministrator(
            f"'{name}' holds neither system_admin nor identity_admin.", next_step="Let somebody approve who does, by this database."
        )


def _cut(session: Session, size: int) -> list[tuple[int, bytes]]:
    """Take what no checkpoint covers from the log that ends; returns it with what has no leaf yet, in order, as ids and leaf hashes."""
    generation = session.scalars(select(AuditHead.generation)).one()
    beyond: list[Any] = [AuditLeaf.generation == generation, AuditLeaf.leaf_index >= size]
    waiting = select(AuditLeaf.event_id).where(*beyond).union(select(AuditPending.event_id))
    found = select(AuditEvent.id, AuditEvent.leaf_hash).where(AuditEvent.id.in_(waiting)).order_by(AuditEvent.id)
    carried = [(row.id, row.leaf_hash) for row in session.execute(found)]
    # Leaves were never shown nor signed; the one place where any is removed, by the owner, in the transaction that gives the events new ones.
    for table, gone in (
        (AuditLeaf, delete(AuditLeaf).where(*beyond)),
        (AuditNode, delete(AuditNode).where(AuditNode.generation == generation, (AuditNode.idx + 1).op("<<")(AuditNode.level) > size)),
    ):
        name = table.__tablename__
        session.execute(text(f"ALTER TABLE {name} DISABLE TRIGGER {name}_no_change"))
        session.execute(gone)
        session.execute(text(f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER {name}_no_change"))
    return carried


def _begin(session: Session, fields: dict[str, Any]) -> None:
    generation = session.scalars(select(AuditHead.generation)).one()
    if not logs(session) or session.scalar(select(func.count()).select_from(AuditOrigin)) == 0:
        session.execute(insert(AuditOrigin).values(generation=generation, origin=fields["old_origin"], vkey=fields["old_key"]))
    session.execute(insert(AuditOrigin).values(generation=generation + 1, origin=fields["new_origin"], vkey=fields["new_key"]))
    session.execute(update(AuditHead).values(generation=generation + 1, size=0, frontier=b""))
    reason = f"the log {fields['new_origin']} follows: {fields['reason']}"
    ended = update(AuditStop).where(AuditStop.ended_at.is_(None))
    session.execute(ended.values(ended_at=func.clock_timestamp(), ended_reason=reason))
