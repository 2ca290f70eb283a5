"""Who follows a sweep."""

from ringi.jobs.contracts.parts import Progress


class Follower:
    """Keeps what is reported, and asks to stop after `reports`."""

    def __init__(self, *, reports: int | None = None) -> None:
        self.seen: list[Progress] = []
        self.reports = reports

    def report(self, progress: Progress) -> None:
        self.seen.append(progress)

    def should_stop(self) -> bool:
        return self.reports is not None and len(self.seen) >= self.reports
