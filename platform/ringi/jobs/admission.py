"""May a project start one more job, or keep more bytes? What it uses is counted from the jobs themselves, under the lock of its limits."""

import math
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import extract, func, or_, select
from sqlalchemy.orm import Session

from ringi.jobs.contracts.kinds import Queue
from ringi.jobs.models import Job
from ringi.jobs.schemas import OPEN
from ringi.quotas import refusals
from ringi.quotas import service as quotas


class Used(NamedTuple):
    """What a project uses now. `reserved_bytes` are those that its open jobs will seal; `day_ends_s`, `month_ends_s` count from now."""

    open_jobs: int
    jobs_today: int
    gpu_hours: float
    stored_bytes: int
    reserved_bytes: int
    day_ends_s: int
    month_ends_s: int


def usage_of(session: Session, project_id: UUID) -> Used:
    """Count, by the database's clock; days and months are those of UTC."""
    now: datetime = session.scalars(select(func.clock_timestamp())).one()
    day, month = func.date_trunc("day", now, "UTC"), func.date_trunc("month", now, "UTC")
    is_open = Job.state.in_(OPEN)
    # From its first start to its end, with the waits between attempts: a worker was reserved or awaited for it. A rest was wanted, and is free.
    began, ended = func.greatest(Job.started_at, month), func.coalesce(Job.paused_at, Job.finished_at, now)
    held_s = func.greatest(extract("epoch", ended - began) - Job.paused_s, 0)
    # unscoped: the caller has been let into the project already.
    row = session.execute(
        select(
            func.count(Job.id).filter(is_open).label("open_jobs"),
            func.count(Job.id).filter(Job.created_at >= day).label("jobs_today"),
            func.coalesce(func.sum(held_s).filter(Job.queue == Queue.GPU, Job.started_at.is_not(None)), 0).label("gpu_s"),
            func.coalesce(func.sum(Job.reserved_bytes).filter(is_open), 0).label("reserved"),
            extract("epoch", func.date_trunc("day", now, "UTC") + func.make_interval(0, 0, 0, 1) - now).label("day_s"),
            extract("epoch", func.date_trunc("month", now, "UTC") + func.make_interval(0, 1) - now).label("month_s"),
        ).where(Job.project_id == project_id, or_(is_open, Job.created_at >= day, Job.finished_at >= month, Job.paused_at >= month))
    ).one()
    return Used(
        open_jobs=row.open_jobs, jobs_today=row.jobs_today, gpu_hours=float(row.gpu_s) / 3600, stored_bytes=quotas.bytes_of(session, project_id),
        reserved_bytes=int(row.reserved), day_ends_s=max(1, math.ceil(row.day_s)), month_ends_s=max(1, math.ceil(row.month_s)),
    )  # fmt: skip


def admit(session: Session, project_id: UUID, *, queue: Queue, adds_bytes: int, is_new: bool = True) -> None:
    """Let one more job in, or raise the QuotaExceeded of the first limit in its way. One that goes on is counted on its first day already.

    The limits stay locked until the caller's commit: of two requests for the last place the second counts the first one's job.
    """
    quota = quotas.hold_job_limits(session, project_id)
    if quota is None:
        return
    used = usage_of(session, project_id)
    if quota.open_jobs is not None and used.open_jobs >= quota.open_jobs:
        raise refusals.TooManyOpenJobs(used=used.open_jobs, limit=quota.open_jobs, retry_after_s=refusals.OPEN_JOBS_RETRY_S)
    if is_new and quota.jobs_per_day is not None and used.jobs_today >= quota.jobs_per_day:
        raise refusals.TooManyJobsToday(used=used.jobs_today, limit=quota.jobs_per_day, retry_after_s=used.day_ends_s)
    hours = quota.gpu_hours_per_month
    if hours is not None and queue == Queue.GPU and used.gpu_hours >= hours:
        raise refusals.GpuHoursUsedUp(used=round(used.gpu_hours, 3), limit=hours, retry_after_s=used.month_ends_s)
    held = used.stored_bytes + used.reserved_bytes
    # A job whose result has no known size yet is let in as long as there is any room.
    _room(quota.stored_bytes, held, max(adds_bytes, 1))


def admit_bytes(session: Session, project_id: UUID, stored: Iterable[tuple[str, int]]) -> None:
    """Let in what a request itself seals (digest and size), or raise BytesUsedUp. What the project holds already adds nothing.

    The limits stay locked until the caller's commit, which also notes the bytes.
    """
    quota = quotas.hold_job_limits(session, project_id)
    if quota is None or quota.stored_bytes is None:
        return
    adds = quotas.new_bytes(session, project_id, stored)
    if adds:
        used = usage_of(session, project_id)
        _room(quota.stored_bytes, used.stored_bytes + used.reserved_bytes, adds)


def _room(limit: int | None, held: int, adds: int) -> None:
    if limit is not None and held + adds > limit:
        raise refusals.BytesUsedUp(used=held, limit=limit, retry_after_s=refusals.BYTES_RETRY_S)
