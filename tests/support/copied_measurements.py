"""Measurements that a test wrote past the platform are taken away again: the log knows nothing of them, and the next export of it would say so."""

from collections.abc import Sequence
from uuid import UUID

import psycopg

from support.running_platform import Processes


def forget(processes: Processes, copies: Sequence[UUID]) -> None:
    """Delete them, whatever refers to them."""
    with psycopg.connect(processes.urls.superuser_url.replace("+psycopg", "")) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("DELETE FROM measurements WHERE id = ANY(%s)", [list(copies)])
