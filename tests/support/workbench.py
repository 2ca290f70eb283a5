"""A platform whose workers a test starts and kills, and what it asks of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from ringi.embedded.postgres import PostgresHandle
from ringi.jobs.contracts.datasets import Recipe
from ringi.jobs.schemas import JobOut, JobState
from support.running_platform import PROJECT, Platform, Processes
from support.tiny_model import make_tiny_rows
from support.waiting import until


@dataclass(frozen=True)
class Workbench:
    """The platform, one organisation in it, and its database."""

    processes: Processes
    platform: Platform
    database: PostgresHandle
    # Where its rows are.
    folder: Path

    @contextmanager
    def superuser(self) -> Iterator[psycopg.Connection]:
        """What only tests may do: set the scene in the jobs table, and look at times."""
        with self.database.connect(self.processes.urls.name) as connection:
            yield connection

    def workers(self) -> list[str]:
        """Names of the running workers."""
        return [name for name in self.processes.running if name.startswith("worker-")]

    def without_workers(self) -> None:
        """Kill every worker."""
        for name in self.workers():
            self.processes.kill(name)

    def with_workers(self, count: int) -> list[str]:
        """Bring the number of workers of the cpu queue to `count`."""
        while len(self.workers()) > count:
            self.processes.kill(self.workers()[-1])
        while len(self.workers()) < count:
            self.processes.start_worker(f"worker-{uuid4().hex[:6]}", "cpu")
        return self.workers()

    def asked(self, rows: Path | None = None) -> tuple[str, UUID]:
        """A new dataset's name and the job that validates its first version."""
        datasets, name = self.platform.as_("contributor").datasets, f"rows-{uuid4().hex[:8]}"
        datasets.create(PROJECT, name)
        # Rows of one template, among which to look for near duplicates takes a minute.
        job = datasets.add_version(PROJECT, name, rows or self.few_rows, recipe=Recipe(near_duplicates="ignore")).job_id
        assert job is not None
        return name, job

    @cached_property
    def few_rows(self) -> Path:
        """Rows that are validated at once."""
        return make_tiny_rows(self.folder / "few.jsonl", 60)

    @cached_property
    def many_rows(self) -> Path:
        """Validating these takes some seconds, so a test can act in the middle."""
        return make_tiny_rows(self.folder / "many.jsonl", 50_000)

    def job(self, job_id: UUID) -> JobOut:
        """How it stands."""
        return self.platform.as_("contributor").jobs.get(job_id)

    def running(self, job_id: UUID) -> str:
        """Wait until a worker has the job; returns the worker's name."""

        def look() -> JobOut | None:
            job = self.job(job_id)
            assert job.state in {JobState.QUEUED, JobState.RUNNING}, f"it ended too early: {job.state}"
            return job if job.state is JobState.RUNNING else None

        found = until(look, timeout_s=60)
        assert found is not None
        return self.processes.name_of(found.lease_owner or "")

    def versions(self, dataset: str) -> list[int]:
        """Numbers of the sealed versions."""
        return [one.number for one in self.platform.as_("contributor").datasets.versions(PROJECT, dataset)]

    def seals(self, job_id: UUID) -> int:
        """How many times the log says that this job sealed a version."""
        return len(self.platform.logged("dataset.version.seal", job=str(job_id)))
