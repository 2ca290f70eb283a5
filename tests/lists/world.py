"""Two organisations full of things to list, written by models: what a filter should find is then known exactly.

Organisation `acme` has the projects `risk` and `secret`; `aiko` contributes to `risk` alone, `otto` audits all. `rival` has a project `risk` too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from ringi.adapters.models import Adapter, AdapterVersion, ChannelHead
from ringi.adapters.schemas import VersionSource
from ringi.approvals.models import ApprovalGrant, ApprovalPolicy, ApprovalRequest
from ringi.approvals.policy import STARTING_POLICY
from ringi.approvals.schemas import RequestState
from ringi.base_models.models import BaseModel, BaseRevision
from ringi.base_models.schemas import RevisionState
from ringi.cli.client import RingiClient
from ringi.datasets.models import Dataset, DatasetVersion
from ringi.evaluation.models import Evaluation
from ringi.gates.models import GateDecision
from ringi.gates.schemas import Bound, GateDocument
from ringi.gating.schemas import Decision, Requirement, Verdict
from ringi.identity import service as identity
from ringi.identity.models import Organization, User
from ringi.identity.schemas import Role, UserKind
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.contracts.parts import BaseRef, as_document
from ringi.jobs.contracts.searches import HalvingRule, PlannedTrial, SearchPayload
from ringi.jobs.contracts.suites import Answering, ScorerSpec, Task
from ringi.jobs.contracts.training import TrainMetrics
from ringi.jobs.models import Job
from ringi.jobs.schemas import JobState
from ringi.kit.actor import Actor, ActorKind
from ringi.kit.digests import sha256_bytes
from ringi.kit.ids import uuid7
from ringi.measurements.models import Measurement
from ringi.measurements.schemas import MeasurementState
from ringi.releases.models import Channel, Release
from ringi.releases.schemas import ReleaseAction
from ringi.retraining.models import Retraining
from ringi.retraining.schemas import RetrainingState
from ringi.searches.models import SearchTrial
from ringi.storage.models import Blob
from ringi.suites.models import Suite, SuiteVersion
from ringi.suites.schemas import SuiteDocument
from ringi.training.models import TrainingRun
from ringi.training.schemas import TrainingPlan
from ringi.watches.models import Watch, WatchLook
from ringi.watches.schemas import DriftLimits, LookState

_ADMIN = frozenset({"project:read", "organization:read", "identity:read", "identity:manage"})
_numbers = count(1)


def digest() -> str:
    """A digest that nothing else has."""
    return sha256_bytes(str(next(_numbers)).encode())


@dataclass
class Tenant:
    """One organisation: its people's tokens, its projects, and makers of rows."""

    sessions: sessionmaker[Session]
    name: str
    url: str
    admin: Actor
    projects: dict[str, UUID] = field(default_factory=dict)
    people: dict[str, UUID] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    clients: dict[str, RingiClient] = field(default_factory=dict)

    def as_(self, user: str) -> RingiClient:
        """The typed client of a user."""
        if user not in self.clients:
            self.clients[user] = RingiClient(self.url, self.tokens[user])
        return self.clients[user]

    def close(self) -> None:
        """Give the sockets back."""
        for client in self.clients.values():
            client.close()
        self.clients.clear()

    def get(self, user: str, path: str, *pairs: tuple[str, str]) -> httpx.Response:
        """A plain GET below /api/v1; parameters may repeat."""
        return httpx.get(
            f"{self.url}/api/v1{path}", params=list(pairs), headers={"Authorization": f"Bearer {self.tokens[user]}"}, timeout=60
        )

    def found(self, user: str, path: str, *pairs: tuple[str, str], by: str = "name") -> list[Any]:
        """One field of every item that the list shows."""
        answer = self.get(user, path, *pairs)
        assert answer.status_code == 200, answer.text
        return [item[by] for item in answer.json()["items"]]

    def refusal(self, user: str, path: str, *pairs: tuple[str, str]) -> tuple[int, str]:
        """Status and code of what is refused."""
        answer = self.get(user, path, *pairs)
        return answer.status_code, answer.json()["code"]

    # --- makers -------------------------------------------------------------------------------------------------------

    def job(self, session: Session, kind: JobKind, *, state: JobState = JobState.SUCCEEDED, subject: str = "応答", **fields: Any) -> Job:
        """A job of a project, or of none."""
        job = Job(
            organization_id=self.admin.organization_id, kind=kind, queue="cpu", subject=subject, state=state, payload={}, created_by=self.admin.id,
            **fields,
        )  # fmt: skip
        session.add(job)
        session.flush()
        return job

    def base(self, session: Session, name: str, *, revisions: int = 1) -> BaseModel:
        """A base model with sealed revisions."""
        base = BaseModel(organization_id=self.admin.organization_id, name=name, description=f"{name} の説明")
        session.add(base)
        session.flush()
        for number in range(1, revisions + 1):
            session.add(
                BaseRevision(
                    organization_id=self.admin.organization_id, base_model_id=base.id, number=number, state=RevisionState.SEALED, digest=digest(),
                    files=[], parts={"F1": "f1", "F2": "f2"}, facts=None, job_id=self.job(session, JobKind.FINGERPRINT).id, created_by=self.admin.id,
                )
            )  # fmt: skip
        session.flush()
        return base

    def dataset(self, session: Session, name: str, *, project: str = "risk", rows: int = 100) -> DatasetVersion:
        """A dataset with one version."""
        dataset = Dataset(project_id=self.projects[project], name=name, description=f"{name} の質問と応答")
        session.add(dataset)
        session.flush()
        parts = [digest() for _ in range(3)]
        # Rows alone: nobody reads the bytes here.
        session.add_all(Blob(digest=part, size=1) for part in parts)
        session.flush()
        report = {
            "rows": rows, "unique_pairs": rows, "empty_rows": 0, "duplicate_rows": 0, "duplicated_pairs": 0, "conflicting_prompts": 0, "leakage_prevented": 0,
            "train_rows": rows - 10, "validation_rows": 10, "characters": 1, "categories": {}, "examples": {},
        }  # fmt: skip
        version = DatasetVersion(
            project_id=dataset.project_id, dataset_id=dataset.id, number=1, digest=digest(), source_digest=parts[0], split={"seed": 0},
            train_digest=parts[1], train_size=1, validation_digest=parts[2], validation_size=1, report=report, created_by=self.admin.id,
        )  # fmt: skip
        session.add(version)
        session.flush()
        return version

    def adapter(
        self, session: Session, name: str, base: BaseModel, *, project: str = "risk", description: str = "", owner: str = "aiko"
    ) -> Adapter:
        """An adapter without versions."""
        adapter = Adapter(
            project_id=self.projects[project], name=name, base_model_id=base.id, description=description, created_by=self.people[owner]
        )
        session.add(adapter)
        session.flush()
        return adapter

    def version(
        self,
        session: Session,
        adapter: Adapter,
        *,
        rank: int = 8,
        method: str = "LORA",
        files: Sequence[dict[str, Any]] = (),
        **fields: Any,
    ) -> AdapterVersion:
        """The adapter's next version, on the first revision of its base."""
        numbers = session.scalars(select(AdapterVersion.number).where(AdapterVersion.adapter_id == adapter.id)).all()
        revision = session.scalars(
            select(BaseRevision.id).where(BaseRevision.base_model_id == adapter.base_model_id).order_by(BaseRevision.number)
        ).first()
        facts = {
            "peft_type": method, "task_type": None, "rank": rank, "alpha": 2.0 * rank, "use_rslora": False, "use_dora": False, "target_modules": ["q_proj"],
            "adapted_modules": ["q_proj"], "unmatched_tensors": [], "unfilled_tensors": [], "replaced_tensors": [], "non_finite_tensors": [],
            "tensors": [], "parameters": 1000 * rank,
        }  # fmt: skip
        effect = {"prompts": 2, "probe_digest": digest(), "change": 0.5, "noise": None, "dtype": "float32"}
        version = AdapterVersion(
            project_id=adapter.project_id, adapter_id=adapter.id, number=len(numbers) + 1, source=VersionSource.TRAINED, manifest_digest=digest(),
            manifest=b"{}", files=list(files), base_revision_id=revision, facts=facts, effect=effect, runtime={},
            job_id=self.job(session, JobKind.TRAIN, project_id=adapter.project_id).id, created_by=self.people["aiko"], **fields,
        )  # fmt: skip
        session.add(version)
        session.flush()
        return version

    def run(
        self,
        session: Session,
        version: AdapterVersion,
        dataset: DatasetVersion,
        *,
        loss: float | None,
        state: JobState = JobState.SUCCEEDED,
    ) -> TrainingRun:
        """The run that sealed a version; `loss` None where none was measured."""
        metrics = TrainMetrics(
            steps=10,
            rows=90,
            skipped_rows=0,
            first_loss=3.0,
            final_loss=loss,
            label_tokens=100,
            tokens_per_s=None,
            seconds=1.5,
            resumed_from_step=0,
        )
        run = TrainingRun(
            project_id=version.project_id, adapter_id=version.adapter_id, dataset_version_id=dataset.id, base_revision_id=version.base_revision_id,
            spec=as_document(TrainingPlan(rank=8).resolved()), job_id=self.job(session, JobKind.TRAIN, state=state, project_id=version.project_id).id,
            version_id=version.id, metrics=as_document(metrics), started_by=self.people["aiko"],
        )  # fmt: skip
        session.add(run)
        session.flush()
        return run

    def evaluation(self, session: Session, version: AdapterVersion, dataset: DatasetVersion, *, improvement: float | None) -> Evaluation:
        """A completed evaluation; `improvement` None where nothing was scored."""
        verdict = "insufficient" if improvement is None else "better" if improvement > 0 else "worse"
        nothing: dict[str, Any] = dict.fromkeys(
            ("candidate_nll", "baseline_nll", "improvement_interval", "candidate_match_rate", "baseline_match_rate", "match_difference", "match_difference_interval")
        )  # fmt: skip
        summary = nothing | {
            "verdict": verdict, "regressed": None, "reasons": [], "n": 120, "scored": 0 if improvement is None else 120, "unscored": 120 if improvement is None else 0,
            "minimum_items": 100, "resamples": 2000, "improvement": improvement, "matched": 0, "negative_flips": [], "positive_flips": [], "slices": [],
        }  # fmt: skip
        evaluation = Evaluation(
            project_id=version.project_id, version_id=version.id, base_revision_id=version.base_revision_id, baseline="base",
            dataset_version_id=dataset.id, job_id=self.job(session, JobKind.EVALUATE, project_id=version.project_id).id, summary=summary,
            evidence={}, evidence_digest=digest(), requested_by=self.people["aiko"], completed_at=datetime.now(UTC),
        )  # fmt: skip
        session.add(evaluation)
        session.flush()
        return evaluation

    def retraining(self, session: Session, run: TrainingRun) -> Retraining:
        """What would follow a run if its rows were new, for each adapter and dataset version once."""
        made = Retraining(
            project_id=run.project_id, dataset_version_id=run.dataset_version_id, adapter_id=run.adapter_id, source_run_id=run.id,
            environment="production", state=RetrainingState.SUPERSEDED, on_behalf_of=self.people["aiko"], completed_at=datetime.now(UTC),
        )  # fmt: skip
        session.add(made)
        session.flush()
        return made

    def search(self, session: Session, *, project: str = "risk") -> Job:
        """A search of two trials that nobody has begun."""
        base = BaseRef(name="tiny", repository="bases/tiny", revision=1, commit="0" * 40, digest=digest(), files=())
        trials = [PlannedTrial(trial_id=uuid7(), spec=TrainingPlan(rank=rank).resolved()) for rank in (4, 8)]
        payload = SearchPayload(
            adapter_name=f"{project}/bot", dataset=f"{project}/faq:v1", base=base, rows=digest(), validation=digest(), trials=tuple(trials),
            rule=HalvingRule(reduction=3, first_steps=20, tie=0.01),
        )  # fmt: skip
        job = self.job(session, JobKind.SEARCH_RANK, project_id=self.projects[project])
        job.payload = as_document(payload)
        session.add_all(
            SearchTrial(id=one.trial_id, project_id=job.project_id, job_id=job.id, place=place, spec=as_document(one.spec))
            for place, one in enumerate(trials)
        )
        session.flush()
        return job

    def suite(self, session: Session, name: str, *, project: str = "risk") -> SuiteVersion:
        """A suite with one version; nobody reads its items here."""
        suite = Suite(project_id=self.projects[project], name=name, description=f"{name} の品質", created_by=self.people["aiko"])
        session.add(suite)
        session.flush()
        items, own = digest(), digest()
        session.add_all(Blob(digest=one, size=1) for one in (items, own))
        session.flush()
        task = Task(name="faq", answering=Answering.EXACT, items=items, count=3, scorers=(ScorerSpec(name="exact"),))
        document = SuiteDocument(tasks=(task,), requirements=(Requirement(task="faq", metric="exact", margin=0.05),))
        version = SuiteVersion(
            project_id=suite.project_id, suite_id=suite.id, number=1, digest=own, document=as_document(document),
            facts={"faq": {"items": 3, "slices": {}}}, items=3, created_by=self.people["aiko"], audit_event_id=uuid7(),
        )  # fmt: skip
        session.add(version)
        session.flush()
        return version

    def measurement(
        self, session: Session, suite: SuiteVersion, version: AdapterVersion, *, bare: bool = False, mean: float | None = 0.5
    ) -> Measurement:
        """What a version, or its bare base, was measured to; `mean` None where nothing was scored."""
        figures = {
            "n": 3,
            "scored": 0 if mean is None else 3,
            "unscored": 3 if mean is None else 0,
            "mean": mean,
            "low": None,
            "high": None,
        }
        one = Measurement(
            project_id=suite.project_id, suite_version_id=suite.id, base_revision_id=version.base_revision_id, version_id=None if bare else version.id,
            job_id=self.job(session, JobKind.SWEEP, project_id=suite.project_id).id, state=MeasurementState.MEASURED,
            summary={"faq": {"metrics": {"exact": figures}, "problems": {}}}, runtime={"torch": "1"}, runtime_digest=digest(), operations={},
            evidence={"records": digest()}, evidence_digest=digest(), requested_by=self.people["aiko"], completed_at=datetime.now(UTC),
        )  # fmt: skip
        session.add(one)
        session.flush()
        return one

    def gate(self, session: Session, candidate: Measurement, baseline: Measurement) -> GateDecision:
        """A decision about two measurements."""
        arms = [
            Bound(
                measurement=one.id, name="risk/bot:v1", manifest=None, base=digest(), records=digest(), evidence=digest(), runtime=digest()
            )
            for one in (candidate, baseline)
        ]
        decision = Decision(verdict=Verdict.INCONCLUSIVE, reasons=(), tasks=(), level=0.05, tests=0)
        document = GateDocument(suite=digest(), candidate=arms[0], baseline=arms[1], asked="base", imported=False, decision=decision)
        gate = GateDecision(
            project_id=candidate.project_id, suite_version_id=candidate.suite_version_id, candidate_id=candidate.id, baseline_id=baseline.id,
            asked="base", verdict=Verdict.INCONCLUSIVE, imported=False, document=as_document(document), digest=digest(),
            decided_by=self.people["aiko"], audit_event_id=uuid7(),
        )  # fmt: skip
        session.add(gate)
        session.flush()
        return gate

    def watch(self, session: Session, name: str, gate: GateDecision, *, state: LookState = LookState.SEEN) -> WatchLook:
        """A watch of production with one look that ended with a decision, or waits for ever."""
        watch = Watch(
            project_id=gate.project_id, name=name, channels=["production"], suite="quality", schedule="every 6h", timezone="Asia/Tokyo",
            baseline="release", drift=DriftLimits().model_dump(mode="json"), within_s=60, due_at=datetime(2099, 1, 1, tzinfo=UTC),
            created_by=self.people["aiko"],
        )  # fmt: skip
        session.add(watch)
        session.flush()
        look = WatchLook(
            project_id=gate.project_id, watch_id=watch.id, channel="production", suite_version_id=gate.suite_version_id,
            due_at=datetime(2026, 11, 1, tzinfo=UTC), by_hand=False, state=state, measurement_id=gate.candidate_id, gate_id=gate.id,
            verdict=gate.verdict, turned=True, completed_at=datetime.now(UTC),
        )  # fmt: skip
        session.add(look)
        session.flush()
        return look

    def channel(self, session: Session, name: str, *, project: str = "risk", environment: str = "production") -> Channel:
        """A channel that serves nothing yet."""
        channel = Channel(project_id=self.projects[project], name=name, environment=environment, description="本番のチャネル")
        session.add(channel)
        session.flush()
        return channel

    def release(self, session: Session, channel: Channel, version: AdapterVersion, at: datetime) -> Release:
        """A move of the channel at a time of the past."""
        before = session.scalars(
            select(Release)
            .where(Release.channel_id == channel.id, Release.adapter_id == version.adapter_id)
            .order_by(Release.sequence.desc())
        ).first()
        release = Release(
            id=uuid7(), project_id=channel.project_id, channel_id=channel.id, adapter_id=version.adapter_id, version_id=version.id,
            previous_version_id=before.version_id if before else None, grant_id=self._grant(session, version, channel.environment),
            sequence=before.sequence + 1 if before else 1, action=ReleaseAction.PUBLISH, reason="応答の品質を確認した", released_by=self.people["aiko"],
            created_at=at,
        )  # fmt: skip
        session.add(release)
        where = (ChannelHead.adapter_id == version.adapter_id, ChannelHead.channel == channel.name)
        head = session.scalars(select(ChannelHead).where(*where)).one_or_none()
        if head is None:
            head = ChannelHead(
                project_id=channel.project_id, channel=channel.name, adapter_id=version.adapter_id, version_id=version.id, sequence=1
            )
            session.add(head)
        head.version_id, head.sequence = version.id, release.sequence
        session.flush()
        return release

    def _grant(self, session: Session, version: AdapterVersion, environment: str) -> UUID:
        policy = session.scalars(select(ApprovalPolicy).where(ApprovalPolicy.project_id == version.project_id)).first()
        if policy is None:
            document = as_document(STARTING_POLICY)
            policy = ApprovalPolicy(project_id=version.project_id, number=1, digest=digest(), document=document, created_by=self.admin.id)
            session.add(policy)
            session.flush()
        now, nothing = datetime.now(UTC), digest()
        request = ApprovalRequest(
            project_id=version.project_id, version_id=version.id, environment=environment, state=RequestState.APPROVED, policy_id=policy.id,
            manifest_digest=version.manifest_digest, policy_digest=nothing, evidence_digest=nothing, evidence=[], requester_id=self.people["aiko"],
            expires_at=now + timedelta(days=1),
        )  # fmt: skip
        session.add(request)
        session.flush()
        grant = ApprovalGrant(
            project_id=version.project_id, request_id=request.id, version_id=version.id, manifest_digest=version.manifest_digest, base_parts={},
            environment=environment, evidence=[], policy_digest=nothing, valid_from=now, expires_at=now + timedelta(days=30), audit_event_id=uuid7(),
        )  # fmt: skip
        session.add(grant)
        session.flush()
        return grant.id


def tenant(sessions: sessionmaker[Session], url: str, name: str) -> Tenant:
    """An organisation with its people; `aiko` contributes to `risk`, `hana` to `secret`, `dana` deploys in `risk`, `vera` only looks."""
    with sessions.begin() as session:
        organization = Organization(name=name, display_name="検証株式会社")
        session.add(organization)
        session.flush()
        first = User(organization_id=organization.id, name="admin", kind=UserKind.HUMAN)
        session.add(first)
        session.flush()
        admin = Actor(ActorKind.USER, first.id, "admin", organization.id, organization_permissions=_ADMIN)
        made = Tenant(sessions, name, url, admin)
        for project, shown in (("risk", "リスク管理部"), ("secret", "機密")):
            made.projects[project] = identity.create_project(session, admin, name=project, display_name=shown).id
        roles = {
            "aiko": (Role.CONTRIBUTOR, "risk"), "hana": (Role.CONTRIBUTOR, "secret"), "dana": (Role.DEPLOYER, "risk"), "vera": (Role.VIEWER, "risk"),
            "otto": (Role.AUDITOR, None), "sys": (Role.SYSTEM_ADMIN, None), "idun": (Role.IDENTITY_ADMIN, None),
        }  # fmt: skip
        for user, (role, where) in roles.items():
            person = identity.create_user(session, admin, name=user, display_name=f"{user} さん", kind=UserKind.HUMAN)
            identity.grant_role(session, admin, user=user, role=role, project=where, days=None)
            made.people[user] = person.id
            made.tokens[user], _ = identity.issue_token(session, admin, user=person, name=f"token of {user}", days=30)
    return made
