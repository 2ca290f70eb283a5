"""Every route that changes something, made to succeed once, in an order in which each finds what it needs.

Written by hand: a route without a step, and without a line in NO_STEP, fails the test. `Steps.do` sends a request and keeps its request id,
by which its events are found in the log afterwards.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session, sessionmaker

from ringi.events.models import Delivery, Event
from ringi.events.schemas import DeliveryState
from ringi.fleet.models import Worker
from ringi.identity.models import Project, User
from ringi.identity.schemas import Role
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.kit.digests import sha256_bytes
from ringi.storage.blobs import store_at
from support.own_api import store_url
from support.running_platform import PROJECT, SETUP_KEY
from support.story import ADAPTER, BASE, DATASET, PLAN, Ground, environment_name, signed
from support.waiting import until

IN_PROJECT = "/projects/{project}"
REASON = {"reason": "監査の試験のために変える"}
# Routes that have no step here, each with its reason.
NO_STEP = {
    "PUT /users/{user}/subject": "needs an identity provider; tests/identity/test_logins.py looks for its event",
    "POST /tokens": "needs a login at an identity provider; tests/identity/test_logins.py looks for its event",
    "DELETE /sessions/{session_id}": "needs a login at an identity provider; tests/identity/test_browser_sessions.py looks for its event",
    "POST /projects/{project}/adapters/{adapter}/runs/check": "looks at a run that is not started, and changes nothing",
    "PATCH /uploads/sessions/{session_id}": "a part of an upload that was opened under an event of its own; the whole leaves one when it is stored",
}
# Beside /api/v1, too.
BROWSERS = {"POST /auth/logout": "needs a login at an identity provider; tests/identity/test_browser_sessions.py looks for its event"}
# Beside /api/v1 there is the hub, which serves reads only.
HUB_CHANGES_NOTHING = {
    "POST /hf/{channel}/api/models/{namespace}/{name}/paths-info/{rest:path}": "a read that is asked with a form",
    **{f"{method} /hf/{{channel}}/{{anything:path}}": "no such route, whatever is sent" for method in ("POST", "PUT", "PATCH", "DELETE")},
}


@dataclass
class Step:
    """A change that was made: what the log must say of it, and the id of its request."""

    route: str
    action: str
    request_id: str


@dataclass
class Steps:
    """The changes made so far, on one organisation of a running platform."""

    ground: Ground
    done: list[Step] = field(default_factory=list)

    def do(
        self, by: str, route: str, action: str, /, *, json: Any = None, content: bytes | None = None, headers: Any = None, **values: Any
    ) -> Any:
        """Send it; `values` stand in the path. Returns the answer's document."""
        method, _, template = route.partition(" ")
        platform = self.ground.platform
        path = template.format(**{"project": PROJECT, "adapter": ADAPTER, **values})
        token = SETUP_KEY if by == "operator" else platform.tokens[by]
        sent = {"Authorization": f"Bearer {token}", **(headers or {})}
        answer = httpx.request(method, f"{platform.server}/api/v1{path}", json=json, content=content, headers=sent, timeout=60)
        assert answer.is_success, (route, answer.status_code, answer.text[:600])
        self.done.append(Step(route, action, answer.headers["X-Request-Id"]))
        return answer.json() if answer.headers["content-type"].startswith("application/json") else None

    def sent(self, content: bytes) -> str:
        """Upload bytes as the contributor."""
        answer = self.ground.platform.call("contributor", "POST", "/uploads", content=content)
        assert answer.is_success, answer.text
        return str(answer.json()["digest"])

    def cancelled(self, job_id: str) -> None:
        """Work that nobody needs."""
        self.ground.platform.call("contributor", "POST", f"/jobs/{job_id}/cancel")


def make_every_change(ground: Ground) -> Steps:
    """All of them, one after another."""
    steps = Steps(ground)
    people, parts = (_people, _uploads, _workers_and_jobs, _data, _versions, _gates), (_approvals, _releases, _watches, _subscriptions)
    for part in (*people, *parts):
        part(steps)
    return steps


def _people(steps: Steps) -> None:
    do, name = steps.do, f"u{uuid4().hex[:8]}"
    do(
        "operator",
        "POST /organizations",
        "organization.create",
        json={"name": f"org-{uuid4().hex[:8]}", "admin": "root", "display_name": "新会社"},
    )
    do("admin", "POST /projects", "project.create", json={"name": f"p{uuid4().hex[:8]}", "display_name": "新規"})
    do("admin", "POST /users", "user.create", json={"name": name, "display_name": "新人 さん"})
    held = do("admin", "POST /memberships", "membership.grant", json={"user": name, "role": "viewer", "project": PROJECT})
    issued = do("admin", "POST /users/{user}/tokens", "token.issue", json={"name": "監査"}, user=name)["details"]
    do("admin", "PUT /tokens/{token_id}/limits", "token.limit", json={"requests_per_minute": 9}, token_id=issued["id"])
    do("admin", "DELETE /tokens/{token_id}", "token.revoke", token_id=issued["id"])
    do("admin", "POST /users/{user}/disable", "user.disable", user=name)
    do("admin", "POST /users/{user}/enable", "user.enable", user=name)
    do("admin", "DELETE /memberships/{membership_id}", "membership.revoke", membership_id=held["id"])
    do("admin", "POST /users/{user}/erase", "payload.erased", user=name, json=REASON)
    do("admin", f"PUT {IN_PROJECT}/quotas", "quota.set", json={"open_jobs": 500})


def _uploads(steps: Steps) -> None:
    do, content = steps.do, uuid4().bytes
    do("contributor", "POST /uploads", "upload.store", content=uuid4().bytes)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    opened = do("contributor", "POST /uploads/sessions", "upload.open", json={"size": len(content), "digest": digest})
    place: dict[str, Any] = {"session_id": opened["id"]}
    answer = steps.ground.platform.call(
        "contributor", "PATCH", f"/uploads/sessions/{opened['id']}", content=content, headers={"Upload-Offset": "0"}
    )
    assert answer.is_success, answer.text
    do("contributor", "POST /uploads/sessions/{session_id}/finish", "upload.store", **place)
    other = do("contributor", "POST /uploads/sessions", "upload.open", json={"size": 3, "digest": sha256_bytes(uuid4().bytes)})
    do("contributor", "DELETE /uploads/sessions/{session_id}", "upload.end", session_id=other["id"])
    do("admin", "POST /storage/collections", "storage.collect", json={"dry_run": False})


def _rows(steps: Steps, make: Callable[[Session, Project, User], list[Any]]) -> list[Any]:
    """Rows that only the platform's own processes make."""
    platform = steps.ground.platform
    engine = create_engine(platform.processes.urls.app_url)
    with sessionmaker(engine, expire_on_commit=False).begin() as session:
        member = session.scalars(select(User).where(User.id == platform.as_("contributor").identity.whoami().id)).one()
        project = session.scalars(select(Project).where(Project.organization_id == member.organization_id, Project.name == PROJECT)).one()
        made = make(session, project, member)
        session.add_all(made)
    engine.dispose()
    return made


def _workers_and_jobs(steps: Steps) -> None:
    def made(_: Session, project: Project, member: User) -> list[Any]:
        worker = Worker(
            name=f"worker-{uuid4().hex[:8]}", owner="test/1", organization_id=project.organization_id, queues=["none"], device="cpu",
            device_name="cpu", engines=[], versions={}, heartbeat_s=5.0,
        )  # fmt: skip
        # No message tells a worker of it.
        job = Job(
            organization_id=project.organization_id, project_id=project.id, kind=JobKind.TRAIN, queue="gpu", subject="応答", state=JobState.QUEUED,
            payload={}, created_by=member.id,
        )  # fmt: skip
        return [worker, job]

    worker, job = _rows(steps, made)
    for verb in ("cordon", "uncordon", "drain"):
        steps.do("admin", f"POST /workers/{{name}}/{verb}", f"worker.{verb}", json=REASON, name=worker.name)
    steps.do("admin", "POST /jobs/{job_id}/priority", "job.prioritize", json={"priority": 1}, job_id=job.id)
    steps.do("contributor", "POST /jobs/{job_id}/cancel", "job.cancel", job_id=job.id)


def _data(steps: Steps) -> None:
    do, name = steps.do, f"n{uuid4().hex[:8]}"
    do("contributor", f"POST {IN_PROJECT}/datasets", "dataset.create", json={"name": name, "description": "よくある質問"})
    added = {"source": steps.sent(b'{"prompt": "a", "response": "b"}\n' * 3)}
    steps.cancelled(
        do("contributor", f"POST {IN_PROJECT}/datasets/{{dataset}}/versions", "dataset.version.add", json=added, dataset=name)["job_id"]
    )
    do("contributor", f"POST {IN_PROJECT}/datasets/trace", "dataset.trace", json={"text": "山田太郎", "dataset": name})
    if "policy" not in steps.ground.platform.tokens:
        steps.ground.platform.add_user("policy", Role.POLICY_ADMIN, project=None)
    do("policy", f"PUT {IN_PROJECT}/dataset-policy", "dataset.policy.set", json={"personal_data": "report"})
    off = {"enabled": False, "environment": "staging"}
    do("policy", f"PUT {IN_PROJECT}/retraining-policy", "retraining.policy.set", json=off)
    do("admin", "POST /bases", "base_model.create", json={"name": name})
    for path in sorted(steps.ground.base.iterdir()):
        answer = steps.ground.platform.call("admin", "POST", "/uploads", content=path.read_bytes())
        assert answer.is_success
    files = [{"path": path.name, "digest": sha256_bytes(path.read_bytes())} for path in sorted(steps.ground.base.iterdir())]
    revision = do("admin", "POST /bases/{base}/revisions", "base_model.revision.register", json={"files": files}, base=name)
    steps.cancelled(revision["job_id"])


def _runs(steps: Steps, adapter: str) -> None:
    do, platform, runs = steps.do, steps.ground.platform, f"POST {IN_PROJECT}/adapters/{{adapter}}/runs"
    endless = PLAN.model_copy(update={"max_steps": 100_000, "epochs": 1000})
    run = do("contributor", runs, "training.run.start", json={"dataset": DATASET, "plan": endless.model_dump(mode="json")}, adapter=adapter)
    place: dict[str, Any] = {"adapter": adapter, "run_id": run["id"]}
    jobs = platform.as_("contributor").jobs
    # A snapshot is of a run that has begun.
    until(lambda: (job := jobs.get(UUID(run["job_id"]))).progress and job.progress.step, timeout_s=60)
    do("contributor", f"{runs}/{{run_id}}/pause", "training.run.pause", **place)
    until(lambda: jobs.get(UUID(run["job_id"])).state is JobState.PAUSED, timeout_s=60)
    for verb, body in (("branch", {"max_steps": 100_001}), ("again", None)):
        job = do("contributor", f"{runs}/{{run_id}}/{verb}", "training.run.start", json=body, **place)["job_id"]
        steps.cancelled(job)
        platform.ended(UUID(job))
    do("contributor", f"{runs}/{{run_id}}/continue", "training.run.continue", **place)
    steps.cancelled(run["job_id"])


def _versions(steps: Steps) -> None:
    do, name, platform = steps.do, f"a{uuid4().hex[:8]}", steps.ground.platform
    do("contributor", f"POST {IN_PROJECT}/adapters", "adapter.create", json={"name": name, "base": BASE})
    store = store_at(store_url(platform))
    files = platform.as_("contributor").adapters.version(PROJECT, ADAPTER, "v1").files
    sent = [{"path": file.path, "digest": steps.sent(b"".join(store.open(file.digest)))} for file in files]
    registered = do(
        "contributor", f"POST {IN_PROJECT}/adapters/{{adapter}}/versions", "adapter.version.register", json={"files": sent}, adapter=name
    )
    _runs(steps, name)
    search = {"adapter": name, "dataset": DATASET, "ranks": [2, 4], "learning_rates": [0.01], "placement": {"memory_bytes": 2**50}}
    steps.cancelled(do("contributor", f"POST {IN_PROJECT}/searches", "training.search.request", json=search)["job_id"])
    platform.succeeded(registered["job_id"])
    version = f"{IN_PROJECT}/adapters/{{adapter}}/versions/{{selector}}"
    place: dict[str, Any] = {"adapter": name, "selector": "v1"}
    origin = {"system": "mlflow", "source": "mlflow.example.jp", "name": "応答", "version": "3"}
    do("contributor", f"POST {version}/origins", "adapter.version.origin", json=origin, **place)
    asked = do("contributor", f"POST {version}/evaluations", "evaluation.request", json={"dataset": DATASET}, **place)
    steps.cancelled(asked["job_id"])
    # One after another: a revoked version goes nowhere.
    for user, verb in (("contributor", "deprecate"), ("contributor", "retire"), ("incident_commander", "revoke")):
        do(user, f"POST {version}/{verb}", f"adapter.version.{verb}", json=REASON, **place)
    adapter = platform.as_("contributor").adapters.get(PROJECT, name)
    tag: dict[str, Any] = {"kind": "adapter", "object_id": adapter.id, "key": "team"}
    do("contributor", "PUT /tags/{kind}/{object_id}/{key}", "tag.set", json={"value": "金融"}, **tag)
    do("contributor", "DELETE /tags/{kind}/{object_id}/{key}", "tag.remove", **tag)


def _gates(steps: Steps) -> None:
    do, name = steps.do, f"s{uuid4().hex[:8]}"
    do("contributor", f"POST {IN_PROJECT}/suites", "suite.create", json={"name": name, "description": "問い合わせの品質"})
    do("contributor", f"POST {IN_PROJECT}/suites", "suite.create", json={"name": f"{name}c"})
    items = [{"id": f"q{number}", "prompt": f"{number}番の棚", "references": ["はい"]} for number in range(4)]
    task = {"name": "faq", "answering": "exact", "scorers": ["exact"], "items": items}
    wanted = {"task": "faq", "metric": "exact", "tier": "supporting"}
    body = {"tasks": [task], "requirements": [wanted]}
    do("contributor", f"POST {IN_PROJECT}/suites/{{suite}}/versions", "suite.version.seal", json=body, suite=name)
    planted = {"dataset": DATASET, "rows": 2, "shortest": 8}
    do("contributor", f"POST {IN_PROJECT}/suites/{{suite}}/canaries", "suite.version.seal", json=planted, suite=f"{name}c")
    # More memory than any worker has: it waits for as long as it is left alone.
    asked = {"suite": name, "versions": [f"{ADAPTER}:v1"], "placement": {"memory_bytes": 2**50}}
    swept = do("contributor", f"POST {IN_PROJECT}/sweeps", "evaluation.sweep.request", json=asked)
    place = {"job_id": swept["job_id"], "measurement_id": swept["measurements"][0]["id"]}
    do("contributor", f"POST {IN_PROJECT}/sweeps/{{job_id}}/children/{{measurement_id}}/cancel", "evaluation.measurement.cancel", **place)
    steps.cancelled(swept["job_id"])
    swept = do("contributor", f"POST {IN_PROJECT}/sweeps", "evaluation.sweep.request", json=asked)
    do("contributor", f"POST {IN_PROJECT}/sweeps/{{job_id}}/cancel", "job.cancel", job_id=swept["job_id"])
    sides = []
    for version in (f"{ADAPTER}:v1", None):
        lines = [
            {"task": "faq", "item": one["id"], "asked": sha256_bytes(str(one["id"]).encode()), "scores": {"exact": 1.0}} for one in items
        ]
        records = steps.sent("".join(f"{json.dumps(line)}\n" for line in lines).encode() + (b"\n" if version else b""))
        sent = {"suite": name, "base_revision": BASE, "version": version, "records": records, "source": "lm-evaluation-harness"}
        made = do("contributor", f"POST {IN_PROJECT}/measurements/imports", "evaluation.measurement.import", json=sent)
        sides.append(made["id"])
    judged = {"candidate": sides[0], "baseline": sides[1], "suite": name}
    do("contributor", f"POST {IN_PROJECT}/gates", "evaluation.gate.decide", json=judged)
    many = {"candidates": [sides[0]], "baseline": sides[1], "suite": name}
    do("contributor", f"POST {IN_PROJECT}/gates/together", "evaluation.gate.decide", json=many)


def _approvals(steps: Steps) -> None:
    do, platform = steps.do, steps.ground.platform
    asking = f"POST {IN_PROJECT}/adapters/{{adapter}}/versions/{{selector}}/approvals"
    one = do("contributor", asking, "approval.request", json={"environment": environment_name(), "note": "稟議"}, selector="v1")
    subject = {name: one[name] for name in ("manifest_digest", "policy_digest", "evidence_digest")}
    ballot = {"decision": "reject", "reason": "品質がまだ足りないため却下する", **subject}
    do("reviewer", f"POST {IN_PROJECT}/approvals/{{request_id}}/votes", "approval.vote", json=ballot, request_id=one["id"])
    other = do("contributor", asking, "approval.request", json={"environment": environment_name()}, selector="v1")
    do("contributor", f"POST {IN_PROJECT}/approvals/{{request_id}}/withdraw", "approval.withdraw", json=REASON, request_id=other["id"])
    if "policy" not in platform.tokens:
        platform.add_user("policy", Role.POLICY_ADMIN, project=None)
    document = platform.call("viewer", "GET", f"/projects/{PROJECT}/policies/production").json()["document"]
    do("policy", f"POST {IN_PROJECT}/policies", "policy.create", json={"environment": environment_name(), "document": document})


def _releases(steps: Steps) -> None:
    do, platform, environment = steps.do, steps.ground.platform, environment_name()
    do("deployer", f"POST {IN_PROJECT}/channels", "channel.create", json={"name": environment, "environment": environment})
    place = f"{IN_PROJECT}/channels/{{channel}}/adapters/{{adapter}}"
    for version in ("v1", "v2"):
        request = platform.as_("contributor").approvals.request(PROJECT, ADAPTER, version, environment=environment)
        ballot = {
            "decision": "approve", "reason": "品質が十分に改善したため承認する", "manifest_digest": request.manifest_digest,
            "policy_digest": request.policy_digest, "evidence_digest": request.evidence_digest,
        }  # fmt: skip
        do("reviewer", f"POST {IN_PROJECT}/approvals/{{request_id}}/votes", "approval.grant", json=ballot, request_id=request.id)
        signed(platform, version, channel=environment)
        do("deployer", f"POST {place}/releases", "release.publish", json={"version": version, **REASON}, channel=environment)
    do("deployer", f"POST {place}/rollback", "release.roll_back", json=REASON, channel=environment)
    do("auditor", "POST /audit/export", "audit.export")


def _watches(steps: Steps) -> None:
    do, name, channel = steps.do, f"w{uuid4().hex[:8]}", environment_name()
    do("deployer", f"POST {IN_PROJECT}/channels", "channel.create", json={"name": channel, "environment": channel})
    suite = steps.ground.platform.call("viewer", "GET", f"/projects/{PROJECT}/suites?limit=1").json()["items"][0]["name"]
    one = f"{IN_PROJECT}/watches/{{watch}}"
    place: dict[str, Any] = {"watch": name}
    body = {"name": name, "channels": [channel], "suite": suite, "schedule": "0 3 1 1 *", "timezone": "Asia/Tokyo", "description": "年次"}
    do("contributor", f"POST {IN_PROJECT}/watches", "evaluation.watch.create", json=body)
    do("contributor", f"PATCH {one}", "evaluation.watch.change", json={"paused": True}, **place)
    do("contributor", f"POST {one}/look", "evaluation.watch.look", **place)
    do("contributor", f"DELETE {one}", "evaluation.watch.delete", **place)


def _subscriptions(steps: Steps) -> None:
    do, name = steps.do, f"s{uuid4().hex[:8]}"
    one = f"{IN_PROJECT}/subscriptions/{{subscription}}"
    place: dict[str, Any] = {"subscription": name}
    body = {"name": name, "url": "https://93.184.215.14/ringi", "event_types": ["approval.granted"], "description": "通知先"}
    made = do("deployer", f"POST {IN_PROJECT}/subscriptions", "subscription.create", json=body)["subscription"]

    def delivered(session: Session, project: Project, _: User) -> list[Any]:
        event = Event(organization_id=project.organization_id, project_id=project.id, type="adapter.created", data={"adapter": "応答"})
        session.add(event)
        session.flush()
        return [
            Delivery(
                project_id=project.id, subscription_id=made["id"], event_id=event.id, state=DeliveryState.FAILED, ended_at=datetime.now(UTC)
            )
        ]

    (delivery,) = _rows(steps, delivered)
    do("deployer", f"PATCH {one}", "subscription.change", json={"description": "変更"}, **place)
    do("deployer", f"POST {one}/secret", "subscription.secret.rotate", json={}, **place)
    do("deployer", f"POST {one}/test", "subscription.test", **place)
    do("deployer", f"POST {one}/replay", "subscription.replay", json={"since": "2020-01-01T00:00:00Z"}, **place)
    do("deployer", f"POST {IN_PROJECT}/deliveries/{{delivery_id}}/replay", "subscription.replay", delivery_id=delivery.id)
    do("deployer", f"POST {one}/disable", "subscription.disable", **place)
    do("deployer", f"POST {one}/enable", "subscription.enable", **place)
    do("deployer", f"DELETE {one}", "subscription.delete", **place)
