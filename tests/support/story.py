"""The verbs of the walk, each waited for until it is done, so that a test begins where its own story does."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from ringi.adapters.schemas import VersionOut
from ringi.approvals.schemas import ApprovalOut, VoteDecision
from ringi.base_models.schemas import RevisionOut
from ringi.datasets.schemas import DatasetVersionOut
from ringi.evaluation.schemas import EvaluationOut, RequestEvaluation
from ringi.releases.schemas import ReleaseOut
from ringi.training.schemas import RunOut, TrainingPlan
from support.running_platform import PROJECT, Platform, Processes, new_organization
from support.tiny_model import make_tiny_base, make_tiny_rows
from support.waiting import until

BASE, DATASET, ADAPTER = "tiny", "faq", "bot"
# Enough for the tiny model to learn the form of the answers, in about two seconds.
PLAN = TrainingPlan(rank=8, max_steps=60, batch_size=8, learning_rate=0.01, max_length=128, checkpoint_every=20)


def registered_base(platform: Platform, folder: Path, *, name: str = BASE) -> RevisionOut:
    """A sealed revision of a base, whose name is made first where it is new."""
    bases = platform.as_("admin").bases
    if name not in {base.name for base in bases.all()}:
        bases.create(name)
    revision = bases.register(name, folder)
    platform.succeeded(revision.job_id)
    return bases.revision(name, f"r{revision.number}")


def sealed_dataset(platform: Platform, rows: Path, *, name: str = DATASET) -> DatasetVersionOut:
    """A sealed version of a new dataset."""
    datasets = platform.as_("contributor").datasets
    datasets.create(PROJECT, name)
    accepted = datasets.add_version(PROJECT, name, rows)
    platform.succeeded(accepted.job_id)
    return datasets.version(PROJECT, name)


def trained(platform: Platform, adapter: str = ADAPTER, *, plan: TrainingPlan = PLAN, dataset: str = DATASET) -> RunOut:
    """A finished run; its `version` is sealed."""
    training = platform.as_("contributor").training
    run = training.start(PROJECT, adapter, dataset=dataset, plan=plan)
    platform.succeeded(run.job_id)
    return training.get(PROJECT, adapter, run.id)


def registered(platform: Platform, folder: Path, adapter: str = ADAPTER) -> VersionOut:
    """The newest version after an adapter trained elsewhere was registered."""
    adapters = platform.as_("contributor").adapters
    platform.succeeded(adapters.register(PROJECT, adapter, folder).job_id)
    return adapters.version(PROJECT, adapter)


def evaluated(platform: Platform, version: str, adapter: str = ADAPTER, **body: str | int) -> EvaluationOut:
    """A finished evaluation."""
    evaluations = platform.as_("contributor").evaluations
    wanted = RequestEvaluation.model_validate({"dataset": DATASET, "max_new_tokens": 8} | body)
    asked = evaluations.request(PROJECT, adapter, version, wanted)
    platform.succeeded(asked.job_id)
    return evaluations.get(PROJECT, adapter, version, asked.id)


def approved(platform: Platform, version: str, adapter: str = ADAPTER, *, environment: str = "production") -> ApprovalOut:
    """A request that the reviewer has approved."""
    request = platform.as_("contributor").approvals.request(PROJECT, adapter, version, environment=environment)
    approvals = platform.as_("reviewer").approvals
    return approvals.vote(PROJECT, request, decision=VoteDecision.APPROVE, reason="品質が十分に改善したため承認する")


def signed(platform: Platform, version: str, adapter: str = ADAPTER, *, channel: str = "production") -> None:
    """Wait until the grant is under a signed checkpoint: the last gate of a release."""
    releases = platform.as_("deployer").releases

    def look() -> bool:
        gates = releases.standing(PROJECT, adapter, version).gates[channel]
        return all(gate.passed for gate in gates if gate.code == "release_gate_logged")

    until(look, pause_s=0.1)


def published(platform: Platform, version: str, adapter: str = ADAPTER, *, channel: str = "production") -> ReleaseOut:
    """A release of an approved version."""
    signed(platform, version, adapter, channel=channel)
    reason = f"release {version} to {channel}"
    return platform.as_("deployer").releases.publish(PROJECT, adapter, version=version, channel=channel, reason=reason)


def environment_name() -> str:
    """An environment that nobody has used: a request of its own for the same version."""
    return f"env-{uuid4().hex[:8]}"


@dataclass(frozen=True)
class Ground:
    """What nearly every story stands on: a tiny base r1, a dataset of 900 rows, an adapter without versions."""

    platform: Platform
    base: Path
    rows: Path


@dataclass(frozen=True)
class Sources:
    """Files made once per session."""

    base: Path
    rows: Path


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """A tiny base model and rows for it."""
    folder = tmp_path_factory.mktemp("sources")
    return Sources(make_tiny_base(folder / "base"), make_tiny_rows(folder / "rows.jsonl", 900))


def prepared(platform: Platform, sources: Sources) -> Ground:
    """The ground in an organisation."""
    registered_base(platform, sources.base)
    sealed_dataset(platform, sources.rows)
    platform.as_("contributor").adapters.create(PROJECT, ADAPTER, base=BASE)
    return Ground(platform, sources.base, sources.rows)


@pytest.fixture(scope="session")
def ground(shared_platform: Processes, sources: Sources) -> Iterator[Ground]:
    """One organisation for the session with two versions of `bot`, both evaluated. Tests share it, each with environments of its own."""
    with new_organization(shared_platform) as platform:
        ready = prepared(platform, sources)
        for seed in (0, 1):
            trained(platform, plan=PLAN.model_copy(update={"seed": seed}))
        for version in ("v1", "v2"):
            evaluated(platform, version)
        yield ready
