"""The difference between what the log says and what the tables say, row by row. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ringi.monitor.replay import Key, Replay, Row, Said
from ringi.monitor.tables import LiveRow


@dataclass(frozen=True)
class Finding:
    """One difference, or a fault of the log itself. `kind` and `id` name the row, `field` what of it; `log` and `table` are what each says.

    `origin`, `index` and `event_id` are those of the entry that the log's word comes from, and of its log. `code` is stable: `row_differs`, `row_missing` (the log has
    it, the table not), `row_without_entry` (the table has it, the log not), `log_behind`, and the faults of the log (`log.py`, `chain.py`).
    """

    code: str
    message: str
    kind: str | None = None
    id: str | None = None
    field: str | None = None
    log: Any = None
    table: Any = None
    organization: str | None = None
    index: int | None = None
    event_id: str | None = None
    origin: str | None = None


def differences(replay: Replay, live: Mapping[Key, LiveRow], *, organization: str | None = None) -> Iterator[Finding]:
    """Every difference, in the order of the rows' kinds and ids; of one organisation alone where it is named."""
    for key in sorted(replay.rows.keys() | live.keys()):
        said, row = replay.rows.get(key), live.get(key)
        of = (said.organization if said else None) or (row.organization if row else None)
        if organization is None or of == organization:
            yield from _of_row(key, said, row, of)


def _of_row(key: Key, said: Row | None, live: LiveRow | None, organization: str | None) -> Iterator[Finding]:
    kind, name = key
    if said is None or said.last is None:
        yield Finding(
            "row_without_entry", f"{kind} {name} is in the table, and no entry of the log says so.", kind, name, organization=organization
        )
        return
    if live is None:
        last = said.last
        message = f"{kind} {name} is not in the table; {last} says that it is."
        place = last.place
        yield Finding(
            "row_missing", message, kind, name, organization=organization, index=place.leaf, event_id=last.event_id, origin=place.origin
        )
        return
    differing = [
        _differs(key, field, found, live.fields[field], organization)
        for field, found in sorted(said.fields.items())
        if field in live.fields and found.value != live.fields[field]
    ]
    # Where a field tells it already, the digest of the whole says nothing more.
    if not differing and said.record is not None and live.record is not None and said.record.value != live.record:
        differing = [_differs(key, "record", said.record, live.record, organization)]
    yield from differing


def _differs(key: Key, field: str, found: Said, value: Any, organization: str | None) -> Finding:
    kind, name = key
    message = f"{kind} {name}: {field} is {value!r} in the table; {found} says {found.value!r}."
    place = found.place
    return Finding("row_differs", message, kind, name, field, found.value, value, organization, place.leaf, found.event_id, place.origin)
