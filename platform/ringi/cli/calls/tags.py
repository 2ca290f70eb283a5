"""Calls about tags. A thing is named by its kind and its id."""

from uuid import UUID

from ringi.cli.connection import Connection, route
from ringi.tags.schemas import SetTag, Taggable, TagOut, TagsOut


class TagCalls:
    """`client.tags`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def of(self, kind: Taggable, object_id: UUID) -> TagsOut:
        """All tags of a thing, by key."""
        return self._http.get(route("tags", kind.value, str(object_id)), TagsOut)

    def set(self, kind: Taggable, object_id: UUID, key: str, value: str = "", *, if_match: str | None = None) -> TagOut:
        """Give a key a value."""
        return self._http.put(route("tags", kind.value, str(object_id), key), TagOut, SetTag(value=value), if_match=if_match)

    def remove(self, kind: Taggable, object_id: UUID, key: str, *, if_match: str | None = None) -> TagOut:
        """Take a tag away."""
        return self._http.delete(route("tags", kind.value, str(object_id), key), TagOut, if_match=if_match)
