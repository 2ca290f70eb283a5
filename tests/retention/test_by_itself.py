"""The collector in its place: the relay's process, the routes, and the command line."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from ringi.cli.errors import ApiError
from ringi.identity.schemas import Role
from ringi.storage.blobs import store_at
from ringi.storage.schemas import StoredKind
from support.hub_client import free_port
from support.own_api import store_url
from support.postgres import DatabaseUrls
from support.running_platform import PROJECT, Platform, Processes, environment_of, new_organization, start_api
from support.tiny_model import make_tiny_rows
from support.waiting import until


def names(platform: Platform) -> set[str]:
    """Of the blobs in the store."""
    return {found.name for found in store_at(store_url(platform)).objects() if found.kind is StoredKind.BLOB}


def test_the_relay_removes_what_nothing_refers_to_and_keeps_what_a_job_needs(database: DatabaseUrls, broker: str, tmp_path: Path) -> None:
    """No worker runs, so the job that refers to the rows stays open."""
    (tmp_path / "data").mkdir()
    own = {"RINGI_ORPHAN_GRACE_S": "2", "RINGI_COLLECT_EVERY_S": "0.5"}
    environment = environment_of(tmp_path, database, broker, free_port()) | own
    processes = Processes(tmp_path, database, broker, environment)
    try:
        start_api(processes)
        with new_organization(processes) as platform:
            contributor = platform.as_("contributor")
            contributor.datasets.create(PROJECT, "faq")
            rows = make_tiny_rows(tmp_path / "rows.jsonl", 30)
            contributor.datasets.add_version(PROJECT, "faq", rows)
            needed = names(platform)
            (tmp_path / "unused.bin").write_bytes("使われない".encode())
            unused = contributor.upload(tmp_path / "unused.bin").digest
            assert names(platform) == needed | {unused}
            processes.start("relay", "ringi_workers.relay")
            until(lambda: names(platform) == needed, timeout_s=60)
            # What is needed is older than the grace period by now, and stays.
            assert [one.object_id for one in platform.logged("blob.collect")] == [unused]
            until(lambda: "unused objects" in processes.log_of("relay"))
    finally:
        processes.stop()


def ringi(platform: Platform, user: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"RINGI_SERVER": platform.server, "RINGI_TOKEN": platform.tokens[user], "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", "from ringi.cli.main import run; run()", *arguments], env=environment, capture_output=True, text=True,
        encoding="utf-8", check=False,
    )  # fmt: skip


def test_an_operator_sees_what_is_stored_and_may_collect_and_others_may_not(platform: Platform, tmp_path: Path) -> None:
    platform.add_user("operator", Role.SYSTEM_ADMIN, project=None)
    (tmp_path / "file").write_bytes(b"x" * 1000)
    digest = platform.as_("contributor").upload(tmp_path / "file").digest
    usage = platform.as_("operator").storage.usage()
    assert (usage.store, usage.uploaded.count, usage.uploaded.bytes) == ("local", 1, 1000)
    assert usage.blobs.count >= 1
    assert usage.grace_s == 72 * 3600
    done = platform.as_("operator").storage.collect(dry_run=False)
    assert (done.dry_run, done.removed, done.complete) == (False, {}, True)
    assert digest in names(platform)
    assert [one.actor for one in platform.logged("storage.collect")] != []
    for call in (platform.as_("contributor").storage.usage, partial(platform.as_("contributor").storage.collect, dry_run=True)):
        with pytest.raises(ApiError) as refusal:
            call()
        assert (refusal.value.status, refusal.value.code) == (403, "forbidden")


def test_the_command_line_shows_it(platform: Platform, tmp_path: Path) -> None:
    platform.add_user("operator", Role.SYSTEM_ADMIN, project=None)
    session = platform.as_("operator").uploads.open(size=10, digest="sha256:" + "a" * 64)
    platform.as_("operator").uploads.append(session.id, offset=0, content=b"1234")
    told = ringi(platform, "operator", "storage", "usage")
    assert told.returncode == 0, told.stderr
    assert "on its way in" in told.stdout
    assert "1 (4 bytes)" in told.stdout
    dry = json.loads(ringi(platform, "operator", "storage", "gc", "--dry-run", "--json").stdout)
    assert (dry["dry_run"], dry["removed"]) == (True, {})
    assert "everything is in use" in ringi(platform, "operator", "storage", "gc").stdout
    assert str(session.id) in ringi(platform, "operator", "storage", "uploads").stdout
    assert "ended" in ringi(platform, "operator", "storage", "abandon", str(session.id)).stdout
    refused = ringi(platform, "contributor", "storage", "gc")
    assert (refused.returncode, "[forbidden]" in refused.stderr) == (1, True)
