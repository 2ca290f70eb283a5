"""The verifier's own canonical JSON against the library with which the platform writes."""

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from ringi.audit.ringi_verify import BundleInvalid, canonical_json, canonical_object, claim_of

SAFE = 2**53 - 1
plain = st.none() | st.booleans() | st.integers(-SAFE, SAFE) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
documents = st.recursive(plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12)


@given(documents)
@example([1e21, 1e20, 1e-6, 1e-7, 123456789012345680000.0, -0.0, 5e-324, 1.7976931348623157e308, 0.1, 100.0, 333333333.3333332])
@example({"\U0001f600": 1, "\ufb33": 2, "稟議": "承認\u2028\x7f\x1f\t", "": [], "a": {}})
def test_it_writes_the_bytes_that_the_library_writes(document: Any) -> None:
    assert canonical_json(document) == rfc8785.dumps(document)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_written_as_the_library_writes_it(number: float) -> None:
    assert canonical_json(number) == rfc8785.dumps(number)


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":1}', '{"b":1,"a":2}', '{ "a":1}', '{"a":1} ', '{"a":1}\n', '{"a":1.0}', '{"a":1e2}', '{"a":-0}', '{"a":"\\u0061"}', '{"a":"\\/"}', '{"a":NaN}',
     '{"a":Infinity}', '{"a":9007199254740993}', '{"a":"\\ud800"}', "[1]", "null", "", "{", '{"a":1}{"a":1}', "[" * 100_000],
)  # fmt: skip
def test_a_second_spelling_is_refused(text: str) -> None:
    with pytest.raises(BundleInvalid):
        canonical_object(text.encode("utf-8", "surrogatepass"), "It")


def event(**changed: Any) -> bytes:
    whole: dict[str, Any] = {
        "v": 1, "origin": "o", "id": "i", "ts": "2026-11-22T00:00:00.000000Z", "actor": {"type": "user", "id": "u", "on_behalf_of": None, "auth": None},
        "action": "approval.vote", "outcome": "ok", "object": {"type": "approval_vote", "id": "x", "digest": None}, "organization": None, "project": None,
        "before": None, "after": None, "policy": None, "request_id": None, "details": {"理由": "稟議"}, "payload_commit": None,
    } | changed  # fmt: skip
    return rfc8785.dumps(whole)


def test_an_event_is_read_in_its_one_spelling_only() -> None:
    whole = event()
    assert claim_of(3, whole)[:5] == (3, "i", "approval.vote", "approval_vote", "x")
    reordered = json.dumps(dict(reversed(json.loads(whole).items())), separators=(",", ":"), ensure_ascii=False).encode()
    repeated = whole.replace(b'"id":"i"', b'"id":"i","id":"i"')
    escaped = json.dumps(json.loads(whole), separators=(",", ":"), sort_keys=True).encode()
    more, fewer = event(extra=None), rfc8785.dumps({name: value for name, value in json.loads(whole).items() if name != "policy"})
    for other in (reordered, repeated, escaped, more, fewer, whole + b" ", b" " + whole, event(details={"n": 0.5}), b"", b"[]", b"1"):
        assert other != whole
        assert claim_of(3, other)[1:] == (None,) * 8
