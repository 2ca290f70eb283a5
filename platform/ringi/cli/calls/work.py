"""Calls about what takes time: jobs, training runs and evaluations."""

from collections.abc import Iterator
from datetime import datetime
from typing import Unpack
from uuid import UUID

from ringi.cli.asked import Asked, AskedInOrder
from ringi.cli.connection import Connection, route
from ringi.cli.events import ServerEvent
from ringi.cli.listed import Listed
from ringi.evaluation.schemas import EvaluationOut, RequestEvaluation
from ringi.jobs.contracts.evaluation import ItemRecord
from ringi.jobs.contracts.kinds import JobKind
from ringi.jobs.schemas import JobOut, JobState, Level, LogLine, Placement, SetPriority
from ringi.preflight.schemas import PreflightOut
from ringi.quotas.schemas import ProjectUsage, QuotasOut, SetQuotas, TokenUsage
from ringi.retraining.schemas import RetrainingOut, RetrainingPolicyOut, SetRetrainingPolicy
from ringi.searches.schemas import RequestSearch, SearchLine, SearchOut
from ringi.training.provenance import Provenance
from ringi.training.schemas import BranchRun, RunOut, StartRun, TrainingPlan


class JobCalls:
    """`client.jobs`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def all(self, *, state: JobState | None = None, kind: JobKind | None = None, **asked: Unpack[Asked]) -> Listed[JobOut]:
        """Jobs in sight, newest first."""
        return self._http.items("/jobs", JobOut, state=state, kind=kind, **asked)

    def get(self, job_id: UUID) -> JobOut:
        """One job with its live progress."""
        return self._http.get(route("jobs", str(job_id)), JobOut)

    def lines(
        self, job_id: UUID, *, level: Level | None = None, attempt: int | None = None, since: datetime | None = None
    ) -> Iterator[LogLine]:
        """What its attempts wrote, oldest first; from `info` on unless told otherwise."""
        started = since.isoformat() if since is not None else None
        return self._http.items(route("jobs", str(job_id), "logs"), LogLine, level=level, attempt=attempt, since=started)

    def events(self, job_id: UUID, *, last: str | None = None, level: Level | None = None) -> Iterator[ServerEvent | None]:
        """Its story so far and then what happens, to its end; None where nothing does. Behind the event `last`."""
        return self._http.events(route("jobs", str(job_id), "events"), last=last, level=level)

    def follow(self, *, project: str | None = None, last: str | None = None) -> Iterator[ServerEvent | None]:
        """What happens to the jobs in sight, or to those of a project, from now on or behind the event `last`."""
        path = route("jobs", "events") if project is None else route("projects", project, "jobs", "events")
        return self._http.events(path, last=last)

    def cancel(self, job_id: UUID, *, if_match: str | None = None) -> JobOut:
        """Ask it to stop."""
        return self._http.post(route("jobs", str(job_id), "cancel"), JobOut, if_match=if_match)

    def prioritize(self, job_id: UUID, priority: int, *, if_match: str | None = None) -> JobOut:
        """Give it another place in its queue: higher ones are taken first."""
        return self._http.post(route("jobs", str(job_id), "priority"), JobOut, SetPriority(priority=priority), if_match=if_match)


class LimitCalls:
    """`client.limits`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def quotas(self, project: str) -> QuotasOut:
        """The limits of a project."""
        return self._http.get(route("projects", project, "quotas"), QuotasOut)

    def set_quotas(self, project: str, limits: SetQuotas, *, if_match: str | None = None) -> QuotasOut:
        """Replace the limits of a project."""
        return self._http.put(route("projects", project, "quotas"), QuotasOut, limits, if_match=if_match)

    def usage(self, project: str) -> ProjectUsage:
        """What a project uses of its limits now."""
        return self._http.get(route("projects", project, "usage"), ProjectUsage)

    def mine(self) -> TokenUsage:
        """What this token has used of its requests a minute."""
        return self._http.get("/usage", TokenUsage)

    def prioritize(self, job_id: UUID, priority: int, *, if_match: str | None = None) -> JobOut:
        """Give it another place in its queue: higher ones are taken first."""
        return self._http.post(route("jobs", str(job_id), "priority"), JobOut, SetPriority(priority=priority), if_match=if_match)


class TrainingCalls:
    """`client.training`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def start(
        self, project: str, adapter: str, *, dataset: str, base_revision: str = "latest", plan: TrainingPlan | None = None,
        placement: Placement | None = None, start_from: str | None = None, stacked: bool = False,
    ) -> RunOut:  # fmt: skip
        """Start a run on `dataset` (`name` or `name:v1` of the same project), on a worker as `placement` asks for.

        It begins with the adapter's version `start_from`, where one is named, or is `stacked` on it.
        """
        body = StartRun(
            dataset=dataset,
            base_revision=base_revision,
            plan=plan or TrainingPlan(),
            placement=placement,
            start_from=start_from,
            stacked=stacked,
        )
        return self._http.post(route("projects", project, "adapters", adapter, "runs"), RunOut, body)

    def check(
        self, project: str, adapter: str, *, dataset: str, base_revision: str = "latest", plan: TrainingPlan | None = None,
        placement: Placement | None = None, start_from: str | None = None, stacked: bool = False,
    ) -> PreflightOut:  # fmt: skip
        """What `start` would find with the same arguments, and what the run would need; starts nothing."""
        body = StartRun(
            dataset=dataset,
            base_revision=base_revision,
            plan=plan or TrainingPlan(),
            placement=placement,
            start_from=start_from,
            stacked=stacked,
        )
        return self._http.post(route("projects", project, "adapters", adapter, "runs", "check"), PreflightOut, body)

    def all(self, project: str, adapter: str, **asked: Unpack[AskedInOrder]) -> Listed[RunOut]:
        """Runs of the adapter, newest first."""
        return self._http.items(route("projects", project, "adapters", adapter, "runs"), RunOut, **asked)

    def all_of_project(self, project: str, **asked: Unpack[AskedInOrder]) -> Listed[RunOut]:
        """Runs of every adapter of the project, newest first."""
        return self._http.items(route("projects", project, "runs"), RunOut, **asked)

    def get(self, project: str, adapter: str, run_id: UUID) -> RunOut:
        """One run."""
        return self._http.get(route("projects", project, "adapters", adapter, "runs", str(run_id)), RunOut)

    def pause(self, project: str, adapter: str, run_id: UUID, *, if_match: str | None = None) -> RunOut:
        """Let it rest after its step, with a snapshot."""
        return self._http.post(_of_run(project, adapter, run_id, "pause"), RunOut, if_match=if_match)

    def go_on(self, project: str, adapter: str, run_id: UUID, *, if_match: str | None = None) -> RunOut:
        """Let a paused run go on."""
        return self._http.post(_of_run(project, adapter, run_id, "continue"), RunOut, if_match=if_match)

    def again(self, project: str, adapter: str, run_id: UUID) -> RunOut:
        """A new run with its recipe."""
        return self._http.post(_of_run(project, adapter, run_id, "again"), RunOut)

    def provenance(self, project: str, adapter: str, run_id: UUID) -> Provenance:
        """How its version came to be."""
        return self._http.get(_of_run(project, adapter, run_id, "provenance"), Provenance)

    def curve(self, project: str, adapter: str, run_id: UUID) -> str:
        """Its losses as SVG."""
        return self._http.get_text(_of_run(project, adapter, run_id, "curve"))

    def branch(self, project: str, adapter: str, run_id: UUID, change: BranchRun) -> RunOut:
        """A new run that goes on from its last snapshot."""
        return self._http.post(_of_run(project, adapter, run_id, "branch"), RunOut, change)

    def events(self, project: str, adapter: str, run_id: UUID, *, last: str | None = None) -> Iterator[ServerEvent | None]:
        """What `client.jobs.events` gives for the run's job."""
        return self._http.events(route("projects", project, "adapters", adapter, "runs", str(run_id), "events"), last=last)


def _of_run(project: str, adapter: str, run_id: UUID, verb: str) -> str:
    return route("projects", project, "adapters", adapter, "runs", str(run_id), verb)


class SearchCalls:
    """`client.searches`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def request(self, project: str, body: RequestSearch) -> SearchOut:
        """Try ranks and learning rates, as one job."""
        return self._http.post(route("projects", project, "searches"), SearchOut, body)

    def all(self, project: str, **asked: Unpack[AskedInOrder]) -> Listed[SearchLine]:
        """Searches of the project, newest first."""
        return self._http.items(route("projects", project, "searches"), SearchLine, **asked)

    def get(self, project: str, job_id: UUID) -> SearchOut:
        """One search with its trials, and what it recommends."""
        return self._http.get(route("projects", project, "searches", str(job_id)), SearchOut)


class RetrainingCalls:
    """`client.retraining`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def policy(self, project: str) -> RetrainingPolicyOut:
        """Whether new rows start the retraining of the adapters that depend on them."""
        return self._http.get(route("projects", project, "retraining-policy"), RetrainingPolicyOut)

    def set_policy(self, project: str, wanted: SetRetrainingPolicy, *, if_match: str | None = None) -> RetrainingPolicyOut:
        """Set it for dataset versions that are sealed from now on."""
        return self._http.put(route("projects", project, "retraining-policy"), RetrainingPolicyOut, wanted, if_match=if_match)

    def all(self, project: str, **asked: Unpack[AskedInOrder]) -> Listed[RetrainingOut]:
        """Retrainings of the project, newest first."""
        return self._http.items(route("projects", project, "retrainings"), RetrainingOut, **asked)


class EvaluationCalls:
    """`client.evaluations`; `version` is a selector such as `v3`."""

    def __init__(self, http: Connection) -> None:
        self._http = http

    def request(self, project: str, adapter: str, version: str, body: RequestEvaluation) -> EvaluationOut:
        """Start an evaluation."""
        return self._http.post(self._path(project, adapter, version), EvaluationOut, body)

    def all(self, project: str, adapter: str, version: str, **asked: Unpack[AskedInOrder]) -> Listed[EvaluationOut]:
        """Evaluations of the version, newest first."""
        return self._http.items(self._path(project, adapter, version), EvaluationOut, **asked)

    def all_of_project(self, project: str, **asked: Unpack[AskedInOrder]) -> Listed[EvaluationOut]:
        """Evaluations of every version in the project, newest first."""
        return self._http.items(route("projects", project, "evaluations"), EvaluationOut, **asked)

    def get(self, project: str, adapter: str, version: str, evaluation_id: UUID) -> EvaluationOut:
        """One evaluation."""
        return self._http.get(self._path(project, adapter, version, str(evaluation_id)), EvaluationOut)

    def records(self, project: str, adapter: str, version: str, evaluation_id: UUID, **asked: Unpack[Asked]) -> Listed[ItemRecord]:
        """Every item's record, in the order of the dataset unless another is asked for."""
        return self._http.items(self._path(project, adapter, version, str(evaluation_id), "records"), ItemRecord, **asked)

    def _path(self, project: str, adapter: str, version: str, *more: str) -> str:
        return route("projects", project, "adapters", adapter, "versions", version, "evaluations", *more)
