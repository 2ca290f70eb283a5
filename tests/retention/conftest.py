"""This process as the collector of a platform of its own, over each kind of store."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import make_url, select

from ringi.audit.models import AuditEvent
from ringi.db.session import get_engine, get_sessionmaker, transaction
from ringi.identity.models import Organization, User
from ringi.identity.schemas import UserKind
from ringi.kit.actor import Actor, ActorKind
from ringi.kit.digests import Digest
from ringi.retention import service as retention
from ringi.settings import get_settings
from ringi.storage import blobs
from ringi.storage.blobs import BlobMissing, BlobStore, get_store
from ringi.storage.models import Blob
from ringi.uploads import service as uploads
from support.object_store import ObjectStore
from support.postgres import DatabaseUrls

# The grace period is over five seconds before now: everything is old. S3 tells times in whole seconds.
OVER = timedelta(seconds=-5)


@dataclass(frozen=True)
class Ground:
    """A database with one user, and a store."""

    database: DatabaseUrls
    store: BlobStore
    actor: Actor

    def uploaded(self, content: bytes) -> Digest:
        """Bytes as POST /uploads leaves them."""
        stored = blobs.put(self.store, [content])
        with transaction() as session:
            uploads.receive(session, self.actor, stored)
        return stored.digest

    def collected(self, *, grace: timedelta = OVER) -> list[str]:
        """Names of what one round removes, sorted."""
        return sorted(one.name for one in retention.collect(self.store, grace=grace) if one is not None)

    def is_whole(self, digest: Digest) -> bool:
        """Row and bytes are there, and the bytes are right."""
        with transaction() as session:
            known = session.get(Blob, digest) is not None
        try:
            return known and sum(len(piece) for piece in self.store.open(digest)) > 0
        except BlobMissing:
            return False

    def rows(self) -> set[Digest]:
        """What the database says is stored."""
        with transaction() as session:
            return set(session.scalars(select(Blob.digest)))

    def events(self, action: str) -> list[tuple[str, UUID | None]]:
        """Object and organisation of the log's entries of an action."""
        with transaction() as session:
            rows = session.scalars(select(AuditEvent).where(AuditEvent.action == action).order_by(AuditEvent.id))
            return [(row.object_id, row.organization_id) for row in rows]

    @contextmanager
    def superuser(self) -> Iterator[psycopg.Connection]:
        """What only tests may do: set the scene."""
        url = make_url(self.database.superuser_url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection


@pytest.fixture(params=["local", "s3"])
def kind_of_store(request: pytest.FixtureRequest) -> str:
    """Each kind; a module whose tests ask the database alone says `local`."""
    return str(request.param)


@pytest.fixture
def ground(
    request: pytest.FixtureRequest, kind_of_store: str, database: DatabaseUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Ground]:
    """Everything new."""
    url = (tmp_path / "blobs").as_uri()
    if kind_of_store == "s3":
        server: ObjectStore = request.getfixturevalue("object_store")
        url = server.new_bucket()
    caches = (get_settings, get_engine, get_sessionmaker, get_store)
    for name, value in {"DATABASE_URL": database.app_url, "DATA_DIR": str(tmp_path), "BLOB_URL": url}.items():
        monkeypatch.setenv(f"RINGI_{name}", value)
    for cached in caches:
        cached.cache_clear()
    with transaction() as session:
        organization = Organization(name="acme", display_name="検証株式会社")
        session.add(organization)
        session.flush()
        user = User(organization_id=organization.id, name="hana", kind=UserKind.HUMAN)
        session.add(user)
        session.flush()
        actor = Actor(ActorKind.USER, user.id, "hana", organization.id)
    yield Ground(database, get_store(), actor)
    get_engine().dispose()
    for cached in caches:
        cached.cache_clear()
