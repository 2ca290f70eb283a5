"""A list as the client gives it: its items page by page, and how many there are."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import BaseModel

from ringi.cli.errors import AnswerNotUnderstood

if TYPE_CHECKING:
    from ringi.cli.connection import Connection

Model = TypeVar("Model", bound=BaseModel)
PAGE_SIZE = 100


class Count(NamedTuple):
    """How many items a list has on all pages; there are more when it is not `exact`."""

    total: int
    exact: bool


class Listed(Iterator[Model]):
    """A list's items, page by page as they are needed; `count()` asks how many there are in all."""

    def __init__(self, http: "Connection", path: str, model: type[Model], query: dict[str, Any]) -> None:
        self._http, self._path, self._model, self._query = http, path, model, query
        self._items = self._walk()

    def __next__(self) -> Model:
        return next(self._items)

    def count(self) -> Count:
        """One request more; it takes nothing from the items."""
        page = self._http.page(self._path, self._model, **self._query, limit=1, count=True)
        if page.total is None:
            raise AnswerNotUnderstood(self._http.server, self._path, "it was asked to count and did not")
        return Count(page.total, exact=page.total_exact is not False)

    def _walk(self) -> Iterator[Model]:
        cursor: str | None = None
        while True:
            page = self._http.page(self._path, self._model, **self._query, limit=PAGE_SIZE, cursor=cursor)
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return
