"""What each list finds: every kind of field, unknown values, orders, search and counts."""

import pytest

from lists.conftest import Filled

ADAPTERS, VERSIONS, RUNS, EVALUATIONS = (f"/projects/risk/{what}" for what in ("adapters", "versions", "runs", "evaluations"))


def filters(*items: str) -> list[tuple[str, str]]:
    return [("filter", item) for item in items]


@pytest.mark.parametrize(
    ("items", "found"),
    [
        (["name=bot"], {"bot"}),
        (["name!=bot"], {"mail", "empty"}),
        (["name~A"], {"mail"}),
        (["name!~t"], {"mail"}),
        (["base=tiny"], {"bot", "empty"}),
        (["base!=tiny"], {"mail"}),
        (["owner=dana"], {"mail"}),
        (["description~応答"], {"bot"}),
        (["description~メール"], {"mail"}),
        (["description~faq"], {"empty"}),
        (["description~100%_o"], {"mail"}),
        (["description~0%x"], set()),
        (["description~_ff"], set()),
        (["versions.state=deprecated"], {"bot"}),
        (["versions.method=IA3"], {"mail"}),
        (["versions.dataset=letters"], {"bot", "mail"}),
        (["versions.live_on=production"], {"bot", "mail"}),
        (["versions.live_on=staging"], {"bot"}),
        (["!versions.state"], {"empty"}),
        (["versions.metrics.improvement>0.1"], {"bot"}),
        (["versions.metrics.improvement<0"], {"mail"}),
        (["versions.rank>=16"], {"bot"}),
        (["versions.verdict=worse", "owner=dana"], {"mail"}),
        (["versions.verdict=worse", "owner=aiko"], set()),
        (["created_at>=2026-01-01"], {"bot", "mail", "empty"}),
        (["created_at<2026-01-01"], set()),
    ],
)
def test_a_filter_of_adapters_finds_what_it_says(filled: Filled, items: list[str], found: set[str]) -> None:
    assert set(filled.acme.found("aiko", ADAPTERS, *filters(*items))) == found


@pytest.mark.parametrize(
    ("items", "found"),
    [
        (["metrics.improvement>0.1"], {"bot:v2"}),
        (["metrics.improvement>=-1"], {"bot:v1", "bot:v2", "mail:v1"}),
        (["metrics.improvement!=0.4"], {"bot:v1", "mail:v1"}),
        (["metrics.improvement"], {"bot:v1", "bot:v2", "mail:v1"}),
        (["!metrics.improvement"], {"bot:v3"}),
        (["metrics.final_loss<1.3"], {"bot:v2", "mail:v1"}),
        (["!metrics.final_loss"], {"bot:v3"}),
        (["metrics.tokens_per_s>=0"], set()),
        (["effect.noise<1"], set()),
        (["verdict=insufficient"], {"bot:v3"}),
        (["adapter=bot", "state=sealed", "rank>4"], {"bot:v2", "bot:v3"}),
        (["dataset=faq"], {"bot:v1", "bot:v2"}),
        (["live_on=production"], {"bot:v3", "mail:v1"}),
        (["!live_on"], {"bot:v1", "bot:v2"}),
        (["base_revision=1", "number=1"], {"bot:v1", "mail:v1"}),
        (["method=LORA", "parameters>8000"], {"bot:v3"}),
        (["use_rslora=false", "adapter=mail"], {"mail:v1"}),
        (["owner=aiko", "source=trained", "adapter!=bot"], {"mail:v1"}),
    ],
)
def test_a_filter_of_versions_finds_what_it_says_and_what_was_not_measured_matches_no_comparison(
    filled: Filled, items: list[str], found: set[str]
) -> None:
    references = filled.acme.found("aiko", VERSIONS, *filters(*items), by="reference")
    assert {reference.removeprefix("risk/") for reference in references} == found


def test_runs_evaluations_datasets_jobs_and_releases_are_found_by_their_own_fields(filled: Filled) -> None:
    acme = filled.acme
    assert len(acme.found("aiko", RUNS, *filters("metrics.final_loss<2", "dataset=faq"), by="id")) == 1
    assert len(acme.found("aiko", RUNS, *filters("!metrics.final_loss", "state=succeeded"), by="id")) == 1
    assert len(acme.found("aiko", RUNS, *filters("spec.rank=8", "adapter=bot", "base=tiny", "owner=aiko"), by="id")) == 3
    assert acme.found("aiko", EVALUATIONS, *filters("verdict=worse"), by="version") == ["risk/mail:v1"]
    assert acme.found("aiko", EVALUATIONS, *filters("metrics.improvement>0", "version=2", "dataset=faq"), by="version") == ["risk/bot:v2"]
    assert acme.found("aiko", "/projects/risk/datasets", ("q", "質問 FAQ")) == ["faq"]
    assert acme.found("aiko", "/projects/risk/datasets/faq/versions", *filters("rows>=900", "train_rows<900"), by="number") == [1]
    assert acme.found("aiko", "/jobs", *filters("error=out_of_memory", "kind=train"), by="subject") == ["adapter risk/bot"]
    assert acme.found("aiko", "/projects/risk/channels", *filters("serves=mail")) == ["production"]
    assert acme.found("aiko", "/bases", *filters("name~TIN")) == ["tiny"]
    assert acme.found("aiko", "/bases/tiny/revisions", *filters("number>1", "state=sealed"), by="number") == [2]
    moves = acme.found(
        "aiko", "/projects/risk/releases", *filters("channel=production", "adapter=bot", "created_at<=2025-10-10"), by="version"
    )
    assert moves == ["risk/bot:v2", "risk/bot:v1"]
    assert acme.found("idun", "/users", *filters("kind=human", "name~AIK")) == ["aiko"]
    assert acme.found("idun", "/memberships", *filters("role=auditor"), by="user") == ["otto"]
    assert acme.found("idun", "/tokens", *filters("user=vera"), by="name") == ["token of vera"]
    assert acme.found("aiko", "/projects", ("q", "管理")) == ["risk"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("応答", {"bot"}),
        ("客様", {"bot"}),
        ("応答 お客様", {"bot"}),
        ("応答　ＢＯＴ", {"bot"}),
        ("メール", {"mail"}),
        ("ﾒｰﾙ", {"mail"}),
        ("faq", {"empty"}),
        ("Faq検索", {"empty"}),
        ("%", {"mail"}),
        ("％＿", {"mail"}),
        ("_", {"mail"}),
        ("応答 メール", set()),
        ("   ", {"bot", "mail", "empty"}),
        ("'; DROP TABLE adapters; --", set()),
        ("\\", set()),
    ],
)
def test_a_search_finds_words_without_boundaries_in_any_width_and_case(filled: Filled, words: str, found: set[str]) -> None:
    assert set(filled.acme.found("aiko", ADAPTERS, ("q", words))) == found


def test_a_days_comparisons_take_the_whole_day_and_times_are_utc_unless_they_say_otherwise(filled: Filled) -> None:
    def found(*items: str) -> int:
        path = "/projects/risk/releases"
        return len(filled.acme.found("aiko", path, *filters("channel=production", "adapter=bot", *items), by="id"))

    assert [found(f"created_at{operator}2025-10-10") for operator in ("=", "!=", "<", "<=", ">", ">=")] == [1, 2, 1, 2, 1, 2]
    assert (
        found("created_at=2025-10-10T09:30")
        == found("created_at=2025-10-10T18:30:00+09:00")
        == found("created_at=2025-10-10T09:30:00.000Z")
        == 1
    )
    assert found("created_at>2025-10-10T09:30Z") == 1


@pytest.mark.parametrize(
    ("path", "sort", "by", "found"),
    [
        (ADAPTERS, "name", "name", ["bot", "empty", "mail"]),
        (ADAPTERS, "-name", "name", ["mail", "empty", "bot"]),
        (ADAPTERS, "-created_at", "name", ["empty", "mail", "bot"]),
        (ADAPTERS, "base,-name", "name", ["mail", "empty", "bot"]),
        (VERSIONS, "metrics.improvement", "reference", ["risk/mail:v1", "risk/bot:v1", "risk/bot:v2", "risk/bot:v3"]),
        (VERSIONS, "-metrics.improvement", "reference", ["risk/bot:v2", "risk/bot:v1", "risk/mail:v1", "risk/bot:v3"]),
        (VERSIONS, "adapter,-number", "reference", ["risk/bot:v3", "risk/bot:v2", "risk/bot:v1", "risk/mail:v1"]),
        (VERSIONS, "", "reference", ["risk/mail:v1", "risk/bot:v3", "risk/bot:v2", "risk/bot:v1"]),
    ],
)
def test_an_order_holds_over_pages_of_any_size_and_unknown_values_come_last(
    filled: Filled, path: str, sort: str, by: str, found: list[str]
) -> None:
    for limit in (1, 2, 200):
        seen: list[str] = []
        cursor: list[tuple[str, str]] = []
        while True:
            page = filled.acme.get("aiko", path, ("sort", sort), ("limit", str(limit)), *cursor).json()
            seen += [item[by] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = [("cursor", page["next_cursor"])]
        assert seen == found, limit


def test_a_count_is_of_all_pages_and_comes_only_when_it_is_asked_for(filled: Filled) -> None:
    page = filled.acme.get("aiko", ADAPTERS, ("count", "true"), ("limit", "1")).json()
    assert (len(page["items"]), page["total"], page["total_exact"]) == (1, 3, True)
    second = filled.acme.get("aiko", ADAPTERS, ("count", "true"), ("limit", "1"), ("cursor", page["next_cursor"])).json()
    assert second["total"] == 3
    assert filled.acme.get("aiko", ADAPTERS).json()["total"] is None
    counted = filled.acme.as_("aiko").adapters.all("risk", filter=["base=tiny"], sort="name", q="応答")
    assert counted.count() == (1, True)
    assert [one.name for one in counted] == ["bot"]
