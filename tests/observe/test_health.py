"""/readyz names what is missing and tells what requests need from what they do not, with real parts stopped."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from observe.conftest import Watched, value_of
from ringi.embedded import postgres, valkey
from support.waiting import until

pytestmark = pytest.mark.long

PARTS = {"database", "migrations", "audit_log", "blob_store", "broker", "relay", "sequencer", "notifier", "watcher"}
NEEDED = {"database", "migrations", "blob_store"}


def all_well(watched: Watched) -> None:
    until(lambda: watched.ready()[1]["status"] == "ok", timeout_s=60)


def test_a_platform_with_all_its_parts_is_well(watched: Watched) -> None:
    all_well(watched)
    status, said = watched.ready()
    assert status == 200
    assert set(said["dependencies"]) == PARTS
    assert {name for name, one in said["dependencies"].items() if one["needed"]} == NEEDED
    assert {one["state"] for one in said["dependencies"].values()} == {"ok"}


def test_without_the_broker_requests_are_served_and_the_answer_names_it(watched: Watched) -> None:
    all_well(watched)
    valkey.stop(watched.valkey_folder)
    try:
        status, said = watched.ready()
        assert (status, said["status"]) == (200, "degraded")
        assert [name for name, one in said["dependencies"].items() if one["state"] != "ok"] == ["broker"]
        assert watched.platform.call("viewer", "GET", "/whoami").status_code == 200
        at_relay = httpx.get(f"http://127.0.0.1:{watched.doors['relay']}/readyz", timeout=30)
        assert (at_relay.status_code, at_relay.json()["dependencies"]["broker"]["state"]) == (503, "unavailable")
        # Its loop turns all the same: starting it anew would mend nothing.
        assert httpx.get(f"http://127.0.0.1:{watched.doors['relay']}/healthz", timeout=30).status_code == 200
    finally:
        valkey.start(watched.valkey_folder)
    all_well(watched)


def test_a_relay_that_is_gone_is_named_and_requests_are_served(watched: Watched) -> None:
    all_well(watched)
    watched.processes.kill("relay")
    try:
        until(lambda: watched.state_of("relay") == "unavailable", timeout_s=60)
        status, said = watched.ready()
        assert (status, said["status"]) == (200, "degraded")
        assert said["dependencies"]["relay"]["detail"].startswith("last sign of life")
        assert (value_of(watched.scrape(), "ringi_process_last_sign_seconds", role="relay") or 0) > 5
    finally:
        watched.start_relay()
    all_well(watched)


@pytest.mark.parametrize("part", ["sequencer", "notifier", "watcher"])
def test_a_process_that_hangs_is_named_although_it_lives(watched: Watched, part: str) -> None:
    all_well(watched)
    with watched.paused(part):
        until(lambda: watched.state_of(part) == "unavailable", timeout_s=60)
        assert watched.processes.running[part].poll() is None
        assert watched.ready()[0] == 200
    all_well(watched)


def test_without_the_database_the_api_is_unready_and_alive_and_counts_on(watched: Watched) -> None:
    all_well(watched)
    postgres.stop(watched.database.data_dir)
    try:
        status, said = watched.ready()
        assert (status, said["status"]) == (503, "unavailable")
        assert said["dependencies"]["database"]["state"] == "unavailable"
        assert {said["dependencies"][name]["state"] for name in ("migrations", "relay", "sequencer", "notifier", "watcher")} == {"unknown"}
        assert {said["dependencies"][name]["state"] for name in ("blob_store", "broker")} == {"ok"}
        assert httpx.get(f"{watched.processes.server}/healthz").status_code == 200
        scraped = watched.scrape()
        assert value_of(scraped, "ringi_database_gauges_complete") == 0
        assert value_of(scraped, "ringi_jobs") is None, "unknown is not zero"
        assert value_of(scraped, "ringi_http_requests_total") is not None
    finally:
        postgres.start(watched.database.data_dir, durable=False)
    all_well(watched)
    assert value_of(watched.scrape(), "ringi_database_gauges_complete") == 1


def test_a_store_whose_folder_is_gone_makes_the_api_unready(watched: Watched) -> None:
    all_well(watched)
    store = watched.processes.data / "blobs"
    aside = Path(shutil.move(store, store.with_name("blobs-unmounted")))
    try:
        status, said = watched.ready()
        assert (status, said["dependencies"]["blob_store"]["state"]) == (503, "unavailable")
        assert said["dependencies"]["database"]["state"] == "ok"
    finally:
        aside.rename(store)
    all_well(watched)


def test_tables_older_than_the_code_make_the_api_unready_and_newer_ones_do_not(watched: Watched) -> None:
    all_well(watched)
    with watched.superuser() as database:
        (head,) = database.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
        try:
            database.execute("UPDATE alembic_version SET version_num = '0002'")
            status, said = watched.ready()
            assert (status, said["dependencies"]["migrations"]["state"]) == (503, "unavailable")
            assert head in said["dependencies"]["migrations"]["detail"]
            database.execute("UPDATE alembic_version SET version_num = '9999'")
            status, said = watched.ready()
            assert (status, said["dependencies"]["migrations"]["state"]) == (200, "ok")
            assert "newer" in said["dependencies"]["migrations"]["detail"]
        finally:
            database.execute("UPDATE alembic_version SET version_num = %s", [head])


def test_a_locked_table_bounds_the_scrape_and_leaves_its_figures_out_alone(watched: Watched) -> None:
    all_well(watched)
    with watched.superuser() as database, database.transaction():
        database.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        begun = time.monotonic()
        scraped = watched.scrape()
        assert time.monotonic() - begun < 10
        assert value_of(scraped, "ringi_database_gauges_complete") == 0
        assert value_of(scraped, "ringi_jobs") is None
        assert value_of(scraped, "ringi_audit_leaves") is not None
    assert value_of(watched.scrape(), "ringi_database_gauges_complete") == 1


def test_a_worker_says_at_its_own_door_that_it_lives_and_what_it_reaches(watched: Watched, worker: str) -> None:
    address = f"http://127.0.0.1:{watched.doors[worker]}"

    def open_door() -> bool:
        try:
            return httpx.get(f"{address}/readyz", timeout=30).status_code == 200
        except httpx.TransportError:
            return False

    until(open_door, timeout_s=60)
    assert httpx.get(f"{address}/healthz").json() == {"status": "ok"}
    assert set(httpx.get(f"{address}/readyz", timeout=30).json()["dependencies"]) == {"database", "migrations", "broker"}
    assert httpx.get(f"{address}/else").status_code == 404


def test_the_command_line_shows_how_the_parts_stand_without_a_token_and_fails_when_requests_would(watched: Watched, tmp_path: Path) -> None:
    all_well(watched)
    command = [sys.executable, "-c", "from ringi.cli.main import run; run()", "health", "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "RINGI_TOKEN"}
    environment |= {"RINGI_SERVER": watched.processes.server, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["dependencies"]) == PARTS
    store = watched.processes.data / "blobs"
    aside = Path(shutil.move(store, store.with_name("blobs-unmounted")))
    try:
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    finally:
        aside.rename(store)
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "unavailable"
