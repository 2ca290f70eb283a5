"""The numbered list, case by case, and the two pure readers of a request: its path and its range."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringi.hub import paths, ranges
from ringi.hub.access import HubCode, Pull, Refusal, Served, decide
from ringi.releases.gates import Gate

STATE, APPROVED, UNEXPIRED, KIND = "release_gate_state", "release_gate_approved", "release_gate_unexpired", "release_gate_kind"


def pull(*failed: str, caller: str | None = None, by_main: bool = True, candidates: bool = False, gates: bool = True) -> Pull:
    codes = (STATE, "release_gate_evaluated", APPROVED, UNEXPIRED, "release_gate_logged", KIND)
    verdicts = {code: Gate(number, code, code not in failed, f"message of {code}") for number, code in enumerate(codes, 1)}
    return Pull(
        repository="demo/bot", channel="live", channel_environment="production", caller_environment=caller, by_main=by_main,
        may_pull_candidates=candidates, gates=verdicts if gates else {},
    )  # fmt: skip


def refused(one: Pull) -> tuple[int, HubCode | None]:
    decision = decide(one)
    assert isinstance(decision, Refusal)
    return decision.status, decision.code


def test_what_is_sealed_and_approved_is_served_even_when_evaluation_and_log_are_missing() -> None:
    assert decide(pull("release_gate_evaluated", "release_gate_logged")) == Served(candidate=False)


@pytest.mark.parametrize(
    ("one", "answer"),
    [
        (pull(gates=False), (403, HubCode.GATED)),
        (pull(STATE), (404, HubCode.REVISION_NOT_FOUND)),
        (pull(caller="staging"), (403, HubCode.GATED)),
        (pull(STATE, caller="staging"), (404, HubCode.REVISION_NOT_FOUND)),
        (pull(APPROVED, UNEXPIRED), (403, HubCode.GATED)),
        (pull(UNEXPIRED), (404, HubCode.REVISION_NOT_FOUND)),
        (pull(APPROVED, UNEXPIRED, candidates=True), (403, HubCode.GATED)),
        (pull(STATE, candidates=True, by_main=False), (404, HubCode.REVISION_NOT_FOUND)),
        (pull(KIND), (403, HubCode.GATED)),
        (pull(KIND, APPROVED, candidates=True, by_main=False), (403, HubCode.GATED)),
        (pull(APPROVED, caller="staging", candidates=True, by_main=False), (403, HubCode.GATED)),
    ],
)
def test_each_refusal_has_the_answer_of_the_policy(one: Pull, answer: tuple[int, HubCode]) -> None:
    assert refused(one) == answer


def test_no_combination_serves_a_withdrawn_version_or_an_unapproved_one_by_main() -> None:
    failures = [*itertools.chain.from_iterable(itertools.combinations((STATE, APPROVED, UNEXPIRED), size) for size in range(4))]
    for failed, by_main, candidates in itertools.product(failures, (True, False), (True, False)):
        decision = decide(pull(*failed, by_main=by_main, candidates=candidates))
        allowed = STATE not in failed and (not failed or (candidates and not by_main))
        assert isinstance(decision, Served) is allowed, (failed, by_main, candidates)
        if isinstance(decision, Served):
            assert decision.candidate is bool(failed)


@pytest.mark.parametrize(
    ("raw", "target"),
    [
        (b"/hf/live/api/models/demo/bot", ("live", "demo", "bot", "main", "")),
        (b"/hf/live/api/models/demo/bot/revision/env%2Fprod", ("live", "demo", "bot", "env/prod", "")),
        (b"/hf/live/api/models/demo/bot/tree/v1/a/b%20c", ("live", "demo", "bot", "v1", "a/b c")),
        (b"/hf/live/api/models/demo/bot/tree/v1/", ("live", "demo", "bot", "v1", "")),
        (b"/hf/live/demo/bot/resolve/refs%2Fpr%2F1/a/b.json", ("live", "demo", "bot", "refs/pr/1", "a/b.json")),
        (b"/hf/live/api/models/demo/bot/refs", ("live", "demo", "bot", "main", "")),
    ],
)
def test_a_revision_is_one_encoded_segment(raw: bytes, target: tuple[str, ...]) -> None:
    assert paths.split(raw) == target
    assert paths.split(b"/behind/proxy" + raw, root_path="/behind/proxy") == target


@given(st.binary(max_size=60))
def test_any_path_is_split_without_an_error(raw: bytes) -> None:
    paths.split(b"/hf/" + raw)


@given(st.one_of(st.text(max_size=30), st.from_regex(r"bytes=\d{0,4}-\d{0,4}", fullmatch=True)), st.integers(0, 2000))
def test_a_span_lies_within_the_file_and_is_empty_only_for_an_empty_file(header: str, size: int) -> None:
    span = ranges.parse(header, size)
    assert span is None or 0 <= span.start <= span.end <= size
    assert span is None or span.start < span.end or not span.partial


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, (0, 10, False)),
        ("bytes=0-0", (0, 1, True)),
        ("bytes=4-", (4, 10, True)),
        ("bytes=4-99", (4, 10, True)),
        ("bytes=-3", (7, 10, True)),
        ("bytes=-99", (0, 10, True)),
        ("bytes=10-", None),
        ("bytes=-0", None),
        ("bytes=5-4", (0, 10, False)),
        ("bytes=0-1,4-5", (0, 10, False)),
        ("lines=0-1", (0, 10, False)),
        ("bytes=-", (0, 10, False)),
        ("bytes=" + "9" * 5000 + "-", (0, 10, False)),
    ],
)
def test_ranges_follow_the_rfc(header: str | None, span: tuple[int, int, bool] | None) -> None:
    assert ranges.parse(header, 10) == span
