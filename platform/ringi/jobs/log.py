"""The log of a job: its changes of state, its newest progress, and the lines its attempts wrote. Read by streams and by pages.

Entries of state and progress are written by a trigger (ddl.py); lines by the worker that holds the lease, with its heartbeat. An entry's
`position` is its place among all entries in the order of their commits: it is the event id of a stream and the cursor of a page.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Select, delete, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from ringi.identity.permissions import Permission, visible, visible_projects
from ringi.jobs.cleaning import clean
from ringi.jobs.models import Job, JobLogEntry
from ringi.jobs.schemas import OPEN, EntryKind, Level
from ringi.kit.actor import Actor
from ringi.kit.errors import Forbidden

# Of a job that writes more lines, the newest stay.
KEPT_LINES = 10_000
LEVELS: dict[Level, int] = {Level.DEBUG: 10, Level.INFO: 20, Level.WARNING: 30, Level.ERROR: 40, Level.CRITICAL: 50}


class Line(NamedTuple):
    """One line of an attempt. `number` counts from 1 within the attempt; `age_s`: how long ago it was written, by a monotonic clock."""

    number: int
    level: int
    message: str
    age_s: float


@dataclass(frozen=True)
class Sight:
    """Which entries a reader sees: of these projects (None: of the organisation as a whole), of one job or all, lines from a level on."""

    organization_id: UUID
    projects: frozenset[UUID | None]
    job_id: UUID | None = None
    # A least level of the lines (Python's numbers); None leaves out every line.
    level: int | None = None

    def shows(self, entry: JobLogEntry) -> bool:
        """Whether the reader sees this entry."""
        if entry.organization_id != self.organization_id or entry.project_id not in self.projects:
            return False
        if self.job_id is not None and entry.job_id != self.job_id:
            return False
        return entry.kind != EntryKind.LOG or (self.level is not None and (entry.level or 0) >= self.level)

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same as `shows`, for the database."""
        known = [project for project in self.projects if project is not None]
        places: list[ColumnElement[bool]] = [JobLogEntry.project_id.in_(known)]
        if None in self.projects:
            places.append(JobLogEntry.project_id.is_(None))
        found = [JobLogEntry.organization_id == self.organization_id, or_(*places)]
        if self.job_id is not None:
            found.append(JobLogEntry.job_id == self.job_id)
        no_line = JobLogEntry.kind != EntryKind.LOG
        return [*found, no_line if self.level is None else or_(no_line, JobLogEntry.level >= self.level)]


def level_of(entry: JobLogEntry) -> Level:
    """The word for a line's level; a number in between counts as the level below it."""
    return max((one for one in LEVELS if LEVELS[one] <= (entry.level or 0)), key=lambda one: LEVELS[one], default=Level.DEBUG)


def projects_in_sight(session: Session, actor: Actor) -> frozenset[UUID | None]:
    """The projects whose jobs the caller may follow now, and None for the jobs of the organisation. Raises Forbidden where there is no right."""
    if not (actor.may(Permission.PROJECT_READ) or any(Permission.PROJECT_READ in held for held in actor.project_permissions.values())):
        raise Forbidden(Permission.PROJECT_READ, where="this organisation")
    return frozenset(session.scalars(visible_projects(actor))) | {None}


def write(session: Session, job: Job, lines: Iterable[Line], *, secrets: Collection[str] = ()) -> None:
    """Add lines of the job's attempt; the caller's transaction holds the lease. A line that is there already is not written again."""
    now = func.clock_timestamp()
    rows = [
        {
            "job_id": job.id, "organization_id": job.organization_id, "project_id": job.project_id, "attempt": job.attempt, "kind": EntryKind.LOG,
            "level": line.level, "line": line.number, "message": clean(line.message, secrets=secrets), "at": now - timedelta(seconds=line.age_s),
        }
        for line in lines
    ]  # fmt: skip
    if rows:
        # A connection that broke during the commit leaves it open whether the lines arrived, so they are sent again.
        session.execute(insert(JobLogEntry).values(rows).on_conflict_do_nothing())


def trim(session: Session, job_id: UUID) -> None:
    """Keep the newest KEPT_LINES lines of a job."""
    # unscoped: the worker holds the lease.
    lines = select(JobLogEntry.id).where(JobLogEntry.job_id == job_id, JobLogEntry.kind == EntryKind.LOG)
    last_kept = lines.order_by(JobLogEntry.id.desc()).offset(KEPT_LINES).limit(1).scalar_subquery()
    session.execute(delete(JobLogEntry).where(JobLogEntry.job_id == job_id, JobLogEntry.kind == EntryKind.LOG, JobLogEntry.id <= last_kept))


def given(session: Session, position: int) -> bool:
    """Whether a place may have been given already; entries themselves do not stay for ever."""
    return position <= (session.scalar(text("SELECT last_value FROM job_log_position")) or 0)


def newest(session: Session) -> int:
    """The last place that can be seen; 0 before the first."""
    # unscoped: a number, no content.
    return session.scalar(select(func.coalesce(func.max(JobLogEntry.position), 0))) or 0


class Purged(NamedTuple):
    """How many entries went, and where the next round goes on: 0 is the beginning."""

    removed: int
    reached: int


def read(session: Session, *, after: int, sight: Sight | None, limit: int) -> Sequence[JobLogEntry]:
    """Entries behind place `after` in their order; all of them for the platform's own feed (`sight` None)."""
    # unscoped: a sight is made from what the caller may see; the feed gives every stream only what its sight shows.
    query = select(JobLogEntry).where(JobLogEntry.position > after)
    if sight is not None:
        query = query.where(*sight.conditions())
    return session.scalars(query.order_by(JobLogEntry.position).limit(limit)).all()


def lines_of(
    actor: Actor, job: Job, *, level: Level, attempt: int | None = None, since: datetime | None = None, after: int = 0
) -> Select[JobLogEntry]:
    """The job's lines from a level on, oldest first; `job` was found for the caller."""
    query = visible(actor, JobLogEntry).where(
        JobLogEntry.job_id == job.id, JobLogEntry.kind == EntryKind.LOG, JobLogEntry.level >= LEVELS[level], JobLogEntry.position > after
    )
    if attempt is not None:
        query = query.where(JobLogEntry.attempt == attempt)
    if since is not None:
        query = query.where(JobLogEntry.at >= since)
    return query.order_by(JobLogEntry.position)


def purge(session: Session, *, ended_before: timedelta, after: int = 0, batch: int = 1000) -> Purged:
    """Remove entries of jobs that ended longer ago than `ended_before`, among the `batch` behind place `after`. What the jobs did stays in their rows.

    Old entries of jobs that are still open stay, so the next round has to begin behind them: at `reached`.
    """
    # unscoped: the platform looks after every job. In the order of places, by an index: the jobs that ended long ago are ever more.
    behind = select(JobLogEntry.id, JobLogEntry.job_id, JobLogEntry.position, JobLogEntry.at).where(JobLogEntry.position > after)
    looked_at = behind.order_by(JobLogEntry.position).limit(batch).subquery()
    young = func.clock_timestamp() - ended_before
    last, at_the_end = session.execute(select(func.max(looked_at.c.position), func.max(looked_at.c.at) >= young)).one()
    old = select(looked_at.c.id).join(Job, Job.id == looked_at.c.job_id).where(Job.state.not_in(OPEN), Job.finished_at < young)
    removed = len(session.scalars(delete(JobLogEntry).where(JobLogEntry.id.in_(old)).returning(JobLogEntry.id)).all())
    return Purged(removed, 0 if last is None or at_the_end else last)
