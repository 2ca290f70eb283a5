"""A sweep as a parent with children, on the running platform: shown while it runs, cancelled in part or whole, and ended early where harm is shown."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from safetensors.numpy import load_file, save_file

from ringi.cli.client import RingiClient
from ringi.gates.schemas import DecideGate, DecideTogether, Format
from ringi.gating.schemas import Verdict
from ringi.jobs.contracts.sweeps import Record
from ringi.jobs.schemas import OPEN, JobState
from ringi.kit.digests import sha256_bytes
from ringi.measurements.schemas import ImportMeasurement, MeasurementOut, MeasurementState, RequestSweep
from ringi.storage.blobs import store_at
from ringi.suites.schemas import AddSuiteVersion
from ringi.sweeps.schemas import SweepOut
from support.own_api import store_url
from support.refusals import refused
from support.running_platform import PROJECT
from support.shell import entry_point
from support.story import ADAPTER, BASE, Ground, registered
from support.tiny_model import tiny_rows
from support.waiting import until

pytestmark = pytest.mark.long
# More memory than any worker has.
NOWHERE = {"memory_bytes": 2**50}


def sealed(ground: Ground, document: dict[str, Any]) -> str:
    suites, name = ground.platform.as_("contributor").suites, f"c{uuid4().hex[:8]}"
    suites.create(PROJECT, name, description="親と子の測定")
    return suites.add_version(PROJECT, name, AddSuiteVersion.model_validate({"off_task": False} | document)).reference.partition("/")[2]


def asked(ground: Ground, suite: str, *versions: str, **body: Any) -> SweepOut:
    wanted = RequestSweep.model_validate({"suite": suite, "versions": list(versions), **body})
    return ground.platform.as_("contributor").sweeps.request(PROJECT, wanted)


def swept(ground: Ground, suite: str, *versions: str, **body: Any) -> SweepOut:
    job = asked(ground, suite, *versions, **body).job_id
    ground.platform.succeeded(job)
    return ground.platform.as_("viewer").sweeps.get(PROJECT, job)


@pytest.fixture(scope="module")
def slow(ground: Ground) -> str:
    """An arm takes some seconds, so that something can happen in the middle."""
    items = [
        {"id": f"q{number}", "prompt": row["prompt"] * 6, "references": [row["completion"] * 4]}
        for number, row in enumerate(tiny_rows(1500, seed=11))
    ]
    return sealed(ground, {"tasks": [{"name": "長い", "answering": "likelihood", "scorers": ["nll"], "items": items, "render": "raw"}]})


def of(found: SweepOut, version: str | None) -> MeasurementOut:
    return next(one for one in found.measurements if one.version == version)


V1, V2 = f"{PROJECT}/{ADAPTER}:v1", f"{PROJECT}/{ADAPTER}:v2"


def test_a_sweep_shows_how_far_it_is_and_an_arm_can_be_taken_out_before_and_while_it_is_measured(ground: Ground, slow: str) -> None:
    client = ground.platform.as_("contributor").sweeps
    begun = asked(ground, slow, f"{ADAPTER}:v1", f"{ADAPTER}:v2", include_base=True, batch_size=4)
    assert (begun.items, begun.seconds_per_item, begun.eta_s) == (4500, None, None)
    later = of(begun, V2)
    assert of(client.cancel_arm(PROJECT, begun.job_id, later.id), V2).state is MeasurementState.CANCELLED
    seen: list[SweepOut] = []

    def first_done() -> bool:
        seen.append(client.get(PROJECT, begun.job_id))
        assert seen[-1].state in OPEN, "it ended before the second arm was seen"
        # Nothing is estimated before an arm was measured.
        assert seen[-1].eta_s is None or seen[-1].arms.measured
        return of(seen[-1], None).state is MeasurementState.MEASURED and seen[-1].current == of(seen[-1], V1).id

    until(first_done, timeout_s=120, pause_s=0.05)
    now, bare = seen[-1], of(seen[-1], None)
    assert (now.seconds_per_item or 0) > 0
    assert now.eta_s == pytest.approx((now.seconds_per_item or 0) * (1500 - of(now, V1).items_done))
    assert now.items_done == 1500 + of(now, V1).items_done
    assert bare.started_at is not None
    assert bare.completed_at is not None
    assert bare.completed_at > bare.started_at
    with refused("sweep_arm_ended", 409):
        client.cancel_arm(PROJECT, begun.job_id, bare.id)
    assert of(client.cancel_arm(PROJECT, begun.job_id, of(now, V1).id), V1).state is MeasurementState.CANCELLED
    ground.platform.succeeded(begun.job_id)
    ended = client.get(PROJECT, begun.job_id)
    assert (ended.arms.measured, ended.arms.cancelled, ended.arms.pending, ended.current) == (1, 2, 0, None)
    assert [(one.records_digest, one.evidence_digest) for one in (of(ended, V1), of(ended, V2))] == [(None, None)] * 2
    # The arm in flight was left where it was, and the other never begun.
    assert of(ended, V1).items_done < 1500
    assert of(ended, V2).started_at is None
    for one in (of(ended, V1), of(ended, V2)):
        (entry,) = [entry for entry in ground.platform.logged("evaluation.measurement.cancel") if entry.object_id == str(one.id)]
        assert (entry.details or {})["job"] == str(begun.job_id)
    with refused("job_ended", 409):
        client.cancel_arm(PROJECT, begun.job_id, later.id)
    lines = list(_messages(ground.platform.as_("viewer"), begun.job_id))
    assert any("measured" in line for line in lines)
    assert any(line == f"{V1}: cancelled, and left out" for line in lines)
    told = {
        event.data["measurement_id"]
        for event in ground.platform.as_("viewer").events.all(PROJECT, type_="evaluation.measurement.cancelled")
    }
    assert {str(of(ended, V1).id), str(later.id)} <= told


def _messages(client: RingiClient, job: UUID) -> Iterator[str]:
    for event in client.sweeps.events(PROJECT, job):
        if event is not None and event.kind == "log":
            yield str(event.data["message"])
        if event is not None and event.kind == "end":
            return


def test_a_whole_sweep_is_cancelled_and_listed_with_its_arms(ground: Ground, slow: str) -> None:
    client = ground.platform.as_("contributor").sweeps
    begun = asked(ground, slow, f"{ADAPTER}:v1", include_base=True, placement=NOWHERE)
    with refused("precondition_failed", 412):
        client.cancel(PROJECT, begun.job_id, if_match="999999")
    ended = client.cancel(PROJECT, begun.job_id, if_match=str(client.get(PROJECT, begun.job_id).row_version))
    assert (ended.state, ended.arms.cancelled, ended.eta_s) == (JobState.CANCELLED, 2, None)
    (line,) = [one for one in ground.platform.as_("viewer").sweeps.all(PROJECT, filter=["state=cancelled"]) if one.job_id == begun.job_id]
    assert line.model_dump() == ended.model_dump(exclude={"measurements"})
    with refused("job_ended", 409):
        client.cancel(PROJECT, begun.job_id)
    with refused("not_found", 404):
        client.get(PROJECT, uuid4())


def test_an_arm_of_another_sweep_is_not_there(ground: Ground, slow: str) -> None:
    client = ground.platform.as_("contributor").sweeps
    one, other = (asked(ground, slow, f"{ADAPTER}:v1", placement=NOWHERE) for _ in range(2))
    with refused("not_found", 404):
        client.cancel_arm(PROJECT, one.job_id, other.measurements[0].id)
    for each in (one, other):
        client.cancel(PROJECT, each.job_id)


@pytest.fixture
def run(ground: Ground, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """The program's entry point as the contributor."""
    monkeypatch.setenv("RINGI_SERVER", ground.platform.server)
    monkeypatch.setenv("RINGI_TOKEN", ground.platform.tokens["contributor"])
    monkeypatch.setenv("COLUMNS", "400")

    return entry_point(capsys)


def test_the_command_follows_arm_by_arm_and_shows_lists_and_cancels(ground: Ground, run: Callable[..., tuple[int, str, str]]) -> None:
    items = [{"id": f"q{n}", "prompt": row["prompt"], "references": [row["completion"]]} for n, row in enumerate(tiny_rows(24, seed=31))]
    suite = sealed(ground, {"tasks": [{"name": "棚", "answering": "exact", "scorers": ["exact"], "items": items}]})
    code, _, err = run("sweep", f"{PROJECT}/{suite}", f"{PROJECT}/{ADAPTER}:v1", f"{PROJECT}/{ADAPTER}:v1", "--include-base")
    assert code == 0, err
    assert "3 arms were named and there are 2: a version that is named twice is one arm." in err
    assert f"{V1}: measured" in err
    assert f"bare base {BASE}:r1: measured" in err
    assert "2 of 2 arms  48 of 48 items" in err
    begun = asked(ground, suite, f"{ADAPTER}:v1", f"{ADAPTER}:v2", placement=NOWHERE)
    code, out, err = run("sweep", "cancel", PROJECT, str(begun.job_id), "--arm", str(of(begun, V1).id))
    assert code == 0, err
    assert "1 cancelled" in out
    code, out, _ = run("sweep", "show", PROJECT, str(begun.job_id))
    assert (code, "0/24" in out, V2 in out) == (0, True, True)
    code, out, _ = run("sweep", "list", PROJECT, "--filter", "state=queued")
    assert (code, str(begun.job_id) in out) == (0, True)
    code, out, _ = run("sweep", "cancel", PROJECT, str(begun.job_id), "--json")
    assert (code, json.loads(out)["state"]) == (0, "cancelled")


ITEMS = 240


@pytest.fixture(scope="module")
def family(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An adapter with v1 as trained, v2 a hair's breadth beside it, v3 turned round."""
    name, folder = f"f{uuid4().hex[:6]}", tmp_path_factory.mktemp("family")
    ground.platform.as_("contributor").adapters.create(PROJECT, name, base=BASE)
    store = store_at(store_url(ground.platform))
    for factor in (1.0, 1.0001, -3.0):
        place = folder / str(factor)
        place.mkdir()
        for file in ground.platform.as_("contributor").adapters.version(PROJECT, ADAPTER, "v1").files:
            (place / file.path).write_bytes(b"".join(store.open(file.digest)))
        weights = place / "adapter_model.safetensors"
        turned = {key: tensor * factor if "lora_B" in key else tensor for key, tensor in load_file(weights).items()}
        save_file(turned, weights, metadata={"format": "pt"})
        registered(ground.platform, place, name)
    return name


@pytest.fixture(scope="module")
def exacting(ground: Ground, family: str) -> str:
    """What v1 says to each question is what is right."""
    questions = {f"q{number}": row["prompt"] for number, row in enumerate(tiny_rows(ITEMS + 60, seed=21))}
    asking = {
        "name": "問い", "answering": "generate", "scorers": ["exact_match"], "decoding": {"max_new_tokens": 24},
        "items": [{"id": item, "prompt": prompt, "references": ["はい"]} for item, prompt in questions.items()],
    }  # fmt: skip
    (said,) = swept(ground, sealed(ground, {"tasks": [asking]}), f"{family}:v1").measurements
    answers: dict[str, Record] = {one.item: one for one in ground.platform.as_("viewer").measurements.records(PROJECT, said.id)}
    items = [
        {"id": item, "prompt": prompt, "references": [answers[item].output]}
        for item, prompt in questions.items()
        if answers[item].output and answers[item].output_tokens < 24
    ]
    assert len(items) >= ITEMS, "the tiny model has not learnt to end its answers"
    task = {"name": "応答", "answering": "exact", "scorers": ["exact", "nll"], "items": items[:ITEMS]}
    wanted = {"task": "応答", "metric": "exact", "margin": 0.1}
    return sealed(ground, {"tasks": [task], "requirements": [wanted]})


def no_rule_against_what_was_measured_elsewhere(ground: Ground, baseline: MeasurementOut, family: str, exacting: str) -> None:
    platform = ground.platform
    content = "".join(
        f"{record.model_dump_json()}\n" for record in platform.as_("viewer").measurements.records(PROJECT, baseline.id)
    ).encode()
    assert platform.call("contributor", "POST", "/uploads", content=content).is_success
    body = ImportMeasurement(suite=exacting, base_revision=BASE, version=f"{family}:v1", records=sha256_bytes(content), source="別の計算機")
    brought_in = platform.as_("contributor").measurements.bring_in(PROJECT, body)
    with refused("sweep_baseline_imported", 400):
        asked(ground, exacting, f"{family}:v3", stop_early_against=str(brought_in.id))


def test_what_is_shown_to_be_worse_is_not_asked_the_rest_and_is_never_a_go(ground: Ground, family: str, exacting: str) -> None:
    platform = ground.platform
    client, gates = platform.as_("viewer"), platform.as_("contributor").gates
    with refused("gate_measurement_missing", 409):
        asked(ground, exacting, f"{family}:v3", stop_early_against=f"{family}:v1")
    (baseline,) = swept(ground, exacting, f"{family}:v1").measurements
    assert ((baseline.summary or {})["応答"].metrics["exact"].mean or 0) > 0.9
    no_rule_against_what_was_measured_elsewhere(ground, baseline, family, exacting)
    found = swept(
        ground, exacting, f"{family}:v1", f"{family}:v2", f"{family}:v3", stop_early_against=f"{family}:v1", again=True, batch_size=8
    )
    own, near, turned = found.measurements
    assert [one.stop_unused for one in (own, near, turned)] == [None] * 3
    assert [one.state for one in (own, near, turned)] == [MeasurementState.MEASURED, MeasurementState.MEASURED, MeasurementState.STOPPED]
    assert turned.stopped is not None
    assert turned.stopped.items == turned.items_done < ITEMS / 2
    print(f"stopped after {turned.items_done} of {ITEMS} items: {turned.stopped}")
    assert (found.items_saved, found.arms.stopped) == (ITEMS - turned.items_done, 1)
    assert (turned.stopped.baseline, turned.stopped.baseline_name) == (baseline.id, baseline.version)
    assert turned.stopped.loss > turned.stopped.margin == 0.1
    # What was asked is kept and shown, and is no evidence.
    kept = list(client.measurements.records(PROJECT, turned.id))
    assert len({record.item for record in kept}) == turned.items_done
    assert (turned.summary or {})["応答"].metrics["exact"].n == turned.items_done
    assert (turned.evidence, turned.evidence_digest, turned.problem and turned.problem.code) == (None, None, "stopped_early")
    assert [one.object_id for one in platform.logged("evaluation.measurement.stop", job=str(turned.job_id))] == [str(turned.id)]
    # The order of the items makes no difference to those who were asked all.
    records = [{one.item: one.nll for one in client.measurements.records(PROJECT, each.id)} for each in (baseline, own)]
    assert records[1] == pytest.approx(records[0], abs=1e-4)

    gate = gates.decide(PROJECT, DecideGate(candidate=f"{family}:v3", baseline=f"{family}:v1", suite=exacting))
    assert gate.verdict is Verdict.NO_GO
    (reason,) = gate.document.decision.reasons
    assert (reason.code, reason.task) == ("stopped_early", "応答")
    assert reason.text.startswith(f"stopped early: after {turned.items_done} of {ITEMS} items")
    assert gate.document.candidate.evidence is None
    assert b"stopped early" in client.gates.report(PROJECT, gate.id, Format.MARKDOWN)
    assert b'failures="1"' in client.gates.report(PROJECT, gate.id, Format.JUNIT)
    assert client.gates.report(PROJECT, gate.id, Format.SVG).startswith(b"<svg")
    with refused("gate_stopped_against_another", 409):
        gates.decide(PROJECT, DecideGate(candidate=f"{family}:v3", baseline=f"{family}:v2", suite=exacting))
    with refused("gate_not_measured", 409):
        gates.decide(PROJECT, DecideGate(candidate=f"{family}:v2", baseline=str(turned.id), suite=exacting))

    many = gates.together(PROJECT, DecideTogether(sweep=found.job_id, baseline=f"{family}:v1"))
    assert [(one.candidate, one.verdict) for one in many.gates] == [(near.version, Verdict.GO), (turned.version, Verdict.NO_GO)]
    assert [(one.name, one.code) for one in many.left_out] == [(own.version, "is_baseline")]
    together = [one.document.decision.together for one in many.gates]
    assert [(one.adapters, one.tested) for one in together if one] == [(2, 2)] * 2
    assert (together[1] and together[1].p, many.verdict) == (1.0, Verdict.NO_GO)

    # What was stopped is taken over by nobody, and measured whole where that is asked for.
    whole = swept(ground, exacting, f"{family}:v3").measurements[0]
    assert (whole.state, whole.reused_from, whole.items_done) == (MeasurementState.MEASURED, None, ITEMS)
    again = gates.decide(PROJECT, DecideGate(candidate=f"{family}:v3", baseline=f"{family}:v1", suite=exacting))
    assert (again.verdict, again.document.decision.reasons[0].code) == (Verdict.NO_GO, "harm")


def test_a_suite_without_anything_to_look_at_is_refused(ground: Ground, slow: str) -> None:
    with refused("sweep_nothing_to_watch", 400):
        asked(ground, slow, f"{ADAPTER}:v1", stop_early_against="base")
