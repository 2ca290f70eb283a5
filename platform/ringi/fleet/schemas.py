"""Workers as clients see them, and as they describe themselves."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import Field, StringConstraints

from ringi.web.schemas import Reason, Schema


class Device(StrEnum):
    """What a worker computes on, in torch's words."""

    CUDA = "cuda"
    CPU = "cpu"


class Wanted(StrEnum):
    """What people want of a worker: take jobs; take none; take none and end when the present one is done."""

    ACTIVE = "active"
    CORDONED = "cordoned"
    DRAINING = "draining"


class Condition(StrEnum):
    """How a worker stands: as wanted, or ended by itself, or silent for three heartbeats by the database's clock."""

    ACTIVE = "active"
    CORDONED = "cordoned"
    DRAINING = "draining"
    STOPPED = "stopped"
    LOST = "lost"


WorkerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._@-]{1,200}$")]


class WorkerFacts(Schema):
    """What a worker process says of itself when it starts.

    `owner` names this process among all that ever had the name. `claimed_bytes` is what its settings say, None where they say nothing;
    `measured_bytes` what its operating system or driver says: device memory of a GPU, else memory of the machine or container.
    """

    name: WorkerName
    owner: str
    queues: list[str]
    device: Device
    device_name: str
    claimed_bytes: int | None = Field(ge=1)
    measured_bytes: int | None = Field(ge=1)
    engines: list[str]
    versions: dict[str, str]
    organization: str | None
    heartbeat_s: float = Field(gt=0)


class WorkerOut(Schema):
    """One worker. `memory_bytes` is what jobs are matched with: the smaller of claim and measurement. `shared`: serves every organisation."""

    id: UUID
    name: str
    condition: Condition
    reason: str | None
    shared: bool
    queues: list[str]
    device: Device
    device_name: str
    memory_bytes: int | None
    claimed_bytes: int | None
    measured_bytes: int | None
    engines: list[str]
    versions: dict[str, str]
    job_id: UUID | None
    owner: str
    started_at: datetime
    heartbeat_at: datetime
    row_version: int


class ChangeWorker(Schema):
    """Why a worker is cordoned, drained or given back; it is kept in the audit log."""

    reason: Reason
