"""What clients, probes and workers meet while the platform is read-only."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest

from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction, Outcome
from ringi.identity.schemas import Role
from ringi.jobs import service as jobs
from ringi.kit.actor import system_actor
from support.hub_client import free_port
from support.postgres import DatabaseUrls, application
from support.refusals import refused
from support.running_platform import PROJECT, Platform, Processes, environment_of, new_organization, start_api
from support.tiny_model import make_tiny_rows

METRICS = "token-of-the-scraper"


@pytest.fixture
def alone(database: DatabaseUrls, broker: str, tmp_path: Path) -> Iterator[Platform]:
    """An API over a database that no other test looks at; nothing else runs."""
    (tmp_path / "data").mkdir()
    environment = environment_of(tmp_path, database, broker, free_port()) | {"RINGI_METRICS_TOKEN": METRICS}
    processes = Processes(tmp_path, database, broker, environment)
    try:
        start_api(processes)
        with new_organization(processes) as platform:
            yield platform
    finally:
        processes.stop()


def owner(platform: Platform, statement: str) -> None:
    with psycopg.connect(platform.processes.urls.owner_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(statement.encode())


STOP = "INSERT INTO audit_stop (origin, code, message) VALUES ('ringi.local/audit/1', 'log_shortened', '項目が欠けている')"
END = "UPDATE audit_stop SET ended_at = now(), ended_reason = 'test'"


def standing(platform: Platform) -> tuple[str, dict[str, object]]:
    answer = httpx.get(f"{platform.server}/readyz", timeout=30)
    assert answer.status_code == 200
    document = answer.json()
    return document["status"], document["dependencies"]["audit_log"]


def scraped(platform: Platform) -> str:
    answer = httpx.get(f"{platform.server}/metrics", headers={"Authorization": f"Bearer {METRICS}"}, timeout=30)
    return next(line for line in answer.text.splitlines() if line.startswith("ringi_audit_read_only ")).split()[1]


def claimed(platform: Platform, job: UUID) -> bool:
    with application(platform.processes.urls) as sessions, sessions.begin() as session:
        found = jobs.claim(session, job, owner="worker-of-the-test", lease_s=5) is not None
        session.rollback()
        return found


def noted(platform: Platform, outcome: Outcome, action: AuditAction = AuditAction.APPROVAL_VOTE) -> UUID:
    with application(platform.processes.urls) as sessions, sessions.begin() as session:
        return audit.record(
            session, system_actor("test"), action, object_type="approval_request", object_id=uuid4(), outcome=outcome
        )  # fmt: skip


def test_changes_are_refused_with_a_code_while_reading_and_stopping_go_on(alone: Platform, tmp_path: Path) -> None:
    alone.add_user("kenji", Role.VIEWER)
    admin, contributor, auditor = alone.as_("admin"), alone.as_("contributor"), alone.as_("auditor")
    contributor.datasets.create(PROJECT, "faq", description="よくある質問")
    job = contributor.datasets.add_version(PROJECT, "faq", make_tiny_rows(tmp_path / "rows.jsonl", 20)).job_id
    assert job is not None
    assert claimed(alone, job)
    assert (standing(alone)[1]["state"], scraped(alone)) == ("ok", "0.0")
    owner(alone, STOP)
    answer = alone.call("admin", "POST", "/projects", json={"name": "more"})
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    problem = answer.json()
    assert (problem["code"], problem["details"]) == ("audit_read_only", {"why": "log_shortened"})
    assert "docs/audit.md" in problem["next_step"]
    with refused("audit_read_only", 503):
        contributor.datasets.create(PROJECT, "more", description="別の質問")
    with refused("audit_read_only", 503):
        admin.identity.grant_role("kenji", Role.REVIEWER, project=PROJECT)
    # Reading, and the denials and refused logins that it leaves.
    assert [one.name for one in contributor.datasets.all(PROJECT)] == ["faq"]
    assert [one.name for one in admin.identity.projects()] == [PROJECT]
    with refused("forbidden", 403):
        alone.as_("kenji").datasets.create(PROJECT, "third")
    assert next(iter(auditor.audit.events(action="access.deny"))).outcome == "denied"
    assert httpx.get(f"{alone.server}/api/v1/projects", headers={"Authorization": "Bearer hf_rgi0"}).status_code == 401
    # A job waits: its result could not be kept.
    assert not claimed(alone, job)
    assert standing(alone) == ("degraded", {"state": "unavailable", "needed": False, "detail": "read-only: log_shortened"})
    assert scraped(alone) == "1.0"
    # So is a refused vote, which changes nothing; a counted one would.
    assert noted(alone, Outcome.DENIED)
    with refused("audit_read_only", 503):
        noted(alone, Outcome.OK)
    # Whoever looks, or stops something, comes in with a browser, too.
    assert noted(alone, Outcome.OK, AuditAction.SESSION_BEGIN)
    assert noted(alone, Outcome.OK, AuditAction.SESSION_END)
    # Stopping somebody works.
    admin.identity.disable_user("kenji")
    assert alone.call("kenji", "GET", "/projects").status_code == 401
    owner(alone, END)
    assert claimed(alone, job)
    contributor.datasets.create(PROJECT, "more", description="別の質問")
    assert (standing(alone)[1]["state"], scraped(alone)) == ("ok", "0.0")


def test_nobodys_bytes_are_collected_while_the_platform_is_read_only(alone: Platform) -> None:
    owner(alone, STOP)
    with refused("audit_read_only", 503):
        alone.as_("admin").storage.collect(dry_run=False)
    assert alone.as_("admin").storage.collect(dry_run=True).dry_run
