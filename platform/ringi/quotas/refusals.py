"""What a quota refuses: 429 with the time after which it could be otherwise."""

from ringi.kit.errors import RingiError

# A job may end at any moment, and bytes may be given up: look again then.
OPEN_JOBS_RETRY_S, BYTES_RETRY_S = 30, 3600


class QuotaExceeded(RingiError):
    """A limit of the project is reached."""

    code, status = "quota_exceeded", 429
    # The limit's name, in the header and on the command line.
    name = "quota"

    def __init__(self, *, used: float, limit: float, retry_after_s: int) -> None:
        super().__init__(
            f"The project has reached its limit of {self.name}: {used:g} of {limit:g} are used.",
            next_step="Wait, or ask a system_admin for more: ringi quotas set. What is used: ringi usage.",
            details={"quota": self.name, "used": used, "limit": limit},
        )
        self.retry_after_s = retry_after_s
        self.answer_headers = {
            "RateLimit-Policy": f'"{self.name}";q={int(limit)}',
            "RateLimit": f'"{self.name}";r={max(0, int(limit - used))};t={retry_after_s}',
        }


class TooManyOpenJobs(QuotaExceeded):
    """As many jobs are queued or running as the project may have."""

    code, name = "quota_open_jobs", "open_jobs"


class TooManyJobsToday(QuotaExceeded):
    """The project has started as many jobs today (UTC) as it may."""

    code, name = "quota_jobs_per_day", "jobs_per_day"


class GpuHoursUsedUp(QuotaExceeded):
    """The project's jobs have held GPU workers this month (UTC) for as long as they may."""

    code, name = "quota_gpu_hours_per_month", "gpu_hours_per_month"


class BytesUsedUp(QuotaExceeded):
    """The project would hold more bytes than it may."""

    code, name = "quota_stored_bytes", "stored_bytes"


# What starting a job may be refused for.
QUOTAS = (TooManyOpenJobs, TooManyJobsToday, GpuHoursUsedUp, BytesUsedUp)
