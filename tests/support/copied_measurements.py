"""Measurements that a test writes past the platform, and takes away again: the log knows nothing of them, and the next export of it would say so."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import create_engine, text

from ringi.kit.ids import uuid7
from support.running_platform import Processes


def copied(
    processes: Processes,
    like: UUID,
    *,
    problems: Mapping[str, int] | None = None,
    of_metric: Mapping[str, int] | None = None,
    **columns: Any,
) -> UUID:
    """A newer measurement like another one, but for these columns, and for what its task `faq` and the metric `exact` of it lack by code.

    What was measured is not changed any more, so it is a row of its own.
    """
    newest, engine = uuid7(), create_engine(processes.urls.app_url)
    values = {name: f"CAST(:{name} AS jsonb)" if isinstance(value, dict) else f":{name}" for name, value in columns.items()}
    given = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in columns.items()}
    if problems is not None:
        whole = "jsonb_set(summary, '{faq,problems}', CAST(:problems AS jsonb))"
        values["summary"] = f"jsonb_set({whole}, '{{faq,metrics,exact,problems}}', CAST(:of_metric AS jsonb))"
        given |= {"problems": json.dumps(problems), "of_metric": json.dumps(of_metric or {})}
    with engine.begin() as connection:
        every = text("SELECT column_name FROM information_schema.columns WHERE table_name = 'measurements'")
        names = [row.column_name for row in connection.execute(every) if row.column_name != "id"]
        written = ", ".join(values.get(name, name) for name in names)
        insert = f"INSERT INTO measurements (id, {', '.join(names)}) SELECT :id, {written} FROM measurements WHERE id = :like"
        connection.execute(text(insert), {"id": newest, "like": like} | given)
    engine.dispose()
    return newest


def forget(processes: Processes, copies: Sequence[UUID]) -> None:
    """Delete them, whatever refers to them."""
    with psycopg.connect(processes.urls.superuser_url.replace("+psycopg", "")) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("DELETE FROM measurements WHERE id = ANY(%s)", [list(copies)])
