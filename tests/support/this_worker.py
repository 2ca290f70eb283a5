"""This process as a worker of a platform of its own: a job of a new organisation, and a domain that keeps nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from ringi.db.session import get_engine, get_sessionmaker, transaction
from ringi.identity.models import Organization
from ringi.jobs import service as jobs
from ringi.jobs.contracts.datasets import SplitSpec, ValidateDatasetPayload
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.models import Job
from ringi.kit.actor import Actor, ActorKind
from ringi.settings import get_settings
from ringi.storage.blobs import get_store
from support.postgres import DatabaseUrls

PAYLOAD = ValidateDatasetPayload(
    dataset_id=UUID(int=1), version_name="rows:v1", source=f"sha256:{'0' * 64}", split=SplitSpec(validation_fraction=0.1, seed=1)
)
# Any contract will do as a result: the domain of these tests keeps nothing of it.
RESULT = PAYLOAD


@pytest.fixture(autouse=True)
def this_process(database: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is a worker of a platform of its own."""
    caches = (get_settings, get_engine, get_sessionmaker, get_store)
    for name, value in {"DATABASE_URL": database.app_url, "DATA_DIR": str(tmp_path), "HEARTBEAT_S": "0.2"}.items():
        monkeypatch.setenv(f"RINGI_{name}", value)
    for cached in caches:
        cached.cache_clear()
    yield
    get_engine().dispose()
    for cached in caches:
        cached.cache_clear()


def asked(**changes: Any) -> UUID:
    """A queued job of a new organisation."""
    with transaction() as session:
        organization = Organization(name=uuid4().hex)
        session.add(organization)
        session.flush()
        actor = Actor(ActorKind.USER, uuid4(), "hana", organization.id)
        job = jobs.enqueue(session, actor, JobKind.VALIDATE_DATASET, PAYLOAD, subject="rows:v1", project_id=None)
        for name, value in changes.items():
            setattr(job, name, value)
        return job.id


def seen(job_id: UUID) -> Job:
    with transaction() as session:
        return session.scalars(select(Job).where(Job.id == job_id)).one()


def kept(_session: Session, _job: Job, _result: Any) -> None:
    """A domain that is content."""
