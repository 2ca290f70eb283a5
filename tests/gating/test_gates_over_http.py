"""Decisions over HTTP, from records that were brought in: bound to their evidence, the same again, and refused where something is missing."""

import json
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4
from xml.etree import ElementTree as ET

import pytest

from ringi.gates.schemas import DecideGate, Format, GateOut
from ringi.gating.forest import drawing
from ringi.gating.painting import painted
from ringi.gating.schemas import Verdict
from ringi.kit.digests import canonical_json, sha256_bytes
from ringi.measurements.schemas import MeasurementOut, MeasurementState
from ringi.suites.schemas import AddSuiteVersion
from support.refusals import refused
from support.running_platform import PROJECT
from support.story import ADAPTER, BASE, Ground

ITEMS = 400
SITES = ("大阪", "東京", "福岡", "札幌")
VERSION = f"{ADAPTER}:v1"


@pytest.fixture(scope="module")
def suite(ground: Ground) -> str:
    """400 questions of four sites; each of a site, and one that must pass."""
    suites, name = ground.platform.as_("contributor").suites, f"g{uuid4().hex[:8]}"
    suites.create(PROJECT, name)
    suites.add_version(PROJECT, name, AddSuiteVersion.model_validate(document()))
    return f"{name}:v1"


def document(**requirement: object) -> dict[str, object]:
    items = [
        {"id": f"q{number}", "prompt": f"{number}番?", "references": ["はい"], "tags": {"site": SITES[number % 4]}}
        for number in range(ITEMS)
    ]
    wanted = {"task": "faq", "metric": "exact", "margin": 0.05, "slice_margin": 0.1, "slices": {"site": "supporting"}} | requirement
    return {
        "tasks": [{"name": "faq", "answering": "exact", "scorers": ["exact"], "items": items}],
        "requirements": [wanted],
        "off_task": False,
    }


def records(wrong: Mapping[int, bool] = {}, *, asked: str = "") -> bytes:  # only read
    """One line an item; each twentieth is wrong, and what `wrong` says otherwise."""
    lines = []
    for number in range(ITEMS):
        right = not wrong.get(number, number % 20 == 0)
        line = {
            "task": "faq", "item": f"q{number}", "asked": sha256_bytes(f"{asked}{number}".encode()), "tags": {"site": SITES[number % 4]},
            "scores": {"exact": float(right)},
        }  # fmt: skip
        lines.append(json.dumps(line, ensure_ascii=False))
    return "\n".join(lines).encode() + b"\n"


def brought_in(ground: Ground, suite: str, folder: Path, content: bytes, *, version: str | None = VERSION) -> MeasurementOut:
    file = folder / f"{uuid4().hex}.jsonl"
    file.write_bytes(content)
    client = ground.platform.as_("contributor").measurements
    return client.bring_in_file(PROJECT, file, suite=suite, base_revision=BASE, version=version, origin="lm-evaluation-harness")


def judged(ground: Ground, candidate: object, baseline: object, suite: str) -> GateOut:
    body = DecideGate(candidate=str(candidate), baseline=str(baseline), suite=suite)
    return ground.platform.as_("contributor").gates.decide(PROJECT, body)


@pytest.fixture(scope="module")
def sides(ground: Ground, suite: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[MeasurementOut, MeasurementOut, MeasurementOut]:
    """The same twice, and one that has lost the site 福岡."""
    folder = tmp_path_factory.mktemp("records")
    damaged = {number: number % 20 == 0 or (number % 4 == 2 and number % 3 > 0) for number in range(ITEMS)}
    return tuple(  # type: ignore[return-value]  # three
        brought_in(ground, suite, folder, content, version=version)
        for content, version in ((records(), None), (records() + b"\n", VERSION), (records(damaged), VERSION))
    )


def test_the_same_answers_are_go_and_a_lost_slice_is_named(ground: Ground, suite: str, sides: tuple[MeasurementOut, ...]) -> None:
    bare, same, damaged = sides
    good = judged(ground, same.id, bare.id, suite)
    assert (good.verdict, good.imported) == (Verdict.GO, True)
    bad = judged(ground, damaged.id, bare.id, suite)
    assert bad.verdict is Verdict.NO_GO
    assert [reason.slice for reason in bad.document.decision.reasons if reason.says is Verdict.NO_GO and reason.slice] == ["site=福岡"]
    assert len(bad.document.decision.tasks[0].negative_flips) > 50


def test_a_decision_is_bound_to_its_evidence_logged_told_and_the_same_when_it_is_made_again(
    ground: Ground, suite: str, sides: tuple[MeasurementOut, ...]
) -> None:
    bare, same, _ = sides
    first, again = (judged(ground, same.id, bare.id, suite) for _ in range(2))
    assert first.id != again.id
    assert (first.digest, first.document) == (again.digest, again.document)
    assert first.digest == sha256_bytes(canonical_json(first.document.model_dump(mode="json")))
    assert (first.document.candidate.evidence, first.document.baseline.evidence) == (same.evidence_digest, bare.evidence_digest)
    assert first.document.candidate.manifest == ground.platform.as_("viewer").adapters.version(PROJECT, ADAPTER, "v1").manifest_digest
    (entry,) = [one for one in ground.platform.logged("evaluation.gate.decide", verdict="GO") if one.object_id == str(first.id)]
    assert (entry.digest, (entry.details or {})["candidate"]) == (first.digest, same.evidence_digest)
    told = [one.data for one in ground.platform.as_("viewer").events.all(PROJECT, type_="evaluation.gate.decided")]
    assert {"gate_id": str(first.id), "verdict": "GO", "decision_digest": first.digest}.items() <= next(
        data for data in told if data["gate_id"] == str(first.id)
    ).items()
    listed = ground.platform.as_("viewer").gates.all(PROJECT, filter=["verdict=GO", "adapter=bot", "version=1", "imported=true"])
    assert {first.id, again.id} <= {one.id for one in listed}


def test_reports_are_the_same_bytes_each_time(ground: Ground, suite: str, sides: tuple[MeasurementOut, ...]) -> None:
    gate = judged(ground, sides[2].id, sides[0].id, suite)
    client = ground.platform.as_("viewer").gates
    texts = {written: client.report(PROJECT, gate.id, written) for written in Format}
    assert texts == {written: client.report(PROJECT, gate.id, written) for written in Format}
    assert texts[Format.MARKDOWN].startswith(f"# NO-GO: {PROJECT}/{ADAPTER}:v1 against {BASE}:r1".encode())
    assert ET.fromstring(texts[Format.JUNIT]).find("testsuite/testcase/failure") is not None
    assert "福岡" in "".join(ET.fromstring(texts[Format.SVG]).itertext())
    assert json.loads(texts[Format.JSON]) == json.loads(gate.document.decision.model_dump_json())
    drawn = drawing(gate.document.decision, title=f"{gate.candidate} against {gate.baseline}")
    assert texts[Format.PNG] == painted(drawn)
    answer = ground.platform.call("viewer", "GET", f"/projects/{PROJECT}/gates/{gate.id}/report?format=png")
    assert answer.headers["content-type"] == "image/png"
    answer = ground.platform.call("viewer", "GET", f"/projects/{PROJECT}/gates/{gate.id}/report?format=pdf")
    assert answer.status_code == 422


def test_a_missing_measurement_is_refused_with_the_sweep_to_ask_for(ground: Ground, suite: str, sides: tuple[MeasurementOut, ...]) -> None:
    assert sides[1].state is MeasurementState.MEASURED, "what was brought in stands in for nothing"
    with refused("gate_measurement_missing", 409) as why:
        judged(ground, VERSION, "base", suite)
    name = f"{PROJECT}/{suite}"
    assert why.details == {
        "which": "candidate", "version": f"{PROJECT}/{ADAPTER}:v1", "base": f"{BASE}:r1", "suite": name, "include_base": False,
    }  # fmt: skip
    assert f"ringi sweep {name} {PROJECT}/{ADAPTER}:v1 --on {BASE}:r1" in why.next_step
    with refused("gate_measurement_missing", 409) as why:
        judged(ground, sides[1].id, "base", suite)
    assert (why.details["which"], why.details["include_base"]) == ("baseline", True)
    with refused("gate_channel_serves_nothing", 409):
        judged(ground, sides[1].id, "channel:nowhere", suite)
    with refused("gate_arms_equal", 409):
        judged(ground, sides[1].id, sides[1].id, suite)
    for candidate, baseline in ((uuid4(), "base"), ("bot:v99", "base"), (sides[1].id, "bot:v99")):
        with refused("not_found", 404):
            judged(ground, candidate, baseline, suite)


def test_items_that_were_asked_differently_are_no_pairs(
    ground: Ground, suite: str, sides: tuple[MeasurementOut, ...], tmp_path: Path
) -> None:
    other = brought_in(ground, suite, tmp_path, records(asked="other"))
    with refused("gate_items_changed", 400):
        judged(ground, other.id, sides[0].id, suite)


def test_another_version_of_the_suite_is_another_measurement(ground: Ground, suite: str, sides: tuple[MeasurementOut, ...]) -> None:
    name, client = suite.partition(":")[0], ground.platform.as_("contributor").suites
    changed = client.add_version(PROJECT, name, AddSuiteVersion.model_validate(document(margin=0.06)))
    again = client.add_version(PROJECT, name, AddSuiteVersion.model_validate(document(margin=0.06)))
    assert (changed.number, again.id) == (2, changed.id)
    with refused("gate_suite_differs", 409):
        judged(ground, sides[1].id, sides[0].id, f"{name}:v2")
    with refused("gate_nothing_required", 409):
        bare = client.add_version(PROJECT, name, AddSuiteVersion.model_validate(document() | {"requirements": []}))
        judged(ground, sides[1].id, sides[0].id, bare.reference.partition("/")[2])


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("measurement_record_unreadable", b"{}\n"),
        ("measurement_record_unreadable", b"nothing"),
        ("measurement_record_unreadable", b'{"task": "faq", "item": "q1", "asked": "sha256:' + b"0" * 64 + b'", "scores": {"exact": NaN}}'),
        ("measurement_records_foreign", b'{"task": "other", "item": "q1", "asked": "sha256:' + b"0" * 64 + b'"}'),
        ("measurement_records_foreign", b'{"task": "faq", "item": "q9999", "asked": "sha256:' + b"0" * 64 + b'"}'),
        ("measurement_records_foreign", records() + records()),
    ],
    ids=["empty", "no json", "not a number", "another task", "another item", "twice"],
)
def test_records_that_are_none_are_refused_and_nothing_is_kept(
    ground: Ground, suite: str, tmp_path: Path, code: str, content: bytes
) -> None:
    client = ground.platform.as_("viewer").measurements
    before = client.all(PROJECT).count()
    with refused(code, 400):
        brought_in(ground, suite, tmp_path, content)
    assert client.all(PROJECT).count() == before


def test_a_suite_is_sent_as_yaml_too(ground: Ground) -> None:
    name, platform = f"y{uuid4().hex[:8]}", ground.platform
    platform.as_("contributor").suites.create(PROJECT, name)
    text = """
tasks:
  - {name: 品質, answering: exact, scorers: [exact], dataset: {version: faq, slices: []}}
requirements: []
"""
    path = f"/projects/{PROJECT}/suites/{name}/versions"
    made = platform.call("contributor", "POST", path, content=text.encode(), headers={"Content-Type": "application/yaml"})
    again = platform.call("contributor", "POST", path, content=text.encode(), headers={"Content-Type": "application/yaml"})
    assert (made.status_code, again.status_code) == (201, 200), made.text
    assert made.json()["digest"] == again.json()["digest"]
    bomb = platform.call("contributor", "POST", path, content=b"a: &x [1]\ntasks: *x", headers={"Content-Type": "application/yaml"})
    assert (bomb.status_code, bomb.json()["code"]) == (400, "suite_yaml_refused")
    assert platform.call("viewer", "POST", path, content=text.encode(), headers={"Content-Type": "application/yaml"}).status_code == 403
