"""An organisation with two projects, its jobs, and workers that are rows alone: this process takes their jobs."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from ringi.db.session import transaction
from ringi.fleet import service as fleet
from ringi.fleet.matching import GIB
from ringi.fleet.schemas import Device, WorkerFacts
from ringi.identity.models import Organization, Project
from ringi.jobs import placement
from ringi.jobs import service as jobs
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.models import Job
from ringi.kit.actor import Actor, ActorKind
from support.this_worker import PAYLOAD


@dataclass(frozen=True)
class House:
    """An organisation with two projects."""

    actor: Actor
    one: UUID
    two: UUID

    def asked(self, project: UUID | None = None, **changes: Any) -> UUID:
        """A queued job."""
        with transaction() as session:
            job = jobs.enqueue(session, self.actor, JobKind.VALIDATE_DATASET, PAYLOAD, subject="行:v1", project_id=project or self.one)
            for name, value in changes.items():
                setattr(job, name, value)
            return job.id

    def needing(self, memory_bytes: int | None = None, **needs: Any) -> UUID:
        """A queued job that needs something."""
        memory = {"memory_bytes": memory_bytes} if memory_bytes else {}
        return self.asked(requirements={"queue": "cpu", **memory, **needs})

    def waits_for(self, job_id: UUID) -> str | None:
        """The words of the job's view."""
        with transaction() as session:
            why = placement.waiting_for(session, [jobs.find(session, self.actor, job_id)]).get(job_id)
        return why.text if why else None


@pytest.fixture
def house() -> House:
    with transaction() as session:
        organization = Organization(name=uuid4().hex)
        session.add(organization)
        session.flush()
        actor = Actor(
            ActorKind.USER,
            uuid4(),
            "hana",
            organization.id,
            organization_permissions=frozenset({"project:read", "worker:manage", "job:prioritize"}),
        )
        projects = [Project(organization_id=organization.id, name=name) for name in ("one", "two")]
        session.add_all(projects)
        session.flush()
        ids = [project.id for project in projects]
    return House(actor, *ids)


def registered(name: str = "cpu1@host", *, memory: int | None = 16 * GIB, claimed: int | None = None, **changes: Any) -> str:
    """A worker whose process is `name/here/1`, the owner of what it takes."""
    plain: dict[str, Any] = {
        "name": name, "owner": f"{name}/here/1", "queues": ["cpu"], "device": Device.CPU, "device_name": "x", "claimed_bytes": claimed,
        "measured_bytes": memory, "engines": ["peft", "transformers"], "versions": {}, "organization": None, "heartbeat_s": 5.0,
    }  # fmt: skip
    with transaction() as session:
        fleet.register(session, WorkerFacts(**(plain | changes)))
    return name


def taken(worker: str = "cpu1@host") -> UUID | None:
    with transaction() as session:
        job = jobs.claim_next(session, worker=worker, owner=f"{worker}/here/1", lease_s=60)
        return job.id if job else None


def job_of(job_id: UUID) -> Job:
    with transaction() as session:
        return session.scalars(select(Job).where(Job.id == job_id)).one()
