"""A walk over a list that grows and changes meanwhile shows every row that was there all the time, once."""

from collections.abc import Callable

import pytest
from sqlalchemy.orm import Session

from lists.world import Tenant
from ringi.adapters.models import Adapter


def walked(tenant: Tenant, sort: str, between: Callable[[int], None]) -> list[str]:
    """Names in pages of three; `between` runs after every page."""
    seen: list[str] = []
    cursor: list[tuple[str, str]] = []
    page_number = 0
    while True:
        page = tenant.get("aiko", "/projects/risk/adapters", ("limit", "3"), ("sort", sort), *cursor).json()
        seen += [item["name"] for item in page["items"]]
        if page["next_cursor"] is None:
            return seen
        cursor = [("cursor", page["next_cursor"])]
        between(page_number)
        page_number += 1


@pytest.mark.parametrize("sort", ["", "name", "-name", "created_at", "-created_at", "base,name", "tags.team,-name"])
def test_rows_that_are_added_between_two_pages_move_nothing(fresh: Tenant, sort: str) -> None:
    def add(session: Session, name: str) -> Adapter:
        return fresh.adapter(session, name, base)

    with fresh.sessions.begin() as session:
        base = fresh.base(session, "tiny")
        names = [add(session, f"m-{number:02}").name for number in range(10)]
    before = fresh.found("aiko", "/projects/risk/adapters", ("sort", sort), ("limit", "200"))
    assert sorted(before) == names

    def grow(page: int) -> None:
        with fresh.sessions.begin() as session:
            for letter in "az":
                add(session, f"{letter}-{page}")

    seen = walked(fresh, sort, grow)
    assert len(seen) == len(set(seen))
    assert [name for name in seen if name in names] == before


def test_rows_with_equal_values_are_kept_apart_by_their_ids(fresh: Tenant) -> None:
    with fresh.sessions.begin() as session:
        base = fresh.base(session, "tiny")
        for number in range(7):
            fresh.adapter(session, f"a{number}", base)
    newest_first = fresh.found("aiko", "/projects/risk/adapters", ("limit", "200"))
    assert len(newest_first) == 7
    assert walked(fresh, "owner", lambda _page: None) == newest_first
    assert walked(fresh, "-base,-owner", lambda _page: None) == newest_first
