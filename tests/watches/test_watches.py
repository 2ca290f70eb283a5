"""Watches on the running platform: a real beat, real sweeps of the tiny model, and what is told when something turns."""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from safetensors.numpy import load_file, save_file
from sqlalchemy import create_engine, text

from ringi.adapters.schemas import VersionState
from ringi.cli.contexts import Profile, save_profile
from ringi.events.schemas import EventOut
from ringi.gating.schemas import Verdict
from ringi.jobs.schemas import JobState
from ringi.kit.digests import sha256_bytes
from ringi.kit.ids import uuid7
from ringi.measurements.schemas import MeasurementOut, MeasurementState
from ringi.storage.blobs import store_at
from ringi.suites.schemas import AddSuiteVersion
from ringi.watches.schemas import ChangeWatch, CreateWatch, DriftLimits, Figure, LookOut, LookState
from support.copied_measurements import forget
from support.own_api import store_url
from support.refusals import refused
from support.running_platform import PROJECT, Platform, Processes, start_watcher
from support.shell import Shell
from support.story import ADAPTER, BASE, DATASET, Ground, approved, evaluated, published, registered
from support.waiting import until

pytestmark = pytest.mark.long
LOOK_S = 240.0
NO_FIGURES = DriftLimits(operations={})
COPIES: list[UUID] = []
REASON = "利用者からの申告により公開を停止する"


@dataclass(frozen=True)
class Scene:
    """`v1` of an adapter of its own is good, `v2` has weaker weights; `suite` measures how well it knows the answers."""

    platform: Platform
    folder: Path
    adapter: str
    suite: str

    def channel(self, *versions: str, adapter: str | None = None) -> str:
        """A channel of an environment of its own that may serve these versions, and serves the first."""
        name, adapter = f"c{uuid4().hex[:8]}", adapter or self.adapter
        self.platform.as_("deployer").releases.create_channel(PROJECT, name, environment=name)
        for version in versions:
            approved(self.platform, version, adapter, environment=name)
        for version in versions[:1]:
            published(self.platform, version, adapter, channel=name)
        return name

    def watch(self, channel: str, **body: Any) -> str:
        """A watch, unless told otherwise one whose first look alone is due."""
        name = f"w{uuid4().hex[:8]}"
        given = {"name": name, "channels": [channel], "suite": self.suite, "schedule": "every 30d", "drift": NO_FIGURES} | body
        self.platform.as_("contributor").watches.create(PROJECT, CreateWatch.model_validate(given))
        return name

    def looks(self, watch: str) -> list[LookOut]:
        """Every look, the first one first."""
        return list(self.platform.as_("viewer").watches.looks(PROJECT, watch, sort="created_at"))

    def ended(self, watch: str, count: int) -> list[LookOut]:
        """So many looks at least, and none on its way among the first ones."""

        def there() -> list[LookOut]:
            found = self.looks(watch)
            return found if len(found) >= count and all(one.state is not LookState.PENDING for one in found[:count]) else []

        return until(there, timeout_s=LOOK_S, pause_s=0.1)

    def look(self, watch: str) -> LookOut:
        """One more look, by hand."""
        (asked,) = self.platform.as_("contributor").watches.look(PROJECT, watch).looks
        assert asked.by_hand
        return next(one for one in self.ended(watch, len(self.looks(watch))) if one.id == asked.id)

    def told(self, what: str, watch: str) -> list[EventOut]:
        """Events about the watch, the first one first."""
        events = self.platform.as_("viewer").events.all(PROJECT, type_=f"evaluation.watch.{what}")
        return sorted((one for one in events if one.data["watch"] == watch), key=lambda one: one.id)

    def measurement(self, look: LookOut) -> MeasurementOut:
        assert look.measurement_id is not None
        return self.platform.as_("viewer").measurements.get(PROJECT, look.measurement_id)


@pytest.fixture(scope="module")
def scene(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    platform, folder, name = ground.platform, tmp_path_factory.mktemp("watched"), f"w{uuid4().hex[:8]}"
    copied(platform, folder / "v1", 1.0)
    copied(platform, folder / "v2", 0.7)
    platform.as_("contributor").adapters.create(PROJECT, name, base=BASE)
    for version in ("v1", "v2"):
        registered(platform, folder / version, name)
        evaluated(platform, version, name)
    yield Scene(platform, folder, name, sealed_suite(platform))
    forget(platform.processes, COPIES)


def sealed_suite(platform: Platform) -> str:
    """The validation split of the data that the adapter was trained on."""
    suites, name = platform.as_("contributor").suites, f"s{uuid4().hex[:8]}"
    suites.create(PROJECT, name, description="稼働中の品質")
    task = {"name": "faq", "answering": "exact", "scorers": ["exact", "nll"], "max_length": 256, "dataset": {"version": DATASET}}
    wanted = {"task": "faq", "metric": "nll", "lower_is_better": True, "tier": "critical", "margin": 0.06, "pass_at": 5.0}
    suites.add_version(PROJECT, name, AddSuiteVersion.model_validate({"tasks": [task], "requirements": [wanted], "off_task": False}))
    return name


def copied(platform: Platform, folder: Path, factor: float) -> None:
    """The trained adapter's files with its weights times `factor`."""
    folder.mkdir()
    store = store_at(store_url(platform))
    for file in platform.as_("contributor").adapters.version(PROJECT, ADAPTER, "v1").files:
        (folder / file.path).write_bytes(b"".join(store.open(file.digest)))
    weights = folder / "adapter_model.safetensors"
    save_file({name: tensor * factor for name, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})


def to_gpu_workers(processes: Processes, number: int) -> None:
    """A signal to each; tests that kill workers leave some of other names behind."""
    for name in [name for name in processes.running if name.startswith("worker-gpu")]:
        processes.send(name, number)


@pytest.fixture
def processes(shared_platform: Processes) -> Iterator[Processes]:
    """The platform's processes; beat and worker are there again afterwards."""
    yield shared_platform
    to_gpu_workers(shared_platform, signal.SIGCONT)
    if "watcher" not in shared_platform.running:
        start_watcher(shared_platform)


def test_the_gate_turns_when_a_worse_version_goes_live_and_back_when_it_is_rolled_back(scene: Scene) -> None:
    channel = scene.channel("v1", "v2")
    watch = scene.watch(channel, adapter=scene.adapter, baseline=f"{scene.adapter}:v1", description="夜間の定期監視")
    (first,) = scene.ended(watch, 1)
    assert (first.by_hand, first.state, first.version) == (False, LookState.SEEN, f"{PROJECT}/{scene.adapter}:v1")
    assert (first.verdict, first.reference_id, first.drifted) == (None, None, None)
    published(scene.platform, "v2", scene.adapter, channel=channel)
    worse = scene.look(watch)
    assert (worse.version, worse.verdict, worse.verdict_before) == (f"{PROJECT}/{scene.adapter}:v2", Verdict.NO_GO, None)
    assert worse.turned
    again = scene.look(watch)
    assert (again.verdict, again.turned) == (Verdict.NO_GO, False)
    releases = scene.platform.as_("deployer").releases
    releases.roll_back(PROJECT, scene.adapter, channel=channel, reason="品質が下がったため前の版に戻す")
    back = scene.look(watch)
    assert (back.version, back.verdict, back.verdict_before, back.turned) == (first.version, Verdict.GO, Verdict.NO_GO, True)
    assert (back.reference_id, back.drifted) == (first.measurement_id, False)
    # Each measured anew, though the bytes were measured before.
    assert scene.measurement(back).reused_from is None
    assert len({one.measurement_id for one in (first, worse, again, back)}) == 4
    turned = scene.told("turned", watch)
    assert [(one.data["verdict_before"], one.data["verdict"], one.data["version"]) for one in turned] == [
        (None, "NO-GO", worse.version), ("NO-GO", "GO", back.version),
    ]  # fmt: skip
    gate = scene.platform.as_("viewer").gates.get(PROJECT, UUID(turned[0].data["gate_id"]))
    assert (gate.digest, gate.document.candidate.measurement) == (turned[0].data["decision_digest"], worse.measurement_id)
    logged = scene.platform.logged("evaluation.watch.turn", before="NO-GO")
    assert [one.actor for one in logged if (one.details or {})["look"] == str(back.id)] == ["watcher"]
    standing = scene.platform.as_("viewer").watches.get(PROJECT, watch).standing
    assert [(one.channel, one.version, one.verdict) for one in standing] == [(channel, back.version, Verdict.GO)]


def test_figures_that_cross_a_limit_are_told_once_and_once_more_when_they_are_back(scene: Scene) -> None:
    # A suite of its own: what is written below stands in no other test's way.
    watch = scene.watch(scene.channel("v1"), adapter=scene.adapter, suite=sealed_suite(scene.platform))
    scene.ended(watch, 1)
    known = scene.look(watch)
    assert known.drifted is False
    assert {one.metric: one.difference for one in known.drift.scores if known.drift} == {"exact": 0.0, "nll": 0.0}  # type: ignore[union-attr]  # seen
    records = list(scene.platform.as_("viewer").measurements.records(PROJECT, scene.measurement(known).id))
    older(scene, known, [record.model_copy(update={"scores": {"exact": 1.0, "nll": 0.0}}).model_dump_json() for record in records])
    drifted = scene.look(watch)
    assert drifted.drifted is True
    assert drifted.reference_id not in {known.reference_id, known.measurement_id}
    assert {one.metric for one in drifted.drift.scores if one.drifted} >= {"nll"}  # type: ignore[union-attr]  # seen
    assert (drifted.verdict, drifted.turned) == (Verdict.NO_GO, True)
    scene.look(watch)
    limits = DriftLimits(scores=None, metrics={"faq.nll": 100}, operations={})
    scene.platform.as_("contributor").watches.change(PROJECT, watch, ChangeWatch(drift=limits))
    assert scene.look(watch).drifted is False
    told = scene.told("drifted", watch)
    assert [one.data["drifted"] for one in told] == [True, False]
    assert any(figure.startswith("faq.nll ") for figure in told[0].data["figures"])
    assert told[1].data["figures"] == []


def test_an_operational_figure_that_crosses_its_limit_is_told_with_what_it_was_and_is(scene: Scene) -> None:
    limits = DriftLimits(scores=None, operations={Figure.ITEM_P50_S: 1.0})
    watch = scene.watch(scene.channel("v1"), adapter=scene.adapter, suite=sealed_suite(scene.platform), drift=limits)
    (first,) = scene.ended(watch, 1)
    records = [one.model_dump_json() for one in scene.platform.as_("viewer").measurements.records(PROJECT, scene.measurement(first).id)]
    measured = scene.measurement(first).operations or {}
    faster = {task: figures | {"item_p50_s": figures["item_p50_s"] / 1000} for task, figures in measured.items()}
    older(scene, first, records, operations=faster)
    slower = scene.look(watch)
    assert slower.drift is not None
    assert [one.figure for one in slower.drift.operations if one.drifted] == [Figure.ITEM_P50_S]
    assert not any(one.drifted for one in slower.drift.scores)
    (told,) = (one.data for one in scene.told("drifted", watch))
    assert (told["drifted"], [figure.partition(" ")[0] for figure in told["figures"]]) == (True, ["faq.item_p50_s"])


def older(scene: Scene, look: LookOut, lines: list[str], *, operations: Mapping[str, Any] | None = None) -> None:
    """A measurement of the same version as if it had been made before all others, with other records, and other figures where given."""
    content = "".join(f"{line}\n" for line in lines).encode()
    assert scene.platform.call("contributor", "POST", "/uploads", content=content).is_success
    engine = create_engine(scene.platform.processes.urls.app_url)
    with engine.begin() as connection:
        columns = [
            row.column_name
            for row in connection.execute(text("SELECT column_name FROM information_schema.columns WHERE table_name = 'measurements'"))
            if row.column_name not in {"id", "records_digest", "operations"}
        ]
        names, older_id = ", ".join(columns), UUID(int=uuid7().int - (10**6 << 80))
        COPIES.append(older_id)
        connection.execute(
            text(
                f"INSERT INTO measurements (id, records_digest, operations, {names}) SELECT :id, :digest, "  # columns
                f"coalesce(CAST(:operations AS jsonb), operations), {names} FROM measurements WHERE id = :like"
            ),
            {
                "id": older_id, "digest": sha256_bytes(content), "like": look.measurement_id,
                "operations": json.dumps(operations) if operations is not None else None,
            },
        )  # fmt: skip
    engine.dispose()


def test_two_beats_ask_once_for_each_time_that_is_due_and_a_beat_that_was_killed_asks_once_for_what_it_missed(
    scene: Scene, processes: Processes
) -> None:
    channel = scene.channel("v1")
    start_watcher(processes, "second-watcher")
    try:
        watch = scene.watch(channel, schedule="every 1s")
        found = scene.ended(watch, 3)
    finally:
        for name in ("watcher", "second-watcher"):
            processes.kill(name)
    found = scene.looks(watch)
    assert max(Counter(one.due_at for one in found).values()) == 1
    assert len({one.measurement_id for one in found}) == len(found)
    asked = [one for one in scene.platform.logged("evaluation.watch.look") if one.object_id == str(watch_id(scene, watch))]
    assert len(asked) == len(found)
    missed = scene.platform.as_("viewer").watches.get(PROJECT, watch).due_at
    assert missed is not None
    away = time.monotonic() + 4
    until(lambda: time.monotonic() > away, pause_s=0.2)
    start_watcher(processes)
    # One that was on its way when beat was killed is judged by the next.
    ended = scene.ended(watch, len(found) + 2)[: len(found) + 2]
    later = ended[len(found) :]
    scene.platform.as_("contributor").watches.remove(PROJECT, watch)
    assert later[0].due_at == missed
    assert (later[1].due_at - missed).total_seconds() >= 3
    assert (later[1].due_at - missed).total_seconds() % 1 == 0
    assert all(one.state is LookState.SEEN for one in ended)


def watch_id(scene: Scene, name: str) -> UUID:
    return scene.platform.as_("viewer").watches.get(PROJECT, name).id


def test_a_look_belongs_to_what_it_measured_when_the_channel_moves_meanwhile(scene: Scene, processes: Processes) -> None:
    channel = scene.channel("v1", "v2")
    to_gpu_workers(processes, signal.SIGSTOP)
    watch = scene.watch(channel, baseline="base")
    (asked,) = until(lambda: scene.looks(watch), timeout_s=LOOK_S)
    published(scene.platform, "v2", scene.adapter, channel=channel)
    with refused("watch_look_pending", 409):
        scene.platform.as_("contributor").watches.look(PROJECT, watch)
    to_gpu_workers(processes, signal.SIGCONT)
    (seen,) = scene.ended(watch, 1)
    assert (seen.id, seen.state, seen.version) == (asked.id, LookState.SEEN, f"{PROJECT}/{scene.adapter}:v1")
    assert scene.measurement(seen).version == seen.version
    # Far better than the bare base, which was measured beside it.
    assert (seen.verdict, seen.turned) == (Verdict.GO, False)
    assert seen.baseline_id is not None
    assert scene.platform.as_("viewer").measurements.get(PROJECT, seen.baseline_id).version is None
    assert scene.look(watch).version == f"{PROJECT}/{scene.adapter}:v2"


def test_a_look_that_nobody_measures_in_time_fails_is_told_once_and_leaves_no_job_in_the_queue(scene: Scene, processes: Processes) -> None:
    channel = scene.channel("v1")
    to_gpu_workers(processes, signal.SIGSTOP)
    watch = scene.watch(channel, within_s=1)
    (first,) = scene.ended(watch, 1)
    second = scene.look(watch)
    for one in (first, second):
        assert (one.state, one.problem and one.problem.code) == (LookState.FAILED, "watch_not_measured_in_time")
        assert (one.verdict, one.drifted, one.drift) == (None, None, None)
        assert one.job_id is not None
        assert scene.platform.as_("viewer").jobs.get(one.job_id).state is JobState.CANCELLED
    to_gpu_workers(processes, signal.SIGCONT)
    assert [one.data["code"] for one in scene.told("failed", watch)] == ["watch_not_measured_in_time"]
    scene.platform.as_("contributor").watches.change(PROJECT, watch, ChangeWatch(within_s=600))
    assert scene.look(watch).state is LookState.SEEN


def test_looks_that_wait_for_one_sweep_end_alike_and_a_measurement_that_was_taken_out_says_so(scene: Scene, processes: Processes) -> None:
    channel, other = scene.channel("v1"), scene.channel("v1")
    to_gpu_workers(processes, signal.SIGSTOP)
    watch = scene.watch(channel, channels=[channel, other], within_s=1)
    both = scene.ended(watch, 2)
    assert len({one.job_id for one in both}) == 1
    assert [one.problem and one.problem.code for one in both] == ["watch_not_measured_in_time"] * 2
    alone = scene.watch(channel)
    (asked,) = until(lambda: scene.looks(alone), timeout_s=LOOK_S)
    assert asked.job_id is not None
    assert asked.measurement_id is not None
    scene.platform.as_("contributor").sweeps.cancel_arm(PROJECT, asked.job_id, asked.measurement_id)
    (ended,) = scene.ended(alone, 1)
    assert (ended.state, ended.problem and ended.problem.code) == (LookState.FAILED, "watch_measurement_cancelled")


def test_a_look_that_cannot_be_judged_ends_when_its_time_is_over(scene: Scene, processes: Processes) -> None:
    channel = scene.channel("v1")
    to_gpu_workers(processes, signal.SIGSTOP)
    watch = scene.watch(channel, within_s=3600)
    (asked,) = until(lambda: scene.looks(watch), timeout_s=LOOK_S)
    engine = create_engine(scene.platform.processes.urls.app_url)
    where = {"id": watch_id(scene, watch)}
    with engine.begin() as connection:
        connection.execute(text("""UPDATE watches SET drift = '{"scores": "少し"}' WHERE id = :id"""), where)
    try:
        to_gpu_workers(processes, signal.SIGCONT)
        until(lambda: f"watch or look {asked.id} failed" in processes.log_of("watcher"), timeout_s=LOOK_S)
        assert scene.measurement(asked).state is MeasurementState.MEASURED
        assert [one.state for one in scene.looks(watch)] == [LookState.PENDING]
        with engine.begin() as connection:
            connection.execute(text("UPDATE watches SET within_s = 1 WHERE id = :id"), where)
        (ended,) = scene.ended(watch, 1)
    finally:
        with engine.begin() as connection:
            connection.execute(text("UPDATE watches SET drift = '{}', deleted_at = now() WHERE id = :id"), where)
        engine.dispose()
    assert (ended.state, ended.problem and ended.problem.code) == (LookState.FAILED, "watch_not_judged")
    assert (ended.verdict, ended.drifted, ended.drift) == (None, None, None)


def test_what_the_database_refuses_of_one_watch_does_not_stop_the_others(scene: Scene) -> None:
    channel = scene.channel()
    poisoned = scene.watch(channel, schedule="every 1s")
    scene.ended(poisoned, 1)
    engine, name = create_engine(scene.platform.processes.urls.owner_url), f"poison_{uuid4().hex}"
    with engine.begin() as connection:
        connection.execute(
            text(
                f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'この監視は記録できない' USING ERRCODE = 'restrict_violation'; END $$"
            )
        )
        connection.execute(
            text(
                f"CREATE TRIGGER {name} BEFORE INSERT ON watch_looks FOR EACH ROW WHEN (NEW.watch_id = '{watch_id(scene, poisoned)}')"
                f" EXECUTE FUNCTION {name}()"
            )
        )
    try:
        taken = len(scene.looks(poisoned))
        # Due later than the poisoned one, which is first in every round.
        other = scene.watch(channel, schedule="every 1s")
        scene.ended(other, 3)
        assert len(scene.looks(poisoned)) == taken
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP FUNCTION {name} CASCADE"))
        engine.dispose()
    scene.ended(poisoned, taken + 1)
    for watch in (poisoned, other):
        scene.platform.as_("contributor").watches.remove(PROJECT, watch)


def test_an_empty_channel_and_a_revoked_version_are_looks_with_a_problem(scene: Scene) -> None:
    empty = scene.channel()
    watch = scene.watch(empty)
    (first,) = scene.ended(watch, 1)
    assert (first.version, first.problem and first.problem.code) == (None, "watch_channel_serves_nothing")
    assert scene.look(watch).state is LookState.FAILED
    assert [(one.data["channel"], one.data["version"]) for one in scene.told("failed", watch)] == [(empty, None)]
    name, client = f"w{uuid4().hex[:8]}", scene.platform.as_("contributor")
    client.adapters.create(PROJECT, name, base=BASE)
    registered(scene.platform, scene.folder / "v1", name)
    evaluated(scene.platform, "v1", name)
    channel = scene.channel("v1", adapter=name)
    stopped = scene.watch(channel, schedule="0 3 * * *", timezone="Asia/Tokyo")
    assert scene.looks(stopped) == []
    scene.platform.as_("incident_commander").adapters.advance(PROJECT, name, "v1", to=VersionState.REVOKED, reason=REASON)
    look = scene.look(stopped)
    assert (look.state, look.problem and look.problem.code, look.measurement_id) == (LookState.FAILED, "watch_version_revoked", None)
    assert look.version == f"{PROJECT}/{name}:v1"


def test_a_paused_watch_does_not_look_until_it_is_resumed(scene: Scene) -> None:
    channel = scene.channel()
    watch, watches = scene.watch(channel, schedule="every 1s"), scene.platform.as_("contributor").watches
    scene.ended(watch, 2)
    before = watches.get(PROJECT, watch)
    with refused("precondition_failed", 412):
        watches.change(PROJECT, watch, ChangeWatch(paused=True), if_match='"99"')
    # That looks were taken meanwhile is no change of the watch.
    paused = watches.change(PROJECT, watch, ChangeWatch(paused=True), if_match=f'"{before.row_version}"')
    assert (paused.due_at, paused.paused_at is not None) == (None, True)
    taken = len(scene.looks(watch))
    # Another watch is looked at meanwhile, so beat was there.
    scene.ended(scene.watch(channel, schedule="every 1s"), 3)
    assert len(scene.looks(watch)) == taken
    watches.change(PROJECT, watch, ChangeWatch(paused=False))
    scene.ended(watch, taken + 1)
    watches.remove(PROJECT, watch)
    with refused("not_found", 404):
        watches.get(PROJECT, watch)
    assert [one.data["change"] for one in scene.told("changed", watch)] == ["created", "paused", "resumed", "removed"]


def test_who_may_not_ask_for_evaluations_may_read_watches_and_nothing_else(scene: Scene) -> None:
    watch = scene.watch(scene.channel())
    for user in ("viewer", "deployer", "reviewer"):
        client = scene.platform.as_(user).watches
        assert client.get(PROJECT, watch).name == watch
        with refused("forbidden", 403):
            client.look(PROJECT, watch)
        with refused("forbidden", 403):
            client.remove(PROJECT, watch)
        with refused("forbidden", 403):
            client.change(PROJECT, watch, ChangeWatch(paused=True))
        with refused("forbidden", 403):
            client.create(PROJECT, CreateWatch(name="x", channels=["c"], suite="s", schedule="every 6h"))


def test_what_does_not_exist_or_never_comes_is_refused_when_a_watch_is_made(scene: Scene) -> None:
    channel = scene.channel()
    watch = scene.watch(channel)
    bad: dict[str, dict[str, Any]] = {
        "watch_exists": {"name": watch},
        "watch_schedule_unreadable": {"schedule": "0 0 30 2 *"},
        "watch_timezone_unknown": {"timezone": "Asia/Edo"},
        "watch_adapter_needed": {"baseline": f"{scene.adapter}:v1"},
        "watch_metric_unknown": {"drift": {"metrics": {"faq.nll": 0.2, "faq.exat": 0.02}}},
        "not_found": {"channels": ["nowhere"]},
    }
    for code, body in bad.items():
        with refused(code):
            scene.watch(channel, **body)
    changes = scene.platform.as_("contributor").watches
    with refused("watch_metric_unknown", 400):
        changes.change(PROJECT, watch, ChangeWatch(drift=DriftLimits(metrics={"応答.nll": 0.2})))
    assert changes.change(PROJECT, watch, ChangeWatch(drift=DriftLimits(metrics={"faq.nll": 0.2}))).drift.metrics == {"faq.nll": 0.2}
    missing: list[dict[str, Any]] = [
        {"suite": "nothing"},
        {"adapter": scene.adapter, "baseline": f"{scene.adapter}:v99"},
        {"adapter": "nobody"},
    ]
    for body in missing:
        with refused("not_found", 404):
            scene.watch(channel, **body)


def test_a_person_makes_watches_and_reads_trends_with_the_command_line(scene: Scene, tmp_path: Path) -> None:
    channel, name = scene.channel("v1"), f"w{uuid4().hex[:8]}"
    save_profile(
        tmp_path / "config.json", "eva", Profile(server=scene.platform.server, token=scene.platform.tokens["contributor"]), replace=False
    )
    shell = Shell(tmp_path, scene.platform.server)
    shell.ok("context", "use", "eva")
    said = shell.ok(
        "watches", "create", PROJECT, name, "--channel", channel, "--suite", scene.suite, "--schedule", "0 3 * * *", "--timezone", "Asia/Tokyo",
        "--metric-limit", "faq.nll=0.2", "--figure-limit", "item_p95_s=9", "--description", "夜間",
    )  # fmt: skip
    assert "夜間" in said
    assert "0 3 * * * (Asia/Tokyo)" in said
    shown = shell.json("watches", "show", PROJECT, name)
    assert (shown["drift"]["metrics"], shown["drift"]["operations"]["item_p95_s"]) == ({"faq.nll": 0.2}, 9)
    (asked,) = shell.json("watches", "look", PROJECT, name)["looks"]
    scene.ended(name, 1)
    (look,) = shell.json("watches", "history", PROJECT, name, "--filter", "state=seen")
    assert look["id"] == asked["id"]
    mean = next(one["mean"] for one in look["drift"]["scores"] if one["metric"] == "nll")
    assert f"{mean:.4g}" in shell.ok("watches", "history", PROJECT, name, "--metric", "faq.nll")
    assert "paused" in shell.ok("watches", "pause", PROJECT, name)
    assert json.loads(shell.ok("watches", "resume", PROJECT, name, "--json"))["paused_at"] is None
    assert shell.json("watches", "change", PROJECT, name, "--schedule", "every 6h")["timezone"] == "Asia/Tokyo"
    assert name in shell.ok("watches", "list", PROJECT)
    shell.refused("watches", "change", PROJECT, name, "--metric-limit", "faq.nll", code="usage", exit_code=2)
    shell.ok("watches", "remove", PROJECT, name)
