"""The monitor where a log has ended and another one followed it: what is honest is said and is no incident, what is not is found."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from audit.followed import Followed
from ringi.audit.note import Signer, sign_checkpoint
from ringi.audit.ringi_verify import Checkpoint
from ringi.audit.signing import CheckpointFile
from ringi.embedded.postgres import PostgresHandle
from ringi.monitor.main import Report
from ringi.settings import get_settings
from ringi.succession.statement import new_admin_key
from support.postgres import DatabaseUrls, application, drop_database, fresh_database
from support.running_platform import MONITOR_TOKEN

FIRST, SECOND = "ディスク障害で復元した", "バックアップから再び復元した"


@dataclass
class Story:
    """Two successions, and what one monitor that never stopped said before, between and after them.

    `kept`: state folders by what they hold: of the first log what is left of it (`held`) and what is lost (`lost`), and the second log's end.
    """

    logs: Followed
    origins: list[str]
    reports: list[Report]
    kept: dict[str, Path]
    ends: list[Checkpoint]

    def kept_of(self, name: str, folder: Path) -> Path:
        """A copy that a test may use up."""
        CheckpointFile(folder).store((self.kept[name] / "last-signed").read_bytes())
        return folder


@pytest.fixture(scope="module")
def story(
    postgres_server: PostgresHandle, migrated_template: DatabaseUrls, broker: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    urls = fresh_database(postgres_server, "followed", template=migrated_template.name)
    with pytest.MonkeyPatch.context() as told, application(urls) as sessions:
        logs = Followed(urls, sessions, tmp_path_factory.mktemp("followed"), broker, told)
        try:
            logs.start()
            yield told_of(logs, tmp_path_factory.mktemp("states"))
            print(logs.processes.log_of("api")[-4000:])
        finally:
            logs.processes.stop()
    get_settings.cache_clear()
    drop_database(postgres_server, urls.name)


def told_of(logs: Followed, states: Path) -> Story:
    """Everything that happens."""
    aoi, _ = logs.found("検証株式会社", "aoi"), logs.found("試験株式会社", "kenji")
    for name in ("haru", "mei", "ren"):
        logs.create(aoi, name)
    ends, origins, kept = [logs.seal()], [logs.origin], {name: states / name for name in ("held", "lost", "second")}
    assert logs.look(kept["held"]).code == 0
    with logs.monitor(states / "always") as always:
        reports = [always.round()]
    logs.back_up()
    # What the restore takes back: a row's last change, and a row.
    logs.disable(aoi, "haru")
    logs.create(aoi, "sora")
    ends.append(logs.seal())
    assert logs.look(kept["lost"]).code == 0
    logs.restore()
    # Nobody ever signed for it, and the next log carries it.
    logs.disable(aoi, "mei")
    logs.succeed(FIRST)
    origins.append(logs.origin)
    logs.create(aoi, "yuki")
    logs.seal()
    assert logs.look(kept["second"]).code == 0
    # One that knows beforehand which key comes next, and never stops.
    with logs.monitor(states / "always", trust=logs.trust(logs=[*logs.logs, logs.next_key()])) as always:
        reports += [always.round(), always.round()]
        logs.back_up()
        logs.create(aoi, "tsubasa")
        ends.append(logs.seal())
        logs.restore()
        logs.succeed(SECOND)
        origins.append(logs.origin)
        logs.disable(aoi, "ren")
        logs.seal()
        reports += [always.round(), always.round()]
    return Story(logs, origins, reports, kept, ends)


def codes(report: Report) -> list[str]:
    return [one.code for one in report.findings]


def test_an_honest_succession_is_said_once_and_is_no_incident(story: Story) -> None:
    before, after, again, live, _ = story.reports
    assert (codes(before), before.unseen, before.follows, before.origin) == ([], None, [], story.origins[0])
    assert (codes(after), after.unseen, after.origin) == ([], None, story.origins[1])
    (said,) = after.news
    held, lost = story.ends[0].size, story.ends[1].size - story.ends[0].size
    assert (said.origin, said.old_origin, said.held_size, said.lost, said.reason) == (story.origins[1], story.origins[0], held, lost, FIRST)
    # The stop, and what was done while nothing was signed.
    assert said.carried == 2
    assert sorted(said.administrators) == sorted(key.name for key in story.logs.admins)
    assert after.ended == {story.origins[0]: held}
    assert (again.code, again.news, again.follows) == (0, [], after.follows)
    # The second one while the monitor was running.
    assert (codes(live), live.unseen, live.origin) == ([], None, story.origins[2])
    assert [[one.reason for one in found] for found in (live.follows, live.news, story.reports[4].news)] == [[FIRST, SECOND], [SECOND], []]


@pytest.mark.parametrize("kept", ["held", "lost", "second", None])
def test_two_successions_are_followed_from_whatever_was_kept(story: Story, tmp_path: Path, kept: str | None) -> None:
    report = story.logs.look(story.kept_of(kept, tmp_path) if kept else tmp_path)
    assert (codes(report), report.unseen, report.origin) == ([], None, story.origins[2])
    assert [one.old_origin for one in report.follows] == story.origins[:2]
    assert [one.reason for one in report.news] == ([SECOND] if kept == "second" else [FIRST, SECOND])
    # The rows are those of three logs: what the restore took back is in none of them.
    assert report.rows["user"] == len(["aoi", "kenji", "haru", "mei", "ren", "yuki"])
    again = story.logs.look(tmp_path)
    assert (again.code, again.news, len(again.follows)) == (0, [], 2)
    # What was kept of a log that has ended stays as evidence.
    assert len(list(tmp_path.glob("last-signed-of-*"))) == (1 if kept else 0)


def test_a_succession_that_was_read_in_a_round_that_begins_anew_is_said_all_the_same(story: Story, tmp_path: Path) -> None:
    with story.logs.monitor(tmp_path) as monitor:
        # As in a round that finds the log succeeded when it has read it: what is kept knows of the successions then, and nothing was said.
        monitor._logs.grow(lambda _entry: None)  # between two questions of one round
        monitor._begin()  # as above
        assert [[one.reason for one in monitor.round().news] for _ in range(2)] == [[FIRST, SECOND], []]


def test_the_process_says_it_in_one_line_each_and_only_once(story: Story, tmp_path: Path) -> None:
    (tmp_path / "trust").write_text(story.logs.trust())
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RINGI_")}
    told = clean | {"RINGI_MONITOR_TOKEN": MONITOR_TOKEN, "RINGI_MONITOR_DATABASE_URL": story.logs.urls.superuser_url}
    command = [sys.executable, "-m", "ringi.monitor", "--server", story.logs.processes.server, "--trust", str(tmp_path / "trust")]
    command += ["--state", str(tmp_path / "state")]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["FOLLOWS ringi-monitor", "FOLLOWS ringi-monitor", "FINE ringi-monitor"]
    assert f"{story.origins[1]} follows {story.origins[0]}, which had" in lines[0]
    assert FIRST in lines[0]
    again = subprocess.run([*command, "--json"], env=told, capture_output=True, text=True, check=False, timeout=120)
    found = json.loads(again.stdout)
    assert (found["ok"], found["news"], [one["reason"] for one in found["follows"]]) == (True, [], [FIRST, SECOND])


def test_a_row_that_only_an_ended_log_speaks_of_is_watched_too(story: Story, tmp_path: Path) -> None:
    logs, person = story.logs, story.logs.user("haru")
    logs.superuser(f"UPDATE users SET disabled_at = now() WHERE id = '{person}'")
    try:
        (found,) = logs.look(tmp_path).findings
    finally:
        logs.superuser(f"UPDATE users SET disabled_at = NULL WHERE id = '{person}'")
    assert (found.code, found.kind, found.id, found.field, found.origin) == ("row_differs", "user", person, "disabled", story.origins[0])
    assert f"of {story.origins[0]} (user.create) says False" in found.message
    # And one whose last change was carried: the newer log speaks of it.
    carried = logs.user("mei")
    logs.superuser(f"UPDATE users SET disabled_at = NULL WHERE id = '{carried}'")
    try:
        (found,) = logs.look(tmp_path).findings
    finally:
        logs.superuser(f"UPDATE users SET disabled_at = now() WHERE id = '{carried}'")
    assert (found.code, found.id, found.origin) == ("row_differs", carried, story.origins[1])
    assert logs.look(tmp_path).code == 0


def attacks(ends: dict[str, bytes]) -> dict[str, tuple[str, list[str]]]:
    """What is done to the first log after it has ended, and what the monitor says."""
    body = "(SELECT event_id FROM audit_leaf WHERE generation = 1 AND leaf_index = 3)"
    other = "convert_to(replace(convert_from(body, 'UTF8'), 'human', 'robot'), 'UTF8')"
    of_the_log = "id IN (SELECT event_id FROM audit_leaf WHERE generation = 1)"
    return {
        "an entry with other bytes": (
            "entry_changed",
            [
                f"UPDATE audit_event SET body = {other}, leaf_hash = sha256('\\x00'::bytea || {other}) WHERE position('user.create' IN convert_from(body, 'UTF8')) > 0 AND {of_the_log}"
            ],
        ),
        "an entry that is gone": ("entry_missing", [f"DELETE FROM audit_event WHERE id = {body}"]),
        "an end that nobody shows": ("log_shortened", ["DELETE FROM audit_checkpoint WHERE generation = 1"]),
        "a log that is not listed": ("log_shortened", ["DELETE FROM audit_origin WHERE generation = 1"]),
        "entries in other places": (
            "root_not_signed",
            [
                "UPDATE audit_leaf SET leaf_index = 1000 WHERE generation = 1 AND leaf_index = 3",
                "UPDATE audit_leaf SET leaf_index = 3 WHERE generation = 1 AND leaf_index = 4",
                "UPDATE audit_leaf SET leaf_index = 4 WHERE generation = 1 AND leaf_index = 1000",
            ],
        ),
    } | {
        f"another end: {code}": (code, [f"UPDATE audit_checkpoint SET note = '\\x{note.hex()}'::bytea WHERE generation = 1"])
        for code, note in ends.items()
    }  # fmt: skip


def test_what_is_done_to_a_log_after_it_has_ended_is_found(story: Story, tmp_path: Path) -> None:
    logs, wrong = story.logs, {}
    state = story.kept_of("second", tmp_path)
    assert logs.look(state).code == 0
    # Signed by the old key: what it says must be what the newer log's first entry says of it.
    ends = {"log_shortened": story.ends[0].size - 1, "split_view": story.ends[0].size}
    notes = {code: sign_checkpoint(Checkpoint(story.origins[0], size, bytes(32)), logs.signers[0]) for code, size in ends.items()}
    for name, (code, statements) in attacks(notes).items():
        with logs.put_back():
            logs.superuser(*statements)
            report = logs.look(state)
        if codes(report) != [code]:
            wrong[name] = (codes(report), report.unseen)
    assert wrong == {}
    assert logs.look(state).code == 0


def test_an_entry_of_another_log_is_none_of_those_that_were_carried(story: Story, tmp_path: Path) -> None:
    """What the ended log said once would be said anew: an account that was closed since would be open."""
    logs, old = story.logs, "id = (SELECT event_id FROM audit_leaf WHERE generation = 1 ORDER BY leaf_index LIMIT 1)"
    same = "body, leaf_hash, ts, action, outcome, actor_type, actor_id, object_type, object_id"
    state = story.kept_of("second", tmp_path)
    with logs.put_back():
        logs.superuser(
            f"INSERT INTO audit_event (event_id, {same}) SELECT gen_random_uuid(), {same} FROM audit_event WHERE {old}",
            "INSERT INTO audit_pending (event_id) SELECT max(id) FROM audit_event",
        )
        logs.seal()
        report = logs.look(state)
    assert codes(report) == ["entry_foreign"]
    assert f"was written for the log '{story.origins[0]}'" in report.findings[0].message
    assert logs.look(state).code == 0


def test_who_kept_more_than_the_opening_admits_or_something_else_is_not_calmed(story: Story, tmp_path: Path) -> None:
    held, last = story.ends[0], story.ends[1]
    origin, signer = story.origins[0], story.logs.signers[0]
    forged = {
        "loss_understated": Checkpoint(origin, last.size + 1, bytes(32)),
        "split_view": Checkpoint(origin, last.size, bytes(32)),
    }
    kept = CheckpointFile(tmp_path)
    # The old key is for the sizes of its log alone: here the monitor has it from a trust file without bounds.
    trust = story.logs.trust(logs=[line for line in story.logs.logs if not line.startswith("#sizes")])
    for code, checkpoint in [*forged.items(), ("split_view", Checkpoint(origin, held.size - 1, bytes(32)))]:
        note = sign_checkpoint(checkpoint, signer)
        kept.store(note)
        assert codes(story.logs.look(tmp_path, trust=trust)) == [code]
        # An incident is not forgotten at the next look.
        assert kept.read() == note


def test_administrators_whom_the_trust_file_does_not_list_open_nothing(story: Story, tmp_path: Path) -> None:
    logs = story.logs
    strangers = [new_admin_key(uuid4()) for _ in range(2)]
    for name, admins in (("strangers", strangers), ("one", logs.admins[:1]), ("nobody", [])):
        for state in (story.kept_of("second", tmp_path / name), tmp_path / f"new-{name}"):
            report = logs.look(state, trust=logs.trust(admins=admins))
            assert (codes(report), report.news) == (["opening_invalid"], [])
            assert "two must have" in report.findings[0].message


def test_a_log_that_does_not_follow_the_one_that_was_kept_has_replaced_it(story: Story, tmp_path: Path) -> None:
    other = Signer.generate("other.example/audit/1")
    CheckpointFile(tmp_path).store(sign_checkpoint(Checkpoint(other.name, 7, bytes(32)), other))
    report = story.logs.look(tmp_path, trust=story.logs.trust(logs=[*story.logs.logs, f"log {other.verifier}"]))
    assert codes(report) == ["log_replaced"]
    # Nor is it enough to go back to the log that went before.
    newer = Signer.generate(story.origins[2].replace("/3", "/4"))
    CheckpointFile(tmp_path).store(sign_checkpoint(Checkpoint(newer.name, 7, bytes(32)), newer))
    report = story.logs.look(tmp_path, trust=story.logs.trust(logs=[*story.logs.logs, f"log {newer.verifier}"]))
    assert codes(report) == ["log_replaced"]


def test_a_log_that_the_trust_file_does_not_list_blinds_it_and_it_says_which_lines_are_missing(story: Story, tmp_path: Path) -> None:
    logs = story.logs
    first, second = logs.printed
    for kept, listed in (("second", [*first]), ("held", first[:1]), (None, first[:1])):
        state = story.kept_of(kept, tmp_path / kept) if kept else tmp_path / "new"
        report = logs.look(state, trust=logs.trust(logs=listed))
        assert (report.code, codes(report)) == (2, [])
        assert report.unseen is not None
        assert all(line in report.unseen for line in second), report.unseen
        assert logs.look(state).code == 0
    # The line of a log that has ended must stay.
    report = logs.look(story.kept_of("second", tmp_path / "gone"), trust=logs.trust(logs=[second[-1]]))
    assert report.code == 2
    assert story.origins[1] in (report.unseen or "")
    # What administrators did not approve is no reason to add a line.
    report = logs.look(story.kept_of("second", tmp_path / "strangers"), trust=logs.trust(logs=first, admins=[]))
    assert codes(report) == ["opening_invalid"]
