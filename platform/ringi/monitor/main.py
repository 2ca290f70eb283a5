"""ringi-monitor: read the whole log again, replay it into states, and compare them with the live tables.

    RINGI_MONITOR_TOKEN=… RINGI_MONITOR_DATABASE_URL=… ringi-monitor --server URL --trust TRUST --state FOLDER [--watch 300] [--json]

Run it on another machine than the platform's, by other people than the platform's operators, with a state folder that they cannot write. Exit
code 0: nothing was found; 1: an incident, each line names a row; 2: it could not look (wrong usage, an unusable trust file, no answer), which
is no assurance either. docs/audit.md says what it sees and what it does not.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from uuid import UUID

import httpx
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from ringi.audit.ringi_verify import Policy, Refused, parse_policy
from ringi.audit.signing import CheckpointFile
from ringi.kit.stopping import Stop
from ringi.monitor.chain import Follows, Logs, LogSucceeded
from ringi.monitor.compare import Finding, differences
from ringi.monitor.log import Entry, LogAway, LogFault
from ringi.monitor.replay import Replay
from ringi.monitor.tables import Snapshot, columns_of, engine_of, snapshot

FINE, INCIDENT, BLIND = 0, 1, 2
_TOKEN, _DATABASE = "RINGI_MONITOR_TOKEN", "RINGI_MONITOR_DATABASE_URL"  # the names of settings
_PAUSE_S = 0.25


@dataclass
class Report:
    """One round. `rows`: how many live rows of each kind were compared; `unseen`: why nothing could be said.

    `origin`, `size` and `root` are of the log that grows. `follows`: the logs that have ended, oldest first, and `news` those of them whose end was
    seen for the first time; `ended`: how many entries of each of them were read.
    """

    origin: str | None = None
    size: int = 0
    root: str | None = None
    follows: list[Follows] = field(default_factory=list)
    news: list[Follows] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    unseen: str | None = None

    @property
    def code(self) -> int:
        """What the process ends with."""
        if self.findings:
            return INCIDENT
        return BLIND if self.unseen else FINE


class Monitor:
    """The log as replayed so far; a round goes on where the last one ended.

    After `anew_after` rounds, and after a fault of the log, the next one reads the log from its first entry again: what was good once may
    have been changed since.
    """

    def __init__(
        self, client: httpx.Client, engine: Engine, policy: Policy, kept: CheckpointFile, *, wait_s: float, stop: Stop,
        anew_after: int = 12,
    ) -> None:  # fmt: skip
        self._client, self._engine, self._policy, self._kept, self._wait_s = client, engine, policy, kept, wait_s
        self._stop, self._anew_after = stop, anew_after
        # Read by logs that were begun anew before they were reported; the kept checkpoint knows of them already.
        self._news: list[Follows] = []
        self._logs = Logs(client, policy, kept)
        self._begin()

    def _begin(self) -> None:
        self._news += self._logs.news
        self._logs, self._replay = Logs(self._client, self._policy, self._kept), Replay()
        self._rounds = 0
        # Read, and younger than the snapshot that they were compared with.
        self._held: list[Entry] = []

    def round(self, *, organization: str | None = None) -> Report:
        """Look once."""
        report = Report()
        if self._rounds >= self._anew_after:
            self._begin()
        self._rounds += 1
        try:
            report.findings = self._looked(report, organization)
        except LogFault as fault:
            report.findings = [Finding(fault.code, fault.message)]
            self._begin()
        except LogAway as away:
            report.unseen = str(away)
        except SQLAlchemyError as error:
            report.unseen = f"the database does not answer: {str(error).splitlines()[0]}"
        report.follows = self._logs.follows
        report.news = [*self._news, *(one for one in self._logs.news if one not in self._news)]
        self._news, self._logs.news = [], []
        return report

    def _looked(self, report: Report, organization: str | None) -> list[Finding]:
        try:
            return self._look(report, organization)
        except LogSucceeded:
            self._begin()
            return self._look(report, organization)

    def _look(self, report: Report, organization: str | None) -> list[Finding]:
        live = snapshot(self._engine)
        missing = self._read_up_to(live)
        *before, newest = self._logs.checkpoints
        report.origin, report.size, report.root = newest.origin, newest.size, newest.root.hex()
        report.ended = {one.origin: one.size for one in before}
        if missing:
            # Every row that the rest of the log speaks of would seem to be changed.
            return missing
        report.rows = dict(Counter(kind for kind, _ in live.rows))
        changed = [one for one in columns_of(self._engine) if organization in {None, one.organization}]
        columns = [
            Finding("columns_changed", one.message, organization=one.organization, index=one.leaf, event_id=str(one.event_id))
            for one in changed
        ]
        return [*differences(self._replay, live.rows, organization=organization), *columns]

    def _read_up_to(self, live: Snapshot) -> list[Finding]:
        """Replay what the snapshot knows of, once a signed checkpoint covers it; what none covers in time is a finding, and no row is compared then."""
        deadline, waiting = time.monotonic() + self._wait_s, set(live.pending)

        def take(entry: Entry) -> None:
            name, place = entry.event["id"], entry.place
            waiting.discard(name)
            if place.generation < 0 or place.leaf < live.head or name in live.pending:
                self._replay.apply([entry])
            else:
                # What came after the snapshot is not in its rows yet.
                self._held.append(entry)

        before, self._held = self._held, []
        for entry in before:
            take(entry)
        while True:
            self._logs.grow(take)
            if live.origin != self._logs.origin and (live.origin is not None or self._logs.follows):
                raise LogSucceeded(f"the log is '{self._logs.origin}', and that of the database '{live.origin or 'the one before'}'")
            if self._logs.size >= live.head and not waiting:
                return []
            if time.monotonic() > deadline:
                what = f"{len(waiting)} waiting entries and {max(0, live.head - self._logs.size)} leaves"
                return [Finding("log_behind", f"No signed checkpoint covers {what} that the database has had for {self._wait_s:g} s.")]
            self._stop.wait(_PAUSE_S)
            if self._stop.asked:
                raise LogAway("it was stopped")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ringi-monitor", description="Replay the audit log into states and compare them with the live tables."
    )
    parser.add_argument("--server", default=os.environ.get("RINGI_PUBLIC_URL"), metavar="URL", help="the platform (RINGI_PUBLIC_URL)")
    parser.add_argument("--trust", type=Path, required=True, metavar="FILE", help="the log's key (C2SP tlog-policy), got over another way")
    parser.add_argument(
        "--state", type=Path, required=True, metavar="FOLDER", help="where the monitor keeps the last checkpoint that it saw"
    )
    parser.add_argument("--organization", type=UUID, metavar="ID", help="report the rows of one organisation only")
    parser.add_argument("--watch", type=float, metavar="SECONDS", help="look again, so many seconds after each look, until it is stopped")
    parser.add_argument("--wait", type=float, default=60.0, metavar="SECONDS", help="for a checkpoint over what was written last")
    parser.add_argument("--metrics", type=Path, metavar="FILE", help="keep figures there for Prometheus's textfile collector")
    parser.add_argument("--json", action="store_true", help="one JSON object a round")
    given = parser.parse_args(argv)
    if not given.server:
        parser.error("name the platform: --server URL")
    for name in (_TOKEN, _DATABASE):
        if not os.environ.get(name):
            parser.error(f"set {name}")
    return given


def _say(report: Report, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(report) | {"ok": report.code == FINE}, ensure_ascii=False), flush=True)  # noqa: T201  # its answer
        return
    lines = [f"ALARM ringi-monitor: {one.code}: {one.message}" for one in report.findings]
    lines += [f"BLIND ringi-monitor: {report.unseen}"] if report.unseen else []
    if report.code == FINE:
        read = [*report.ended.items(), (report.origin, report.size)]
        entries = " and ".join(f"the {size} entries of {origin}" for origin, size in read)
        lines = [f"FINE ringi-monitor: {sum(report.rows.values())} rows are what {entries} say."]
    lines[:0] = [f"FOLLOWS ringi-monitor: {one}" for one in report.news]
    print("\n".join(lines), flush=True)  # noqa: T201  # its answer


def _write_metrics(path: Path, report: Report) -> None:
    """Prometheus's text format, put in place at once."""
    found = Counter(one.code for one in report.findings)
    lines = ["# TYPE ringi_monitor_findings gauge", f'ringi_monitor_findings{{code="any"}} {sum(found.values())}']
    lines += [f'ringi_monitor_findings{{code="{code}"}} {count}' for code, count in sorted(found.items())]
    lines += ["# TYPE ringi_monitor_blind gauge", f"ringi_monitor_blind {int(report.unseen is not None)}"]
    lines += ["# TYPE ringi_monitor_log_entries gauge", f"ringi_monitor_log_entries {report.size}"]
    lines += ["# TYPE ringi_monitor_looked_timestamp_seconds gauge", f"ringi_monitor_looked_timestamp_seconds {time.time():.0f}"]
    aside = path.with_name(f".{path.name}.new")
    aside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    aside.replace(path)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    given = _arguments(argv)
    try:
        policy = parse_policy(given.trust.read_bytes())
        given.state.mkdir(parents=True, exist_ok=True)
    except (Refused, OSError) as error:
        sys.stderr.write(f"ringi-monitor: unusable: {getattr(error, 'message', error)}\n")
        return BLIND
    stop = Stop()
    headers = {"Authorization": f"Bearer {os.environ[_TOKEN]}"}
    engine = engine_of(os.environ[_DATABASE])
    with httpx.Client(base_url=given.server, headers=headers) as client:
        monitor = Monitor(client, engine, policy, CheckpointFile(given.state), wait_s=given.wait, stop=stop)
        while True:
            report = monitor.round(organization=str(given.organization) if given.organization else None)
            _say(report, as_json=given.json)
            if given.metrics is not None:
                _write_metrics(given.metrics, report)
            if given.watch is None:
                return report.code
            stop.wait(given.watch)
            if stop.asked:
                return report.code
