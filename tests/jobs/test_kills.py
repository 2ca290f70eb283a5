"""G-B5: API, worker, relay, sequencer and database are killed (SIGKILL) at drawn moments under load.

What was answered with 2xx is in the log, once; the log has no gap and verifies; every job ran to one version. The machine itself stays up:
what a power cut takes is the disk's and PostgreSQL's own to keep (fsync), which the test's server has switched off to be quick.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import make_url

from jobs.conftest import Rig
from ringi.audit.ringi_verify import verify_bundle
from ringi.backup.log import check_log
from ringi.backup.places import reading
from ringi.embedded import postgres
from support.running_platform import PROJECT, start_api, start_watcher
from support.seeds import drawn_seed, kept_seed
from support.waiting import until

pytestmark = pytest.mark.long

SEED = "RINGI_KILL_SEED"
WRITERS = 2
# Longer than the slowest part needs to come back on a loaded machine.
ANSWERED_S = 120.0
PARTS = ("api", "worker", "relay", "sequencer", "database")


@dataclass
class Load:
    """Writers that repeat each request, under its own key, until it is answered: what a careful client does."""

    rig: Rig
    rows: str
    stop: threading.Event = field(default_factory=threading.Event)
    # Answered with 2xx: the ids of users, and the job of each dataset.
    users: list[UUID] = field(default_factory=list)
    jobs: dict[str, UUID] = field(default_factory=dict)
    broken: list[BaseException] = field(default_factory=list)
    repeats: Counter[str] = field(default_factory=Counter)

    def send(self, user: str, path: str, body: dict[str, str]) -> httpx.Response:
        """The answer that is not about an outage."""
        key, deadline = uuid4().hex, time.monotonic() + ANSWERED_S
        while True:
            assert time.monotonic() < deadline, f"{path} was not answered in {ANSWERED_S} s: {self.repeats}"
            try:
                answer = self.rig.platform.call(user, "POST", path, json=body, headers={"Idempotency-Key": key})
            except httpx.TransportError as error:
                self.repeats[type(error).__name__] += 1
            else:
                if answer.status_code < 500 and answer.json().get("code") != "idempotency_key_in_flight":
                    assert answer.status_code in {201, 202}, answer.text
                    return answer
                self.repeats[str(answer.status_code)] += 1
            self.stop.wait(0.05)

    def a_user(self) -> None:
        made = self.send("admin", "/users", {"name": f"u-{uuid4().hex[:12]}", "display_name": "負荷の利用者"})
        self.users.append(UUID(made.json()["id"]))

    def a_job(self) -> None:
        name = f"k-{uuid4().hex[:12]}"
        self.send("contributor", f"/projects/{PROJECT}/datasets", {"name": name})
        accepted = self.send("contributor", f"/projects/{PROJECT}/datasets/{name}/versions", {"source": self.rows})
        self.jobs[name] = UUID(accepted.json()["job_id"])

    def repeat(self, act: Callable[[], None], pause_s: float) -> None:
        try:
            while not self.stop.wait(pause_s):
                act()
        except BaseException as error:  # told where the test looks
            self.broken.append(error)

    def goes_on(self) -> None:
        """Wait until one more user was answered."""
        answered = len(self.users)
        until(lambda: len(self.users) > answered or self.broken, timeout_s=120)


def kill(rig: Rig, part: str) -> None:
    """SIGKILL, and a start again as a supervisor does it: of the part, and of whatever fell with it."""
    processes = rig.processes
    if part == "database":
        os.kill(postgres.attach(rig.database.data_dir).pid, signal.SIGKILL)
        # Until the kernel has ended it, it would be taken for one that runs.
        until(lambda: postgres.attach(rig.database.data_dir).pid == 0)
        postgres.start(rig.database.data_dir, durable=False, move=False)
    else:
        processes.kill(rig.workers()[0] if part == "worker" else part)
    for name, process in list(processes.running.items()):
        if process.poll() is not None:
            processes.kill(name)
    for name in ("relay", "sequencer", "notifier"):
        if name not in processes.running:
            processes.start(name, f"ringi_workers.{name}")
    if "watcher" not in processes.running:
        start_watcher(processes)
    if "api" not in processes.running:
        start_api(processes)
    rig.with_workers(1)


def killed(rig: Rig, *, kills: int, seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    rig.with_workers(1)
    with rig.few_rows.open("rb") as rows:
        uploaded = rig.platform.call("contributor", "POST", "/uploads", content=rows.read())
    load = Load(rig, uploaded.json()["digest"])
    # thread: these are clients at once; every part of the platform is a process.
    threads = [threading.Thread(target=load.repeat, args=(load.a_user, 0.0)) for _ in range(WRITERS)]
    # thread: as above.
    threads.append(threading.Thread(target=load.repeat, args=(load.a_job, 0.3)))
    for thread in threads:
        thread.start()
    plan = [draw.choice(PARTS) for _ in range(kills)] if kills > len(PARTS) else draw.sample(PARTS, kills)
    try:
        for number, part in enumerate(plan, start=1):
            # Under load, and at a moment of its own.
            load.goes_on()
            load.stop.wait(draw.uniform(0, 0.5))
            kill(rig, part)
            print(f"kill {number} of {kills}: {part}, {len(load.users)} users and {len(load.jobs)} jobs were answered")
        load.goes_on()
    finally:
        load.stop.set()
        for thread in threads:
            thread.join(timeout=120)
    assert load.broken == []
    # A part that is away is said to be away.
    assert "500" not in load.repeats
    nothing_is_lost_or_doubled(rig, load, tmp_path)
    print(f"seed {seed}: {Counter(plan)}, {len(load.users)} users, {len(load.jobs)} jobs, repeated for {dict(load.repeats)}")


def nothing_is_lost_or_doubled(rig: Rig, load: Load, tmp_path: Path) -> None:
    for job in load.jobs.values():
        rig.platform.succeeded(job)
    with rig.superuser() as database:

        def signed() -> bool:
            row = database.execute(
                "SELECT (SELECT count(*) FROM audit_pending) = 0"
                " AND (SELECT max(size) FROM audit_checkpoint) = (SELECT count(*) FROM audit_leaf)"
            ).fetchone()
            return row == (True,)

        until(signed, timeout_s=60)
        # Every user that was answered, and every one that is there, has one entry with a place in the log.
        entries = database.execute(
            "SELECT e.object_id FROM audit_event e JOIN audit_leaf l ON l.event_id = e.id WHERE e.action = 'user.create'"
        ).fetchall()
        counted = Counter(UUID(one) for (one,) in entries)
        there = {one for (one,) in database.execute("SELECT id FROM users WHERE name LIKE 'u-%'").fetchall()}
        assert {user: counted[user] for user in load.users} == dict.fromkeys(load.users, 1)
        assert {counted[user] for user in there} == {1}
        assert set(load.users) <= there
        seals = Counter(
            name for (name,) in database.execute(
                "SELECT d.name FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id JOIN audit_event e ON e.object_id = v.id::text"
                " WHERE e.action = 'dataset.version.seal'"
            )
        )  # fmt: skip
        assert {name: seals[name] for name in load.jobs} == dict.fromkeys(load.jobs, 1)
        # Contiguous, each entry of its hash, and the signed root: from the bytes.
        with reading(make_url(rig.processes.urls.superuser_url)) as snapshot:
            assert check_log(snapshot).note is not None
    bundle = tmp_path / "after.zip"
    with bundle.open("wb") as out:
        rig.platform.as_("auditor").audit.export(out)
    report = verify_bundle(bundle, rig.platform.as_("auditor").audit.key().vkey)
    assert report.ok, report.problems


@pytest.mark.timeout(600)
def test_kills_at_drawn_moments_lose_and_double_nothing(rig: Rig, tmp_path: Path) -> None:
    killed(rig, kills=3, seed=kept_seed(SEED), tmp_path=tmp_path)


@pytest.mark.proof
@pytest.mark.timeout(0)
def test_two_hundred_kills_lose_and_double_nothing(rig: Rig, tmp_path: Path) -> None:
    killed(rig, kills=int(os.environ.get("RINGI_PROOF_KILLS", "200")), seed=drawn_seed(SEED), tmp_path=tmp_path)
