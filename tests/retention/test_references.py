"""The table of references: complete, and each place in it keeps the bytes that it names."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy import Boolean, Column, DateTime, LargeBinary, Numeric, String, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from all_models import metadata
from retention.conftest import Ground
from ringi.retention.references import COLUMNS, DOCUMENTS, NOT_REFERENCES, Place
from ringi.storage.schemas import StoredKind

DIGEST_LENGTH = 71


@pytest.fixture
def kind_of_store() -> str:
    """What refers to bytes is asked of the database; removing them from each store is shown by test_collect.py."""
    return "local"


def could_hold_digests(column: Column[Any]) -> bool:
    """JSON, a text of the length of a digest, or a key of the table of blobs."""
    refers = {key.column.table.name for key in column.foreign_keys}
    return isinstance(column.type, JSONB) or getattr(column.type, "length", None) == DIGEST_LENGTH or "blobs" in refers


def test_every_column_that_could_hold_digests_is_a_reference_or_is_listed_with_a_reason() -> None:
    found = {f"{table.name}.{column.name}" for table in metadata.tables.values() for column in table.columns if could_hold_digests(column)}
    named = {f"{place.table}.{place.column}" for place in (*COLUMNS, *DOCUMENTS)}
    assert named.isdisjoint(NOT_REFERENCES)
    assert found == named | NOT_REFERENCES.keys(), "say in retention/references.py whether the column refers to stored bytes"


def example(column: Column[Any]) -> Any:
    """A value of the column's type."""
    if isinstance(column.type, JSONB):
        return Jsonb({})
    if isinstance(column.type, Uuid):
        return uuid4()
    if isinstance(column.type, DateTime):
        return datetime.now(UTC)
    if isinstance(column.type, Boolean):
        return False
    if isinstance(column.type, LargeBinary):
        return b""
    if isinstance(column.type, String):
        return "queued" if column.name == "state" else f"x{uuid4().hex[:8]}"
    return 0.5 if isinstance(column.type, Numeric) else 1


def refer(ground: Ground, place: Place, value: Any) -> None:
    """A row of the place's table that holds `value`, and whatever else it must; what it belongs to need not exist."""
    values = {
        column.name: example(column)
        for column in metadata.tables[place.table].columns
        if not column.nullable and column.server_default is None
    }
    values[place.column] = value
    with ground.superuser() as connection:
        connection.execute("SET session_replication_role = replica")
        statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(place.table),
            sql.SQL(", ").join(map(sql.Identifier, values)),
            sql.SQL(", ").join([sql.Placeholder()] * len(values)),
        )
        connection.execute(statement, list(values.values()))


def place_id(place: Place) -> str:
    return f"{place.table}.{place.column}"


@pytest.mark.parametrize("place", COLUMNS, ids=place_id)
def test_a_column_keeps_the_bytes_that_it_names(ground: Ground, place: Place) -> None:
    kept, unused = ground.uploaded(b"kept"), ground.uploaded("使われない".encode())
    refer(ground, place, kept)
    assert ground.collected() == [unused]
    assert ground.is_whole(kept)


@pytest.mark.parametrize("place", DOCUMENTS, ids=place_id)
def test_a_document_keeps_the_bytes_that_it_names_at_any_depth(ground: Ground, place: Place) -> None:
    kept, deep, unused = ground.uploaded(b"kept"), ground.uploaded(b"deep"), ground.uploaded(b"unused")
    document = [{"path": "重み.safetensors", "digest": kept}, {"base": {"files": [{"digest": deep}, None, 3, "text"]}}]
    refer(ground, place, Jsonb(document))
    assert ground.collected() == [unused]
    assert ground.is_whole(kept)
    assert ground.is_whole(deep)


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled"])
def test_a_job_that_has_ended_keeps_nothing_by_itself(ground: Ground, state: str) -> None:
    digest = ground.uploaded(b"of an ended job")
    refer(ground, Place("jobs", "payload"), Jsonb({"source": digest}))
    assert ground.collected() == []
    with ground.superuser() as connection:
        # Rows of this test stand alone: no organisation, no log of the job's states.
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE jobs SET state = %s", (state,))
    assert ground.collected() == [digest]
    assert list(ground.store.objects()) == []


def test_an_upload_alone_is_no_reference_and_is_kept_for_the_grace_period(ground: Ground) -> None:
    digest = ground.uploaded(b"registered in time?")
    assert ground.collected(grace=timedelta(hours=1)) == []
    assert ground.is_whole(digest)
    assert ground.collected() == [digest]
    assert [found.kind for found in ground.store.objects()] == []
    assert StoredKind.BLOB not in {found.kind for found in ground.store.objects()}
