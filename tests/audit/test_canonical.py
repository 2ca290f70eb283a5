"""The verifier's own canonical JSON against the library with which the platform writes."""

import json
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given, settings
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


tricky = st.text(st.sampled_from('ab"\\{}[]:,\n\x7f\u2028稟議\U0001f600'), max_size=6)
some = st.none() | tricky
events = st.fixed_dictionaries(
    {
        "v": st.sampled_from([1, 1, 1, 2]), "origin": tricky, "id": tricky, "ts": tricky, "action": tricky, "outcome": tricky, "organization": some, "project": some,
        "before": some, "after": some, "policy": some, "request_id": some, "payload_commit": some,
        "object": st.fixed_dictionaries({"type": tricky, "id": tricky, "digest": some}),
        "actor": st.fixed_dictionaries(
            {"type": tricky, "id": tricky, "on_behalf_of": some,
             "auth": st.none() | st.fixed_dictionaries(
                 {"token_id": some, "iss": some, "acr": some, "amr": st.none() | st.lists(tricky, max_size=3), "auth_time": some})}
        ),
        "details": st.none() | st.dictionaries(tricky, some | st.booleans() | st.integers(0, 99) | st.lists(tricky, max_size=2), max_size=3),
    }
)  # fmt: skip
pieces = st.sampled_from(
    [
        "",
        '"',
        "\\",
        "{",
        "}",
        ",",
        ":",
        "null",
        "1",
        "1.0",
        " ",
        "\n",
        '"a":1',
        "\\u0061",
        "稟",
        ',"details":{"a":"}',
        '},"id":"x"',
        '"":null,',
        "[",
        "]",
    ]
)


def as_the_library_reads(entry: bytes) -> tuple[str | None, ...]:
    """The first fields of `claim_of`, told by the library that writes events."""

    def refuse(number: str) -> None:
        raise ValueError(number)

    try:
        document = json.loads(entry, parse_float=refuse, parse_constant=refuse)
        if rfc8785.dumps(document) != entry or document.keys() != json.loads(event()).keys():
            return (None,) * 8
        named = document["object"]
        texts = [
            document["id"],
            document["action"],
            named["type"],
            named["id"],
            document["after"],
            document["origin"],
            document["organization"],
            document["ts"],
        ]
        return tuple(text if text is None else str(text) for text in texts)
    except (ValueError, KeyError, TypeError, AttributeError):
        return (None,) * 8


@settings(max_examples=400)
@given(events, st.none() | st.tuples(st.integers(0, 900), st.integers(0, 3), pieces))
@example({"details": {"a": "}"}}, None)
@example({"details": {"a": 1}}, (220, 0, '"a":1,'))
def test_an_event_changed_anywhere_is_read_as_the_library_reads_it(changed: dict[str, Any], edit: tuple[int, int, str] | None) -> None:
    text = event(**changed).decode()
    if edit is not None:
        at, gone, put = edit
        text = text[: at % len(text)] + put + text[at % len(text) + gone :]
    # The claim keeps an `after` that is no text as it is; nobody takes it for a digest.
    claim = claim_of(0, text.encode())
    assert tuple(value if value is None else str(value) for value in claim[1:]) == as_the_library_reads(text.encode())
