"""Uploads in parts, on both stores: what is acknowledged stays, whoever is cut off, killed or raced; and only the announced bytes are sealed."""

import hashlib
import os
import resource
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from ringi.cli.errors import ApiError
from ringi.identity.schemas import Role
from ringi.storage.blobs import BlobMissing, store_at
from ringi.storage.schemas import StoredKind
from ringi.uploads.schemas import UploadOut, UploadSessionOut, UploadState
from support.at_once import at_once, codes
from support.object_store import object_store_server
from support.own_api import small_api, store_url
from support.running_platform import Platform, Processes, start_api
from support.waiting import until

pytestmark = pytest.mark.long

MIB = 1024 * 1024
KIB = 1024


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def opened(platform: Platform, data: bytes, user: str = "contributor") -> UploadSessionOut:
    return platform.as_(user).uploads.open(size=len(data), digest=digest_of(data))


def append(platform: Platform, session: UUID, data: bytes, start: int, end: int) -> UploadSessionOut:
    return platform.as_("contributor").uploads.append(session, offset=start, content=data[start:end])


def refused(platform: Platform, method: str, path: str, user: str = "contributor", **request: Any) -> tuple[int, str, dict[str, Any]]:
    answer = platform.call(user, method, f"/uploads/sessions{path}", **request)
    problem = answer.json()
    return answer.status_code, problem["code"], problem.get("details", {})


def in_store(platform: Platform, digest: str) -> bool:
    try:
        return b"".join(store_at(store_url(platform)).open(digest)) is not None
    except BlobMissing:
        return False


def left_over(platform: Platform) -> list[str]:
    """Whatever is in the store and no blob."""
    return [f"{found.kind} {found.name}" for found in store_at(store_url(platform)).objects() if found.kind is not StoredKind.BLOB]


def cut_off(platform: Platform, session: UUID, sent: bytes, *, announced: int, offset: int = 0) -> None:
    """A client that goes away in the middle of a part."""
    address = urlsplit(platform.server)
    head = (
        f"PATCH /api/v1/uploads/sessions/{session} HTTP/1.1\r\nHost: {address.netloc}\r\nUpload-Offset: {offset}\r\n"
        f"Authorization: Bearer {platform.tokens['contributor']}\r\nContent-Length: {announced}\r\n\r\n"
    )
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(head.encode() + sent)
        # The API has read it: on a loopback nothing is in flight once the receiver's window is empty again.
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(30)
        connection.recv(65536)


def test_a_file_in_parts_is_the_same_file(served: Platform, tmp_path: Path) -> None:
    file = tmp_path / "重み.safetensors"
    file.write_bytes(os.urandom(3 * MIB + 5))
    seen: list[tuple[int, int]] = []
    found = served.as_("contributor").upload(file, in_parts_over=0, part_bytes=MIB, on_bytes=lambda sent, total: seen.append((sent, total)))
    assert found == UploadOut(digest=digest_of(file.read_bytes()), size=3 * MIB + 5)
    assert b"".join(store_at(store_url(served)).open(found.digest)) == file.read_bytes()
    assert seen[-1] == (found.size, found.size)
    assert left_over(served) == []
    (session,) = [one for one in served.as_("contributor").uploads.all() if one.digest == found.digest]
    assert (session.state, session.offset) == (UploadState.STORED, found.size)


def test_nothing_at_all_can_be_sent_in_parts_too(served: Platform) -> None:
    session = opened(served, b"")
    assert served.as_("contributor").uploads.finish(session.id).size == 0


def test_what_was_acknowledged_survives_a_kill_of_the_api(served: Platform) -> None:
    data = os.urandom(2 * MIB)
    session = opened(served, data)
    append(served, session.id, data, 0, MIB)
    served.processes.kill("api")
    start_api(served.processes)
    served.close()
    assert served.as_("contributor").uploads.get(session.id).offset == MIB
    append(served, session.id, data, MIB, 2 * MIB)
    assert served.as_("contributor").uploads.finish(session.id).digest == digest_of(data)
    assert in_store(served, digest_of(data))


def test_a_client_goes_on_by_itself_when_the_api_is_killed_and_comes_back(served: Platform, tmp_path: Path) -> None:
    file = tmp_path / "large.bin"
    file.write_bytes(os.urandom(6 * MIB))
    sent: list[int] = []

    def kill_once(bytes_sent: int, _total: int) -> None:
        if bytes_sent >= 3 * MIB and 0 not in sent:
            sent.append(0)
            served.processes.kill("api")
            start_api(served.processes)
        sent.append(bytes_sent)

    found = served.as_("contributor").upload(file, in_parts_over=0, part_bytes=2 * MIB, on_bytes=kill_once)
    assert found.digest == digest_of(file.read_bytes())
    # The second part was sent again, the first one was not.
    again = sent[sent.index(0) + 2 :]
    assert min(again) > 2 * MIB
    assert in_store(served, found.digest)


def test_a_part_that_is_cut_off_keeps_what_had_arrived(served: Platform) -> None:
    data = os.urandom(MIB)
    session = opened(served, data)
    cut_off(served, session.id, data[: 300 * KIB], announced=MIB)
    found = until(lambda: served.as_("contributor").uploads.get(session.id).offset)
    assert found == 300 * KIB
    append(served, session.id, data, found, MIB)
    assert served.as_("contributor").uploads.finish(session.id).digest == digest_of(data)


def test_a_few_bytes_of_a_part_that_is_cut_off_are_not_worth_keeping(served: Platform) -> None:
    data = os.urandom(MIB)
    session = opened(served, data)
    cut_off(served, session.id, data[:100], announced=MIB)
    until(lambda: left_over(served) == [])
    assert served.as_("contributor").uploads.get(session.id).offset == 0


def test_of_two_clients_that_send_the_same_part_one_is_told_the_new_offset(served: Platform) -> None:
    data = os.urandom(MIB)
    session = opened(served, data)
    results = at_once(served, *[("contributor", lambda c: c.uploads.append(session.id, offset=0, content=data))] * 4)
    assert codes(results) == ["done"] + ["upload_offset_mismatch"] * 3
    assert {one.details["offset"] for one in results if isinstance(one, ApiError)} == {MIB}
    assert len(left_over(served)) == 1
    finished = at_once(served, *[("contributor", lambda c: c.uploads.finish(session.id))] * 3)
    # One joins the parts; who asks meanwhile is told to come back, and then hears what the first one did.
    assert "done" in codes(finished)
    assert set(codes(finished)) <= {"done", "upload_finishing"}
    assert all(served.as_("contributor").uploads.finish(session.id).digest == digest_of(data) for _ in range(2))
    assert left_over(served) == []


def test_two_clients_that_send_the_same_file_help_each_other(served: Platform, tmp_path: Path) -> None:
    file = tmp_path / "same.bin"
    file.write_bytes(os.urandom(4 * MIB))
    results = at_once(served, *[("contributor", lambda c: c.upload(file, in_parts_over=0, part_bytes=MIB))] * 2)
    assert codes(results) == ["done"] * 2
    digest = digest_of(file.read_bytes())
    assert in_store(served, digest)
    assert len(list(served.as_("auditor").audit.events(action="upload.store", object_id=digest))) == 1
    assert left_over(served) == []


def test_the_same_file_again_needs_no_bytes(served: Platform) -> None:
    data = os.urandom(MIB)
    session = opened(served, data)
    assert opened(served, data).id == session.id
    append(served, session.id, data, 0, MIB)
    served.as_("contributor").uploads.finish(session.id)
    again = opened(served, data)
    assert (again.id, again.state, again.offset) == (session.id, UploadState.STORED, MIB)
    served.add_user("colleague", Role.CONTRIBUTOR)
    # Another user has shown nothing yet.
    assert opened(served, data, "colleague").offset == 0


def test_every_wrong_step_says_where_the_upload_stands(served: Platform) -> None:
    data = os.urandom(MIB)
    session = opened(served, data)
    path = f"/{session.id}"
    assert refused(served, "POST", f"{path}/finish") == (409, "upload_incomplete", {"offset": 0})
    ahead = {"Upload-Offset": "10"}
    assert refused(served, "PATCH", path, content=data, headers=ahead) == (409, "upload_offset_mismatch", {"offset": 0})
    begin = {"Upload-Offset": "0"}
    assert refused(served, "PATCH", path, content=data + b"x", headers=begin)[:2] == (400, "upload_longer_than_announced")
    told = begin | {"X-Content-Digest": digest_of(b"other")}
    assert refused(served, "PATCH", path, content=data, headers=told)[:2] == (400, "blob_digest_mismatch")
    assert refused(served, "PATCH", path, content=data)[:2] == (422, "malformed_request")
    assert refused(served, "GET", f"/{uuid4()}")[:2] == (404, "not_found")
    assert refused(served, "POST", "", json={"size": 2**62, "digest": digest_of(b"")})[:2] == (413, "upload_too_large")
    assert served.as_("contributor").uploads.get(session.id).offset == 0
    assert left_over(served) == []


def test_bytes_that_are_not_the_announced_ones_end_the_upload(served: Platform) -> None:
    data = os.urandom(MIB)
    session = served.as_("contributor").uploads.open(size=MIB, digest=digest_of(b"announced"))
    append(served, session.id, data, 0, MIB)
    assert refused(served, "POST", f"/{session.id}/finish")[:2] == (400, "blob_digest_mismatch")
    assert refused(served, "POST", f"/{session.id}/finish")[:2] == (409, "upload_ended")
    assert refused(served, "PATCH", f"/{session.id}", content=b"x", headers={"Upload-Offset": str(MIB)})[:2] == (409, "upload_ended")
    assert not in_store(served, digest_of(data))
    assert left_over(served) == []


def test_an_upload_belongs_to_who_opened_it(served: Platform) -> None:
    session = opened(served, b"mine")
    served.add_user("stranger", Role.CONTRIBUTOR)
    for method, path in (("GET", ""), ("PATCH", ""), ("POST", "/finish"), ("DELETE", "")):
        assert refused(served, method, f"/{session.id}{path}", "stranger", headers={"Upload-Offset": "0"})[:2] == (404, "not_found")
    assert refused(served, "POST", "", "viewer", json={"size": 1, "digest": digest_of(b"x")})[:2] == (403, "forbidden")
    assert list(served.as_("stranger").uploads.all()) == []


def test_an_upload_that_is_given_up_leaves_nothing(served: Platform) -> None:
    data = os.urandom(MIB)
    session = opened(served, data)
    append(served, session.id, data, 0, MIB // 2)
    assert served.as_("contributor").uploads.end(session.id).state is UploadState.ENDED
    assert left_over(served) == []
    assert served.as_("contributor").uploads.end(session.id).state is UploadState.ENDED, "asked again, the same"
    assert refused(served, "PATCH", f"/{session.id}", content=data[MIB // 2 :], headers={"Upload-Offset": str(MIB // 2)})[:2] == (
        409,
        "upload_ended",
    )
    new = opened(served, data)
    assert (new.id != session.id, new.offset) == (True, 0)


def test_a_full_disk_in_the_middle_of_a_part_costs_that_part_only(shared_platform: Processes, tmp_path: Path) -> None:
    """The API process may write no file past 2 MiB: the kernel refuses the write half-way, as a full disk does."""
    data = os.urandom(4 * MIB)
    with small_api(shared_platform, tmp_path / "own") as platform:
        session = opened(platform, data)
        append(platform, session.id, data, 0, MIB)
        api = platform.processes.running["api"].pid
        usual = resource.prlimit(api, resource.RLIMIT_FSIZE)
        resource.prlimit(api, resource.RLIMIT_FSIZE, (2 * MIB, usual[1]))
        rest, where = data[MIB:], {"Upload-Offset": str(MIB)}
        assert refused(platform, "PATCH", f"/{session.id}", content=rest, headers=where)[:2] == (507, "blob_store_full")
        resource.prlimit(api, resource.RLIMIT_FSIZE, usual)
        append(platform, session.id, data, MIB, 4 * MIB)
        # There is room for the parts, and none for the whole: the upload stays as it is until there is.
        resource.prlimit(api, resource.RLIMIT_FSIZE, (2 * MIB, usual[1]))
        assert refused(platform, "POST", f"/{session.id}/finish")[:2] == (507, "blob_store_full")
        resource.prlimit(api, resource.RLIMIT_FSIZE, usual)
        assert platform.as_("contributor").uploads.finish(session.id).digest == digest_of(data)
        assert left_over(platform) == []


def test_a_store_that_dies_in_the_middle_is_a_clear_refusal_and_leaves_nothing_to_be_seen(
    shared_platform: Processes, tmp_path: Path
) -> None:
    data = os.urandom(12 * MIB)
    with object_store_server() as server, small_api(shared_platform, tmp_path / "own", RINGI_BLOB_URL=server.new_bucket()) as platform:
        session = opened(platform, data)

        def dying() -> Any:
            yield data[: 9 * MIB]
            server.kill()
            yield data[9 * MIB :]

        answer = platform.call("contributor", "POST", "/uploads", content=dying())
        assert (answer.status_code, answer.json()["code"]) == (503, "blob_store_unavailable")
        where = {"Upload-Offset": "0"}
        assert refused(platform, "PATCH", f"/{session.id}", content=data, headers=where)[:2] == (503, "blob_store_unavailable")
        assert platform.as_("contributor").uploads.get(session.id).offset == 0
        assert list(platform.as_("auditor").audit.events(action="upload.store")) == []
        ready = platform.call(None, "GET", "/../../readyz")
        assert ready.status_code == 503
        assert ready.json()["dependencies"]["blob_store"]["detail"] == "blob_store_unavailable"
