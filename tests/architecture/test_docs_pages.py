"""The pages of the API's document work in a network that reaches nothing outside it."""

import re

import pytest
from fastapi.testclient import TestClient

from ringi.api.app import create_app

FETCHED = re.compile(r'(?:src|href)="([^"]+)"')


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
def test_a_page_of_the_document_fetches_everything_from_its_own_server(page: str) -> None:
    with TestClient(create_app()) as http:
        shown = http.get(page)
        fetched = FETCHED.findall(shown.text)
        assert fetched
        assert "://" not in shown.text
        assert all(http.get(path).status_code == 200 for path in fetched)
