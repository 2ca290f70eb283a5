"""Tables of the audit log (governance B3). Which of them can only grow is enforced by `ddl.py`.

`audit_event` and `audit_pending` are written by the change's own transaction, all others by the one sequencer.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Text,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from ringi.db.base import Base


class AuditEvent(Base):
    """What happened. `body` is the truth, byte for byte; the plain columns are copies for searching and prove nothing.

    What a row must be to be written is in `entry_policy.py` and `guard.py`.
    """

    __tablename__ = "audit_event"
    __table_args__ = (
        Index("ix_audit_event_object_type_object_id", "object_type", "object_id", "id"),
        Index("ix_audit_event_project_id", "project_id", "id"),
        Index("ix_audit_event_organization_id", "organization_id", "id"),
        Index("ix_audit_event_actor_id", "actor_id", "id"),
        Index("ix_audit_event_action", "action", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True, cache=1), primary_key=True)
    event_id: Mapped[UUID] = mapped_column(unique=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    leaf_hash: Mapped[bytes] = mapped_column(LargeBinary)
    ts: Mapped[datetime] = mapped_column(index=True)
    action: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(16))
    actor_type: Mapped[str] = mapped_column(String(16))
    actor_id: Mapped[str] = mapped_column(String(64))
    object_type: Mapped[str] = mapped_column(String(64))
    object_id: Mapped[str] = mapped_column(String(256))
    project_id: Mapped[UUID | None]
    organization_id: Mapped[UUID | None]
    after_digest: Mapped[str | None] = mapped_column(String(71))


class AuditPending(Base):
    """Events without a leaf yet: a queue, not evidence."""

    __tablename__ = "audit_pending"

    event_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


class AuditPayload(Base):
    """Free text behind a leaf's `payload_commit`: HMAC-SHA-256(salt, text). Removing a row leaves every proof intact (governance B6)."""

    __tablename__ = "audit_payload"

    event_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("audit_event.id"), primary_key=True, autoincrement=False)
    salt: Mapped[bytes] = mapped_column(LargeBinary)
    # 'none': `content` is the UTF-8 text; 'aes-256-gcm': it is encrypted under the data key of `person_id` (personal.py).
    scheme: Mapped[str] = mapped_column(String(32), server_default="none")
    content: Mapped[bytes] = mapped_column(LargeBinary)
    # Whose text it is. Null: the platform's own, or written before people had keys; then it is the event's actor's.
    person_id: Mapped[UUID | None] = mapped_column(index=True)


class AuditPersonKey(Base):
    """The data key of one person, wrapped under the deployment's key. Destroyed keys stay as empty rows, so that none is made again."""

    __tablename__ = "audit_person_key"
    __table_args__ = (CheckConstraint("(wrapped IS NULL) = (destroyed_at IS NOT NULL)", name="destroyed_without_key"),)

    # No foreign key: this domain knows people by their opaque ids alone.
    person_id: Mapped[UUID] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(index=True)
    wrapped: Mapped[bytes | None] = mapped_column(LargeBinary)
    destroyed_at: Mapped[datetime | None]


class AuditLeaf(Base):
    """An event's place in the log."""

    __tablename__ = "audit_leaf"
    __table_args__ = (
        PrimaryKeyConstraint("generation", "leaf_index"),
        CheckConstraint("leaf_index >= 0 AND octet_length(leaf_hash) = 32", name="leaf"),
    )

    leaf_index: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    # No foreign key: the sequencer has read the event in the same transaction, nobody may delete one, and a key would ask for each again.
    event_id: Mapped[int] = mapped_column(BigInteger, unique=True)
    leaf_hash: Mapped[bytes] = mapped_column(LargeBinary)
    # Which of the logs of this database it belongs to (`AuditOrigin`).
    generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, server_default="1")


class AuditNode(Base):
    """A complete subtree's root, level 1 and above; level 0 is `audit_leaf`."""

    __tablename__ = "audit_node"
    __table_args__ = (
        PrimaryKeyConstraint("generation", "level", "idx"),
        CheckConstraint("level >= 1 AND idx >= 0 AND octet_length(hash) = 32", name="node"),
    )

    level: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    idx: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    # Which of the logs of this database it belongs to (`AuditOrigin`).
    generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, server_default="1")


class AuditCheckpoint(Base):
    """A signed note over the first `size` leaves."""

    __tablename__ = "audit_checkpoint"
    __table_args__ = (PrimaryKeyConstraint("generation", "size"),)

    size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    note: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    # Which of the logs of this database it belongs to (`AuditOrigin`).
    generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, server_default="1")


class AuditOrigin(Base):
    """The logs of this database in their order, the newest of which grows. There are no rows before a second one was opened (origins.py)."""

    __tablename__ = "audit_origin"
    __table_args__ = (CheckConstraint("generation >= 1", name="from_one"),)

    generation: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    origin: Mapped[str] = mapped_column(String(512), unique=True)
    # The key under which it was begun, as a vkey.
    vkey: Mapped[str] = mapped_column(Text)
    opened_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class AuditCosignature(Base):
    """A witness's signature line for a signed checkpoint. Lines are added to notes when these are shown; a note alone stays as it was signed."""

    __tablename__ = "audit_cosignature"

    # Sizes begin anew where a new origin is opened.
    origin: Mapped[str] = mapped_column(String(512), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    # `name+id` of its key, as in a vkey.
    witness: Mapped[str] = mapped_column(String(512), primary_key=True)
    line: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class AuditStop(Base):
    """Why nothing may be changed: a row that nobody has ended is the read-only mode. The policy of `audit_event` looks for it (`guard.py`)."""

    __tablename__ = "audit_stop"
    __table_args__ = (Index("uq_audit_stop_origin_open", "origin", unique=True, postgresql_where=text("ended_at IS NULL")),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    origin: Mapped[str] = mapped_column(String(512))
    code: Mapped[str] = mapped_column(String(64))
    message: Mapped[str] = mapped_column(Text)
    found_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    ended_at: Mapped[datetime | None]
    ended_reason: Mapped[str | None] = mapped_column(Text)


class AuditGuard(Base):
    """The one row that the policy of `audit_event` looks at; triggers of the tables that it sums up keep it (`guard.py`)."""

    __tablename__ = "audit_guard"
    __table_args__ = (CheckConstraint("id = 1", name="only_one"),)

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    # Whether a stop is open.
    stopped: Mapped[bool]
    # How the name of the log that grows stands in an entry's bytes; null before the first checkpoint.
    growing: Mapped[bytes | None] = mapped_column(LargeBinary)


class AuditHead(Base):
    """The one row that the sequencer moves: the growing tree's size and its frontier (`merkle.Frontier.to_bytes`)."""

    __tablename__ = "audit_head"
    __table_args__ = (
        CheckConstraint("id = 1", name="only_one"),
        CheckConstraint("size >= 0 AND octet_length(frontier) = 32 * bit_count(size::bit(64))", name="frontier_fits_size"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    size: Mapped[int] = mapped_column(BigInteger)
    frontier: Mapped[bytes] = mapped_column(LargeBinary)
    # The log that grows; only the owner of the tables changes it.
    generation: Mapped[int] = mapped_column(SmallInteger, server_default="1")
