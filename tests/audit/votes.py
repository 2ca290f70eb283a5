"""A stand-in for a domain that keeps state rows: votes."""

from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy.orm import Session, sessionmaker

from ringi.audit import service
from ringi.audit.export import RecordRow, write_bundle
from ringi.audit.generations import Log
from ringi.audit.schemas import AuditAction
from ringi.kit.actor import Actor


class Votes:
    """A stand-in for a domain: vote records held here, their events in the log."""

    def __init__(self, sessions: sessionmaker[Session], actor: Actor) -> None:
        self._sessions, self._actor = sessions, actor
        self.rows: dict[str, dict[str, str]] = {}

    def cast(self, decision: str = "approve", *, vote: str | None = None) -> str:
        """Record a vote, or change one; returns its id."""
        identity = vote or str(uuid4())
        self.rows[identity] = {"decision": decision, "reason_digest": "sha256:" + "0" * 64}
        with self._sessions.begin() as session:
            service.record(
                session,
                self._actor,
                AuditAction.APPROVAL_VOTE,
                object_type="approval_vote",
                object_id=identity,
                record=self.rows[identity],
                payload=f"because {decision}",
            )
        return identity

    def _records(self, _: Session) -> list[RecordRow]:
        return [RecordRow("approval_vote", *row) for row in self.rows.items()]

    def export(self, path: Path, *, organization_id: UUID | None = None, log: Log | None = None) -> Path:
        """Write the bundle of the log (one that has ended, with `log`), or of one organisation's part of it, and these votes to `path`."""
        with self._sessions() as session:
            write_bundle(session, path, self._records, organization_id=organization_id, record_types=["approval_vote"], log=log)
        return path
