"""The answers that are kept for requests with an `Idempotency-Key`."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import LargeBinary, String, func
from sqlalchemy.orm import Mapped, mapped_column

from ringi.db.base import Base


class KeptAnswer(Base):
    """What was answered to a caller's key, written in the transaction of the change. `sealed`: the body is encrypted (web/sealing.py)."""

    __tablename__ = "idempotency_keys"

    # The caller: all zeros is the operator with the setup key. No foreign key, so that a row is a plain insert on the path of every write.
    user_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    organization_id: Mapped[UUID | None]
    # SHA-256 over method, path, query and body.
    fingerprint: Mapped[str] = mapped_column(String(71))
    status: Mapped[int]
    headers: Mapped[dict[str, Any]]
    body: Mapped[bytes] = mapped_column(LargeBinary)
    sealed: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp(), index=True)
