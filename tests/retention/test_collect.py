"""The collector: what nobody needs goes after the grace period, and nothing that somebody is about to need, however the two meet."""

import os
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import select

from retention.conftest import OVER, Ground
from ringi.db.session import get_sessionmaker, transaction
from ringi.jobs import service as jobs
from ringi.jobs.contracts.datasets import SplitSpec, ValidateDatasetPayload
from ringi.jobs.contracts.kinds import JobKind
from ringi.kit.digests import Digest
from ringi.kit.ids import uuid7
from ringi.retention import service as retention
from ringi.settings import get_settings
from ringi.storage import blobs
from ringi.storage.blobs import BlobCollected, StoreUnavailable, get_store
from ringi.storage.local import LocalBlobStore
from ringi.storage.schemas import StoredKind
from ringi.uploads import service as uploads
from ringi.uploads import sessions
from ringi.uploads.models import Upload, UploadSession
from ringi.uploads.schemas import UploadedFile, UploadState
from ringi.uploads.service import NotUploaded
from ringi_workers import housekeeping
from support.hub_client import free_port

MIB = 1024 * 1024
HOUR = timedelta(hours=1)


def job_over(digest: Digest) -> ValidateDatasetPayload:
    return ValidateDatasetPayload(dataset_id=uuid4(), version_name="行:v1", source=digest, split=SplitSpec(validation_fraction=0.1, seed=1))


def test_unused_bytes_go_with_their_rows_and_the_log_says_so(ground: Ground) -> None:
    digest = ground.uploaded("要らなくなった行".encode())
    assert ground.collected() == [digest]
    assert ground.rows() == set()
    assert list(ground.store.objects()) == []
    assert ground.events("blob.collect") == [(digest, ground.actor.organization_id)]
    with transaction() as session:
        assert session.scalars(select(Upload)).all() == []
        with pytest.raises(NotUploaded):
            uploads.claim_files(session, ground.actor, [UploadedFile(path="rows.jsonl", digest=digest)])
    assert ground.collected() == []


def test_the_same_bytes_after_that_are_stored_again(ground: Ground) -> None:
    digest = ground.uploaded(b"again and again")
    assert ground.collected() == [digest]
    assert ground.uploaded(b"again and again") == digest
    assert ground.is_whole(digest)


def test_sending_bytes_again_begins_their_grace_period_anew(ground: Ground) -> None:
    digest = ground.uploaded(b"sent long ago")
    with ground.superuser() as connection:
        connection.execute("UPDATE blobs SET created_at = created_at - interval '3 days'")
    # The row is old, the bytes were written just now.
    assert ground.collected(grace=HOUR) == []
    assert ground.is_whole(digest)
    if isinstance(ground.store, LocalBlobStore):
        os.utime(ground.store.path(digest), (0, 0))
        ground.uploaded(b"sent long ago")
        assert ground.collected(grace=HOUR) == []
        os.utime(ground.store.path(digest), (0, 0))
        assert ground.collected(grace=HOUR) == [digest]


def test_bytes_without_a_row_go_after_the_grace_period(ground: Ground) -> None:
    """What a worker leaves that was killed between storing its results and saying so."""
    stored = blobs.put(ground.store, [b"of a killed worker"])
    assert ground.collected(grace=HOUR) == []
    assert ground.collected() == [stored.digest]
    assert list(ground.store.objects()) == []


def test_what_never_was_sealed_goes_after_the_grace_period(ground: Ground) -> None:
    writer = ground.store.writer()
    for _ in range(3):
        writer.write(os.urandom(8 * MIB))
    (left,) = ground.store.objects()
    # moto says of every open multipart upload that it began in 2010: to it, twenty years ago is before the beginning, and an hour ago after it.
    before, after = (HOUR * 24 * 365 * 20, HOUR) if left.kind is StoredKind.MULTIPART else (HOUR, OVER)
    assert ground.collected(grace=before) == []
    assert [one.name for one in ground.store.objects()] == [left.name]
    assert ground.collected(grace=after) == [left.name]
    assert list(ground.store.objects()) == []
    writer.abort()


def test_things_with_names_of_others_are_left_alone(ground: Ground) -> None:
    if isinstance(ground.store, LocalBlobStore):
        place = ground.store.folder / "sha256" / "ab"
        place.mkdir(parents=True)
        (place / "README").write_text("whose is this?")
        (ground.store.parts / "README").write_text("and this?")
        assert ground.collected() == []
        assert len(list(ground.store.objects())) == 2


def test_an_abandoned_upload_ends_and_its_parts_go_and_an_open_one_keeps_them(ground: Ground) -> None:
    def opened(content: bytes) -> UploadSession:
        part = uuid7()
        writer = ground.store.part_writer(part)
        writer.write(content)
        size = writer.seal().size
        with transaction() as session:
            found = sessions.open_session(session, ground.actor, size=100, digest=blobs.put(ground.store, [content]).digest)
            return sessions.keep_part(session, ground.actor, found.id, offset=0, part=part, size=size)

    abandoned, going_on = opened(b"abandoned"), opened(b"going on")
    with ground.superuser() as connection:
        connection.execute("UPDATE upload_sessions SET expires_at = now() - interval '1 second' WHERE id = %s", (abandoned.id,))
    ground.collected()
    with transaction() as session:
        states = {one.id: one.state for one in session.scalars(sessions.listed(ground.actor))}
    assert states == {abandoned.id: UploadState.ENDED, going_on.id: UploadState.OPEN}
    parts = [found.name for found in ground.store.objects() if found.kind is StoredKind.PART]
    assert len(parts) == 1


def test_a_part_that_no_session_names_goes_after_the_grace_period(ground: Ground) -> None:
    part = uuid4()
    writer = ground.store.part_writer(part)
    writer.write(b"lost its race")
    writer.seal()
    assert ground.collected(grace=HOUR) == []
    assert ground.collected() == [str(part)]


def test_a_dry_run_names_the_same_and_removes_nothing(ground: Ground) -> None:
    unused, loose = ground.uploaded(b"unused"), blobs.put(ground.store, [b"loose"]).digest
    dry = sorted(one.name for one in retention.collect(ground.store, grace=OVER, dry_run=True) if one is not None)
    assert dry == sorted([unused, loose])
    assert ground.is_whole(unused)
    assert ground.collected() == dry


def test_what_an_uncommitted_request_claims_is_not_removed_and_is_kept_once_it_is_committed(ground: Ground) -> None:
    digest = ground.uploaded(b"about to be registered")
    with transaction() as session:
        uploads.claim_files(session, ground.actor, [UploadedFile(path="rows.jsonl", digest=digest)])
        assert ground.collected() == []
        jobs.enqueue(session, ground.actor, JobKind.VALIDATE_DATASET, job_over(digest), subject="行:v1", project_id=None)
        assert ground.collected() == []
    assert ground.collected() == []
    assert ground.is_whole(digest)


def test_a_request_that_is_rolled_back_holds_nothing(ground: Ground) -> None:
    digest = ground.uploaded(b"claimed in vain")
    with get_sessionmaker()() as session:
        uploads.claim_files(session, ground.actor, [UploadedFile(path="rows.jsonl", digest=digest)])
        session.rollback()
        assert ground.collected() == [digest]


def test_what_an_uncommitted_upload_is_registering_is_not_removed(ground: Ground) -> None:
    stored = blobs.put(ground.store, [b"sealed, and its row is on its way"])
    with transaction() as session:
        blobs.register(session, stored)
        assert ground.collected() == []
    assert ground.is_whole(stored.digest)


def test_bytes_that_are_sent_again_between_the_end_of_the_row_and_that_of_the_bytes_stay(ground: Ground) -> None:
    digest = ground.uploaded(b"meets the collector half-way")
    steps = retention.collect(ground.store, grace=OVER)
    while ground.rows():
        assert next(steps) is None
    assert [found.name for found in ground.store.objects()] == [digest]
    assert ground.uploaded(b"meets the collector half-way") == digest
    assert [one for one in steps if one is not None] == []
    assert ground.is_whole(digest)


def test_a_collector_that_is_killed_after_the_rows_is_followed_by_one_that_removes_the_bytes(ground: Ground) -> None:
    digest = ground.uploaded(b"half removed")
    steps = retention.collect(ground.store, grace=OVER)
    while ground.rows():
        next(steps)
    del steps
    assert ground.collected() == [digest]
    assert list(ground.store.objects()) == []


def test_who_registers_bytes_that_were_removed_meanwhile_is_told_to_send_them_again(ground: Ground) -> None:
    stored = blobs.put(ground.store, [b"removed between seal and register"])
    assert ground.collected() == [stored.digest]
    with pytest.raises(BlobCollected), transaction() as session:
        blobs.register(session, stored)
    assert ground.rows() == set()


def test_a_store_that_is_away_stops_the_round_and_not_the_relay(
    ground: Ground, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    digest = ground.uploaded(b"still needed")
    monkeypatch.setenv("RINGI_BLOB_URL", f"s3://bucket/x?endpoint=http://127.0.0.1:{free_port()}&region=ap-northeast-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    for cached in (get_settings, get_store):
        cached.cache_clear()
    housekeeping.Collecting().go_on()
    assert "The blob store cannot be used" in caplog.text
    assert ground.is_whole(digest)


def test_under_constant_collecting_no_row_ever_names_bytes_that_are_gone(ground: Ground) -> None:
    """Three clients store, register and now and then refer to a few contents while the collector, without any grace, removes what it may."""
    contents = [f"内容{number}".encode() for number in range(12)]

    def client(seed: int) -> int:
        rng, told = random.Random(seed), 0
        for _ in range(25):
            try:
                stored = blobs.put(ground.store, [rng.choice(contents)])
                with transaction() as session:
                    uploads.receive(session, ground.actor, stored)
                if rng.random() < 0.03:
                    with transaction() as session:
                        uploads.claim_files(session, ground.actor, [UploadedFile(path="rows", digest=stored.digest)])
                        jobs.enqueue(
                            session, ground.actor, JobKind.VALIDATE_DATASET, job_over(stored.digest), subject="行", project_id=None
                        )
            # Without any grace the collector takes even the file that bytes are being written to; the writer is told.
            except (BlobCollected, NotUploaded, StoreUnavailable):
                told += 1
        return told

    # thread: these are clients; the collector runs beside them.
    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(client, seed) for seed in range(3)]
        removed = 0
        while not all(one.done() for one in clients):
            removed += len(ground.collected())
            assert all(ground.is_whole(digest) for digest in ground.rows() - _unused(ground))
        assert all(one.result() >= 0 for one in clients)
    assert removed > 0
    assert all(ground.is_whole(digest) for digest in ground.rows())


def _unused(ground: Ground) -> set[Digest]:
    """Rows that may go at any moment."""
    with transaction() as session:
        return set(retention._unreferenced(session, OVER))
