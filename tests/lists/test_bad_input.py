"""Whatever a list does not understand is refused under a stable code with what there is; nothing is ignored, nothing fails inside."""

import base64
import json
from urllib.parse import quote

import httpx
import pytest

from lists.conftest import Filled
from ringi.web.heads import UnknownParameter

ADAPTERS, VERSIONS = "/projects/risk/adapters", "/projects/risk/versions"


@pytest.mark.parametrize(
    ("item", "code"),
    [
        ("colour=red", "unknown_field"),
        ("tags.=red", "unknown_field"),
        ("tags=red", "unknown_field"),
        ("search=x", "unknown_field"),
        ("id=x", "unknown_field"),
        ("project_id=x", "unknown_field"),
        ("__class__=x", "unknown_field"),
        ("versions.colour=red", "unknown_field"),
        ("name>a", "unknown_operator"),
        ("created_at~2026", "unknown_operator"),
        ("versions.state>sealed", "unknown_operator"),
        ("versions.state=melted", "bad_filter_value"),
        ("versions.state=", "bad_filter_value"),
        ("versions.rank>many", "bad_filter_value"),
        ("versions.rank>1e999", "bad_filter_value"),
        ("versions.rank>nan", "bad_filter_value"),
        ("versions.rank>inf", "bad_filter_value"),
        ("versions.rank>0x10", "bad_filter_value"),
        ("versions.rank>１２", "bad_filter_value"),
        ("versions.number>1.5", "bad_filter_value"),
        (f"versions.number>{'9' * 19}", "bad_filter_value"),
        ("versions.use_dora=yes", "bad_filter_value"),
        ("created_at>yesterday", "bad_filter_value"),
        ("created_at>2026-02-30", "bad_filter_value"),
        ("created_at>2026-13-01", "bad_filter_value"),
        ("created_at>2026-11-01T25:00Z", "bad_filter_value"),
        ("created_at>2026-11-01T09:00+99:00", "bad_filter_value"),
        ("created_at>0000-01-01", "bad_filter_value"),
        ("created_at>0001-01-01T00:00+09:00", "bad_filter_value"),
        ("created_at<=9999-12-31", "bad_filter_value"),
        ("created_at>20261101", "bad_filter_value"),
        ("created_at>２０２６-11-01", "bad_filter_value"),
        ("name=a\x00b", "bad_filter_value"),
        ("name~\x00", "bad_filter_value"),
        ("", "malformed_filter"),
        ("=x", "malformed_filter"),
        ("name = bot", "malformed_filter"),
        ("!name=bot", "malformed_filter"),
        ("name'--=x", "malformed_filter"),
        ("name=" + "x" * 1000, "malformed_filter"),
    ],
)
def test_a_filter_that_cannot_be_understood_is_refused(filled: Filled, item: str, code: str) -> None:
    assert filled.acme.refusal("aiko", ADAPTERS, ("filter", item)) == (422, code)


@pytest.mark.parametrize(
    "value", ["%", "_", "'", '"', "\\", "' OR 1=1 --", "$1", "%s", "%(x)s", "\ufffd", "\u202e", "🗻", "é" * 300, "{}", ":x", "\n"]
)
def test_hostile_text_is_only_text(filled: Filled, value: str) -> None:
    for operator in ("=", "~"):
        assert filled.acme.found("aiko", ADAPTERS, ("filter", f"name{operator}{value}")) == []
        assert filled.acme.found("aiko", ADAPTERS, ("filter", f"tags.team{operator}{value}")) == []
    assert len(filled.acme.found("aiko", ADAPTERS, ("filter", f"name!={value}"))) == 3


def test_lone_surrogates_and_bytes_that_are_no_utf8_find_nothing_and_break_nothing(filled: Filled) -> None:
    headers = {"Authorization": f"Bearer {filled.acme.tokens['aiko']}"}
    for raw in ("%ED%A0%80", "%FF%FE", "%C0%80"):
        for query in (f"q={raw}", f"filter=name~{raw}", f"filter=name%3D{raw}", f"sort={raw}", f"cursor={raw}"):
            answer = httpx.get(f"{filled.acme.url}/api/v1{ADAPTERS}?{query}", headers=headers)
            assert answer.status_code in {200, 422}, (query, answer.text)
            assert answer.status_code == 422 or answer.json()["items"] == []


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([("sort", "colour")], "unknown_field"),
        ([("sort", "description")], "unknown_field"),
        ([("sort", "versions.rank")], "unknown_field"),
        ([("sort", "name,-name")], "malformed_sort"),
        ([("sort", "name,")], "unknown_field"),
        ([("sort", "--name")], "unknown_field"),
        ([("sort", "name;drop")], "unknown_field"),
        ([("sort", "name,base,owner,created_at,tags.a")], "malformed_sort"),
        ([("q", "a b c d e f g h i")], "malformed_search"),
        ([("q", "a\x00")], "bad_filter_value"),
        ([("q", "x" * 201)], "malformed_request"),
        ([("filters", "name=bot")], "unknown_parameter"),
        ([("state", "sealed")], "unknown_parameter"),
        ([("limit", "0")], "malformed_request"),
        ([("limit", str(2**64))], "malformed_request"),
        ([("count", "perhaps")], "malformed_request"),
        ([("filter", "name=x")] * 21, "malformed_filter"),
    ],
)
def test_an_order_search_or_parameter_that_cannot_be_understood_is_refused(filled: Filled, pairs: list[tuple[str, str]], code: str) -> None:
    assert filled.acme.refusal("aiko", ADAPTERS, *pairs) == (422, code)


def test_a_refusal_lists_what_there_is(filled: Filled) -> None:
    problem = filled.acme.get("aiko", ADAPTERS, ("filter", "colour=red")).json()
    assert {"name", "base", "versions.metrics.improvement", "tags.<key>"} <= set(problem["details"]["fields"])
    assert "name" in problem["next_step"]
    problem = filled.acme.get("aiko", ADAPTERS, ("sort", "description")).json()
    assert problem["details"]["fields"] == ["base", "created_at", "name", "owner", "tags.<key>"]
    problem = filled.acme.get("aiko", ADAPTERS, ("filter", "name>x")).json()
    assert problem["details"]["operators"] == ["=", "!=", "~", "!~"]
    problem = filled.acme.get("aiko", ADAPTERS, ("filter", "versions.state=melted")).json()
    assert "sealed, deprecated, retired, revoked" in problem["details"]["expected"]
    problem = filled.acme.get("aiko", ADAPTERS, ("filters", "x")).json()
    assert problem["details"]["parameters"] == ["count", "cursor", "filter", "limit", "q", "sort"]
    assert problem["code"] == UnknownParameter.code


def test_a_list_without_texts_has_no_search(filled: Filled) -> None:
    assert filled.acme.refusal("aiko", "/projects/risk/runs", ("q", "応答")) == (422, "unknown_parameter")


def cursor_of(filled: Filled, *pairs: tuple[str, str], path: str = ADAPTERS) -> str:
    cursor = filled.acme.get("aiko", path, ("limit", "1"), *pairs).json()["next_cursor"]
    assert isinstance(cursor, str)
    return cursor


def test_a_cursor_belongs_to_its_list_filter_order_and_search(filled: Filled) -> None:
    asked = [("filter", "base=tiny"), ("sort", "name"), ("q", "a")]
    others: list[tuple[str, list[tuple[str, str]]]] = [
        (ADAPTERS, []),
        (ADAPTERS, [("filter", "base=other"), ("sort", "name")]),
        (ADAPTERS, [("filter", "base=tiny"), ("sort", "-name")]),
        (ADAPTERS, [("filter", "base=tiny"), ("filter", "name!=x"), ("sort", "name")]),
        (ADAPTERS, [("filter", "base=tiny"), ("sort", "name"), ("q", "bot")]),
        (VERSIONS, []),
        ("/projects/secret/adapters", [("filter", "base=tiny"), ("sort", "name")]),
        ("/jobs", []),
    ]
    made = cursor_of(filled, *asked[:2])
    for path, pairs in others:
        user = "otto" if "secret" in path else "aiko"
        assert filled.acme.refusal(user, path, ("cursor", made), *pairs) == (422, "invalid_cursor"), (path, pairs)
    again = filled.acme.found(
        "aiko", ADAPTERS, ("cursor", made), ("sort", "name"), ("filter", "base=tiny"), ("limit", "9"), ("count", "true")
    )
    assert again == ["empty"]


def forged(cursor: str, *values: object) -> str:
    """The cursor with its binding kept and other values behind it."""
    binding = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))[0]
    return base64.urlsafe_b64encode(json.dumps([binding, *values]).encode()).decode().rstrip("=")


def test_a_cursor_that_was_made_up_is_refused_or_shows_nothing_that_the_list_would_not(filled: Filled) -> None:
    for made in ("", "%%%", "é", "bm90LWEtY3Vyc29y", "W10", "bnVsbA", "A" * 3000, base64.urlsafe_b64encode(b"[" * 2000).decode()):
        assert filled.acme.refusal("aiko", ADAPTERS, ("cursor", made)) == (422, "invalid_cursor"), made
    assert filled.acme.refusal("aiko", ADAPTERS, ("cursor", "A" * 13_000)) == (422, "malformed_request")
    key = "ffffffff-ffff-7fff-bfff-ffffffffffff"
    by_name = cursor_of(filled, ("sort", "name"))
    for values in (
        [],
        [key],
        ["a"],
        [None, key],
        [1, key],
        ["a", "x"],
        ["a\x00", key],
        ["\ud800", key],
        [["a"], key],
        ["a", key, "b"],
        [{}, key],
    ):
        refused = filled.acme.refusal("aiko", ADAPTERS, ("sort", "name"), ("cursor", forged(by_name, *values)))
        assert refused == (422, "invalid_cursor"), values
    assert filled.acme.found("aiko", ADAPTERS, ("sort", "name"), ("cursor", forged(by_name, "", key))) == ["bot", "empty", "mail"]
    by_rank = cursor_of(filled, ("sort", "rank"), path=VERSIONS)
    for value in (float("nan"), float("inf"), True, "8", 10**400):
        refused = filled.acme.refusal("aiko", VERSIONS, ("sort", "rank"), ("cursor", forged(by_rank, value, key)))
        assert refused == (422, "invalid_cursor"), value
    by_time = cursor_of(filled, ("sort", "created_at"))
    for value in ("yesterday", 5, "2026-02-30T00:00:00"):
        refused = filled.acme.refusal("aiko", ADAPTERS, ("sort", "created_at"), ("cursor", forged(by_time, value, key)))
        assert refused == (422, "invalid_cursor"), value


@pytest.mark.parametrize(
    "selector", ["production@", "production@yesterday", "production@2999-01-01", "v1@2025-10-10", "@2025-10-10", "latest@２０２５-10-10"]
)
def test_a_time_that_cannot_be_looked_up_is_refused(filled: Filled, selector: str) -> None:
    assert filled.acme.refusal("aiko", f"{ADAPTERS}/bot/versions/{quote(selector, safe='')}") == (422, "bad_as_of")
    assert filled.acme.refusal("aiko", "/projects/risk/releases", ("as_of", "2999-01-01")) == (422, "bad_as_of")
    assert filled.acme.refusal("aiko", "/projects/risk/releases", ("as_of", "soon")) == (422, "bad_as_of")


@pytest.mark.parametrize("key", ["a=b", "a>b", "a~b", "a b", "-a", "ｔｅａｍ", "a" * 129, "\x00", "a\n", "!a", "%ED%A0%80"])
def test_a_key_that_could_not_stand_in_a_filter_is_refused(filled: Filled, key: str) -> None:
    path = f"{filled.acme.url}/api/v1/tags/adapter/{filled.ids['bot']}/{key if key.startswith('%') else quote(key, safe='')}"
    answer = httpx.put(path, json={"value": "x"}, headers={"Authorization": f"Bearer {filled.acme.tokens['aiko']}"})
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")


@pytest.mark.parametrize(
    "body",
    [
        '{"value": "\\ud800"}',
        '{"value": "a\\u0000"}',
        '{"value": "\\u202e"}',
        '{"value": 5}',
        '{"colour": "x"}',
        "[]",
        json.dumps({"value": "x" * 501}),
    ],
)
def test_a_value_that_is_no_printable_text_is_refused(filled: Filled, body: str) -> None:
    headers = {"Authorization": f"Bearer {filled.acme.tokens['aiko']}", "Content-Type": "application/json"}
    answer = httpx.put(f"{filled.acme.url}/api/v1/tags/adapter/{filled.ids['bot']}/team", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")
