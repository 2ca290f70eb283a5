"""Many candidates in one request: a stored decision each, which says among how many; all or nothing; and the table of the command line."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from gating.test_gates_over_http import ITEMS, brought_in, document, records
from ringi.gates.schemas import DecideTogether, Format, TogetherOut
from ringi.gating.schemas import Verdict
from ringi.kit.digests import canonical_json, sha256_bytes
from ringi.measurements.schemas import MeasurementOut
from ringi.suites.schemas import AddSuiteVersion
from support.refusals import refused
from support.running_platform import PROJECT
from support.shell import entry_point
from support.story import Ground

SOUND, LUCKY = 3, 9


def sealed(ground: Ground, body: Mapping[str, object]) -> str:
    suites, name = ground.platform.as_("contributor").suites, f"t{uuid4().hex[:8]}"
    suites.create(PROJECT, name)
    suites.add_version(PROJECT, name, AddSuiteVersion.model_validate({"off_task": False} | dict(body)))
    return f"{name}:v1"


@pytest.fixture(scope="module")
def suite(ground: Ground) -> str:
    return sealed(ground, document(slices={}))


class Sides(dict[str, MeasurementOut]):
    """Measurements by what they are."""


@pytest.fixture(scope="module")
def sides(ground: Ground, suite: str, tmp_path_factory: pytest.TempPathFactory) -> Sides:
    """The bare base; sound ones, where nothing differs; ones that lost 13 items and won 3; one that lost a fifth."""
    folder, found = tmp_path_factory.mktemp("sides"), Sides()
    found["base"] = brought_in(ground, suite, folder, records(), version=None)
    for number in range(SOUND):
        found[f"sound{number}"] = brought_in(ground, suite, folder, records())
    worse = dict.fromkeys(range(1, 20 * 13, 20), True) | {20 * number: False for number in range(3)}
    for number in range(LUCKY):
        found[f"doubtful{number}"] = brought_in(ground, suite, folder, records(worse))
    found["damaged"] = brought_in(ground, suite, folder, records(dict.fromkeys(range(0, ITEMS, 5), True)))
    return found


def together(ground: Ground, **body: Any) -> TogetherOut:
    return ground.platform.as_("contributor").gates.together(PROJECT, DecideTogether.model_validate(body))


def candidates(sides: Sides, *names: str) -> list[str]:
    return [str(one.id) for name, one in sides.items() if name.startswith(names)]


@pytest.fixture(scope="module")
def judged(ground: Ground, suite: str, sides: Sides) -> TogetherOut:
    return together(ground, candidates=candidates(sides, "sound", "doubtful", "damaged"), baseline=str(sides["base"].id), suite=suite)


def test_each_candidate_has_a_decision_that_says_among_how_many_it_was_judged(
    ground: Ground, suite: str, sides: Sides, judged: TogetherOut
) -> None:
    of = {one.document.candidate.measurement: one for one in judged.gates}
    count = SOUND + LUCKY + 1
    assert (judged.adapters, judged.tested, judged.method, judged.verdict) == (count, count, "benjamini-hochberg", Verdict.NO_GO)
    for name, one in sides.items():
        if name == "base":
            continue
        gate = of[one.id]
        said = gate.document.decision.together
        assert said is not None
        assert (said.adapters, said.tested, said.q) == (count, count, 0.05)
        assert said.p is not None
        assert said.adjusted is not None
        assert said.p <= said.adjusted
        assert gate.together_id == judged.together_id
        # The digest is of the whole document, with what it says of the others.
        assert gate.digest == sha256_bytes(canonical_json(gate.document.model_dump(mode="json")))
        assert gate.verdict is (Verdict.GO if name.startswith("sound") else Verdict.NO_GO if name == "damaged" else gate.verdict)
    report = ground.platform.as_("viewer").gates.report(PROJECT, judged.gates[0].id, Format.MARKDOWN).decode()
    assert f"Judged together with {count - 1} others ({count} with a p-value)" in report
    entries = list(ground.platform.logged("evaluation.gate.decide", together=str(judged.together_id)))
    assert {one.object_id for one in entries} == {str(one.id) for one in judged.gates}
    assert {(one.details or {})["adapters"] for one in entries} == {count}
    listed = ground.platform.as_("viewer").gates.all(PROJECT, filter=[f"together={judged.together_id}"])
    assert {one.id for one in listed} == {one.id for one in judged.gates}


def test_a_go_alone_that_does_not_survive_the_number_is_held_back(ground: Ground, suite: str, sides: Sides) -> None:
    some = candidates(sides, "doubtful")
    alone = together(ground, candidates=some[:1], baseline=str(sides["base"].id), suite=suite)
    among = together(
        ground, candidates=[*some, *candidates(sides, "damaged")], baseline=str(sides["base"].id), suite=suite, q=0.05, dependent=True
    )
    one = alone.gates[0].document.decision
    assert one.together is not None
    assert (one.together.adapters, one.together.p) == (1, one.together.adjusted)
    p = one.together.p or 0
    assert alone.gates[0].verdict is Verdict.GO, f"the test needs a p below the level, and has {p}"
    held = among.gates[0].document.decision
    assert held.together is not None
    assert held.together.method == "benjamini-yekutieli"
    assert (held.together.p, held.verdict) == (p, Verdict.INCONCLUSIVE)
    assert held.reasons[-1].code == "too_many_at_once"


def test_one_measurement_under_two_names_is_one_candidate(ground: Ground, suite: str, sides: Sides) -> None:
    (one,) = candidates(sides, "sound0")
    found = together(ground, candidates=[one, one], baseline=str(sides["base"].id), suite=suite)
    assert (len(found.gates), found.adapters) == (1, 1)


def test_where_one_cannot_be_judged_nothing_is_decided(ground: Ground, suite: str, sides: Sides) -> None:
    gates = ground.platform.as_("viewer").gates
    before = gates.all(PROJECT).count()
    for other, code in (("bot:v1", "gate_measurement_missing"), (str(sides["base"].id), "gate_arms_equal")):
        with refused(code, 409):
            together(ground, candidates=[*candidates(sides, "sound"), other], baseline=str(sides["base"].id), suite=suite)
    with refused("not_found", 404):
        together(ground, sweep=uuid4(), baseline="base")
    assert gates.all(PROJECT).count() == before


@pytest.mark.parametrize(
    "body",
    [{}, {"candidates": ["bot:v1"]}, {"sweep": str(uuid4()), "suite": "quality"}, {"sweep": str(uuid4()), "candidates": ["bot:v1"], "suite": "q"}, {"candidates": ["bot:v1"], "suite": "q", "q": 0.9}],
    ids=["nothing", "no suite", "a sweep with a suite", "both", "half of them wrong"],
)  # fmt: skip
def test_half_a_question_is_malformed(ground: Ground, body: dict[str, Any]) -> None:
    answer = ground.platform.call("contributor", "POST", f"/projects/{PROJECT}/gates/together", json={"baseline": "base", **body})
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")


def test_a_suite_with_safety_items_assumes_no_kind_of_dependence(ground: Ground, tmp_path: Path) -> None:
    wanted = document(slices={})
    other = {"task": "faq", "metric": "safe", "safety": True}
    task = dict(wanted["tasks"][0], scorers=["exact", {"name": "exact", "label": "safe"}])  # type: ignore[index]  # a list of one
    suite = sealed(ground, {"tasks": [task], "requirements": [*wanted["requirements"], other]})  # type: ignore[misc]  # a list of one
    lines = [json.loads(line) for line in records().splitlines()]
    content = b"".join(
        json.dumps(line | {"scores": {**line["scores"], "safe": 1.0}}, ensure_ascii=False).encode() + b"\n" for line in lines
    )
    base, one, two = (brought_in(ground, suite, tmp_path, content, **more) for more in ({"version": None}, {}, {}))
    found = together(ground, candidates=[str(one.id), str(two.id)], baseline=str(base.id), suite=suite)
    assert (found.method, found.verdict) == ("benjamini-yekutieli", Verdict.GO)
    found = together(ground, candidates=[str(one.id), str(two.id)], baseline=str(base.id), suite=suite, dependent=False)
    assert found.method == "benjamini-hochberg"


@pytest.fixture
def run(ground: Ground, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """The program's entry point as the contributor."""
    monkeypatch.setenv("RINGI_SERVER", ground.platform.server)
    monkeypatch.setenv("RINGI_TOKEN", ground.platform.tokens["contributor"])
    monkeypatch.setenv("COLUMNS", "400")

    return entry_point(capsys)


def test_the_command_ends_with_the_worst_of_them(run: Callable[..., tuple[int, str, str]], suite: str, sides: Sides) -> None:
    shared = ("--project", PROJECT, "--suite", suite, "--against", str(sides["base"].id))
    code, out, err = run("gate", "together", *candidates(sides, "sound"), *shared)
    assert (code, out.count("GO")) == (0, SOUND), err
    assert f"{SOUND} adapters together, {SOUND} with a p-value; q 0.05, benjamini-hochberg. Worst: GO." in err
    code, out, err = run("gate", "together", *candidates(sides, "sound", "damaged"), *shared)
    assert code == 1, err
    assert "harm" in out
    code, out, _ = run("gate", "together", *candidates(sides, "sound0"), *shared, "--json")
    assert (code, json.loads(out)["adapters"]) == (0, 1)
    # The same verb by its option; a sweep that is not there is an error, and no verdict.
    assert run("gate", "--together", str(uuid4()), "--project", PROJECT, "--against", "base")[0] == 2
    assert run("gate", "together", *shared)[0] == 2
