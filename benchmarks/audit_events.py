"""Events as the platform writes them, and how the benchmarks of the log say what took how long."""

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import rfc8785

ORIGIN = "bench.example/audit/1"


def events(count: int) -> Iterator[bytes]:
    """Events of the size that the platform writes."""
    organization, actor, start = str(uuid4()), str(uuid4()), datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(count):
        time_ = (start + timedelta(milliseconds=number)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        yield rfc8785.dumps({
            "v": 1, "origin": ORIGIN, "id": f"{number:032x}", "ts": time_, "actor": {"type": "user", "id": actor, "on_behalf_of": None, "auth": None},
            "action": "approval.vote", "outcome": "ok", "object": {"type": "approval_vote", "id": f"{number:x}", "digest": None},
            "organization": organization, "project": None, "before": None, "after": None, "policy": None, "request_id": f"r-{number}",
            "details": None, "payload_commit": None,
        })  # fmt: skip


def now() -> tuple[float, float]:
    """The clock, and the processor time of this process and of those that it has waited for."""
    return time.perf_counter(), sum(os.times()[:4])


def said(what: str, began: tuple[float, float], count: int) -> float:
    """One line of the result, and its seconds; on a machine that others use, the processor time is what can be compared."""
    wall, cpu = (after - before for after, before in zip(now(), began, strict=True))
    print(f"{what:58} {wall:8.2f} s {count / wall:11,.0f} per s | CPU {cpu:8.2f} s {count / max(cpu, 0.01):11,.0f} per s", flush=True)
    return wall
