"""What the table's requests name, and everyone who sends them: an organisation with one of everything, and another one beside it."""

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from uuid import UUID, uuid4

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from identity.matrix.asks import Row
from identity.matrix.table import CALLERS
from lists.world import Tenant, digest, tenant
from ringi.adapters.models import AdapterVersion
from ringi.approvals.models import ApprovalGrant, ApprovalRequest
from ringi.audit import service as audit
from ringi.audit.schemas import AuditAction
from ringi.events.models import Delivery, Event, Subscription
from ringi.events.schemas import Channel, DeliveryState
from ringi.fleet.models import Worker
from ringi.identity import service as identity
from ringi.identity import tokens
from ringi.identity.models import Membership, Organization, Project, Token, User
from ringi.identity.schemas import Role, UserKind
from ringi.jobs.contracts.kinds import JobKind
from ringi.kit.actor import Actor, ActorKind
from ringi.origins.models import VersionOrigin
from ringi.storage.models import Blob
from ringi.uploads.models import Upload, UploadSession
from ringi.uploads.schemas import UploadState
from ringi.watches.schemas import LookState
from support.running_platform import SETUP_KEY

PROJECT_ROLES = (
    Role.VIEWER, Role.CONTRIBUTOR, Role.EVALUATOR, Role.REVIEWER, Role.VALIDATOR, Role.RISK_OWNER, Role.SERVICE_OWNER, Role.DEPLOYER,
    Role.INCIDENT_COMMANDER,
)  # fmt: skip
ORGANIZATION_ROLES = (Role.POLICY_ADMIN, Role.IDENTITY_ADMIN, Role.SYSTEM_ADMIN, Role.AUDITOR)
README = b"# bot\n"
# Of the revisions that lists/world.py makes.
PARTS = {"F1": "f1", "F2": "f2"}


@dataclass
class World:
    """`values` are what stands in the paths; `own` are those that each caller has one of."""

    secrets: dict[str, str | None] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    own: dict[str, dict[str, str]] = field(default_factory=dict)

    def path(self, row: Row, caller: str) -> str:
        """The row's path with this caller's ids, as it is sent."""
        known = self.values | self.own.get(caller, {})

        def value(placeholder: re.Match[str]) -> str:
            wanted = row.ask.values.get(placeholder[1], placeholder[1])
            return known.get(wanted, wanted)

        return re.sub(r"\{([^}]+)\}", value, row.path) + row.ask.below

    def ids(self) -> set[str]:
        """Every id that stands in the world."""
        everything = chain(self.values.values(), *(one.values() for one in self.own.values()))
        return {value for value in everything if len(value) == len(str(UUID(int=0))) and value.count("-") == 4}


@dataclass
class _Maker:
    session: Session
    world: World
    tenant: Tenant

    def person(
        self, caller: str, roles: tuple[Role, ...], project: UUID | None, *, scopes: list[str] | None = None, ended: bool = False
    ) -> User:
        """A user of the organisation with these roles, in the project as far as they are a project's, and a token."""
        return self._person(caller, self.tenant.admin, roles, project, scopes=scopes, ended=ended)

    def _person(
        self,
        caller: str,
        admin: Actor,
        roles: tuple[Role, ...],
        project: UUID | None,
        *,
        scopes: list[str] | None = None,
        ended: bool = False,
    ) -> User:
        kind = UserKind.SERVICE if scopes else UserKind.HUMAN
        user = identity.create_user(self.session, admin, name=caller, display_name="", kind=kind)
        for role in roles:
            # As rows: some callers hold what nobody may hold together, and one what is over.
            self.session.add(
                Membership(
                    organization_id=admin.organization_id, user_id=user.id, project_id=None if role in ORGANIZATION_ROLES else project,
                    role=role, granted_by=admin.id, expires_at=datetime.now(UTC) - timedelta(minutes=1) if ended else None,
                )
            )  # fmt: skip
        self.token(user, caller, admin, scopes=scopes)
        return user

    def token(self, user: User, caller: str, admin: Actor, *, scopes: list[str] | None = None) -> Token:
        """The caller's token, and an upload that is stored."""
        secret, token = identity.issue_token(self.session, admin, user=user, name=caller, days=30, scopes=scopes)
        upload = UploadSession(
            user_id=user.id, organization_id=user.organization_id, digest=self.world.values["blob"], size=len(README), received=len(README),
            state=UploadState.STORED, expires_at=datetime.now(UTC) + timedelta(days=1),
        )  # fmt: skip
        self.session.add(upload)
        self.session.flush()
        self.world.secrets[caller] = secret
        self.world.own[caller] = {"own_token": str(token.id), "own_upload": str(upload.id)}
        return token

    def everyone(self) -> None:
        """A caller for every column."""
        here = self.tenant.projects["risk"]
        for role in (*PROJECT_ROLES, *ORGANIZATION_ROLES):
            self.person(role.value, (role,), here)
        self.person("puller", (Role.CONTRIBUTOR,), here, scopes=["release:pull"])
        self.person("uploader", (Role.CONTRIBUTOR,), here, scopes=["upload:store"])
        self.person("other_project", PROJECT_ROLES, self.tenant.projects["secret"])
        self.person("nobody", (), None)
        self.person("ended", (Role.CONTRIBUTOR,), here, ended=True)
        self.person("disabled", (Role.CONTRIBUTOR,), here).disabled_at = func.clock_timestamp()
        contributor = identity.find_user(self.session, self.tenant.admin, "contributor")
        for caller, change in {"expired": "expires_at", "revoked": "revoked_at"}.items():
            token = self.token(contributor, caller, self.tenant.admin)
            self.session.execute(update(Token).where(Token.id == token.id).values({change: datetime.now(UTC) - timedelta(minutes=1)}))
        self.world.secrets |= {
            "anonymous": None, "malformed": "hf_rgi-is-not-one", "unknown": tokens.draw(), "operator": SETUP_KEY,
        }  # fmt: skip
        self._foreigner()

    def _foreigner(self) -> None:
        organization = Organization(name=f"rival-{uuid4().hex[:8]}", display_name="競合")
        self.session.add(organization)
        self.session.flush()
        project = Project(organization_id=organization.id, name="elsewhere")
        first = User(organization_id=organization.id, name="admin", kind=UserKind.HUMAN)
        self.session.add_all((project, first))
        self.session.flush()
        admin = Actor(ActorKind.USER, first.id, "admin", organization.id)
        self._person("foreign", admin, (*PROJECT_ROLES, *ORGANIZATION_ROLES), project.id)

    def everything(self) -> None:
        """One of everything in project `risk`, and its names and ids in `values`."""
        made, session, project = self.tenant, self.session, self.tenant.projects["risk"]
        base, dataset = made.base(session, "tiny"), made.dataset(session, "faq")
        adapter = made.adapter(session, "bot", base)
        version = made.version(session, adapter, files=[{"path": "README.md", "size": len(README), "digest": self.world.values["blob"]}])
        run, evaluation = made.run(session, version, dataset, loss=1.0), made.evaluation(session, version, dataset, improvement=0.1)
        made.retraining(session, run)
        suite = made.suite(session, "quality")
        measurement, bare = (made.measurement(session, suite, version, bare=bare) for bare in (False, True))
        gate = made.gate(session, measurement, bare)
        made.watch(session, "nightly", gate, state=LookState.PENDING)
        release = made.release(session, made.channel(session, "production"), version, datetime.now(UTC) - timedelta(minutes=1))
        event = Event(organization_id=made.admin.organization_id, project_id=project, type="adapter.created", data={"adapter": "risk/bot"})
        subscription = Subscription(
            project_id=project, name="told", channel=Channel.WEBHOOK, target="https://hooks.example.com/ringi", host="hooks.example.com",
            event_types=["*"], secret="0" * 64, created_by=made.admin.id, disabled_at=datetime.now(UTC), disabled_reason="by admin",
        )  # fmt: skip
        worker = Worker(
            name=f"worker-{uuid4().hex[:8]}", owner="test/1", organization_id=made.admin.organization_id, queues=["cpu"], device="cpu",
            device_name="cpu", engines=[], versions={}, heartbeat_s=5.0,
        )  # fmt: skip
        origin = VersionOrigin(
            project_id=project, version_id=version.id, system="mlflow", source="s", name="bot", version="1", facts={}, digest=digest(),
            imported_by=made.admin.id,
        )  # fmt: skip
        session.add_all((event, subscription, worker, origin))
        session.flush()
        delivery = Delivery(
            project_id=project,
            subscription_id=subscription.id,
            event_id=event.id,
            state=DeliveryState.DELIVERED,
            ended_at=datetime.now(UTC),
        )
        session.add(delivery)
        session.flush()
        job = made.job(session, JobKind.TRAIN, project_id=project)
        ids = {
            "job_id": job.id, "object_id": adapter.id, "base_id": base.id, "run_id": run.id, "evaluation_id": evaluation.id, "origin_id": origin.id, "measurement_id": measurement.id, "gate_id": gate.id, "sweep_id": measurement.job_id, "search_id": made.search(session).id,
            "request_id": self.approved(version), "event_id": event.id, "delivery_id": delivery.id, "release_id": release.id, "project_id": project,
        }  # fmt: skip
        self.world.values |= {name: str(value) for name, value in ids.items()}
        self.world.values |= {
            "project": "risk", "user": "viewer", "queue": "cpu", "dataset": "faq", "suite": "quality", "selector": "v1", "base": "tiny", "adapter": "bot",
            "environment": "production", "channel": "production", "kind": "adapter", "key": "team", "subscription": "told", "watch": "nightly", "worker": worker.name,
            "namespace": "risk", "name": "bot", "rest:path": "main/README.md", "path:path": "0/000.p/1", "anything:path": "api/telemetry",
            "number": "1",
        }  # fmt: skip

    def approved(self, version: AdapterVersion) -> UUID:
        """A request whose grant the hub believes: the one behind the release is a row that no audit event tells of."""
        first = self.session.scalars(select(ApprovalRequest).where(ApprovalRequest.version_id == version.id)).one()
        fields = {name: getattr(first, name) for name in ("project_id", "version_id", "environment", "manifest_digest", "policy_digest")}
        request = ApprovalRequest(
            **fields, state=first.state, policy_id=first.policy_id, evidence_digest=first.evidence_digest, evidence=[],
            requester_id=first.requester_id, expires_at=first.expires_at,
        )  # fmt: skip
        self.session.add(request)
        self.session.flush()
        event = audit.record(
            self.session, self.tenant.admin, AuditAction.APPROVAL_GRANT, object_type="adapter_version", object_id=version.id,
            object_digest=version.manifest_digest, project_id=version.project_id,
        )  # fmt: skip
        self.world.values["audit_entry"] = str(event)
        now = datetime.now(UTC)
        grant = ApprovalGrant(
            **fields, request_id=request.id, base_parts=PARTS, evidence=[], valid_from=now, expires_at=now + timedelta(days=30), audit_event_id=event,
        )  # fmt: skip
        self.session.add(grant)
        return request.id

    def blob(self) -> None:
        """Bytes that everyone has sent."""
        found = "sha256:" + hashlib.sha256(README).hexdigest()
        if self.session.get(Blob, found) is None:
            self.session.add(Blob(digest=found, size=len(README)))
            self.session.flush()
        self.world.values["blob"] = found

    def rest(self) -> None:
        """What the callers themselves are named by."""
        viewer = identity.find_user(self.session, self.tenant.admin, "viewer")
        membership = self.session.scalars(select(Membership.id).where(Membership.user_id == viewer.id)).one()
        self.world.values |= {
            "membership_id": str(membership), "token_id": self.world.own["viewer"]["own_token"],
            "session_id": self.world.own["contributor"]["own_upload"],
        }  # fmt: skip
        self.session.add(Upload(user_id=viewer.id, organization_id=viewer.organization_id, digest=self.world.values["blob"]))


def world(sessions: sessionmaker[Session], url: str) -> World:
    """Everything and everyone, in an organisation of its own."""
    made, found = tenant(sessions, url, f"org-{uuid4().hex[:8]}"), World()
    with sessions.begin() as session:
        maker = _Maker(session, found, made)
        maker.blob()
        maker.everything()
        maker.everyone()
        maker.rest()
    missing = set(CALLERS) - set(found.secrets)
    assert not missing, missing
    return found
