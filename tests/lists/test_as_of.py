"""What `:production` meant on a given day, and the whole history of every channel."""

import pytest
from sqlalchemy import select, update

from lists.conftest import OCTOBER, Filled
from lists.world import Tenant
from ringi.base_models.models import BaseRevision
from ringi.jobs.models import Job
from support.refusals import refused


def meant(filled: Filled, selector: str, adapter: str = "bot") -> str:
    return filled.acme.as_("aiko").adapters.version("risk", adapter, selector).reference.rpartition(":")[2]


@pytest.mark.parametrize(
    ("time", "version"),
    [
        ("2025-10-01T09:30:00Z", "v1"),
        ("2025-10-02", "v1"),
        ("2025-10-10", "v1"),
        ("2025-10-10T09:29:59.999999Z", "v1"),
        ("2025-10-10T09:30Z", "v2"),
        ("2025-10-10T18:30:00+09:00", "v2"),
        ("2025-10-19T23:59", "v2"),
        ("2025-10-21", "v3"),
    ],
)
def test_a_channel_meant_what_it_served_at_that_moment(filled: Filled, time: str, version: str) -> None:
    assert meant(filled, f"production@{time}") == version


def test_channels_have_pasts_of_their_own_and_a_beginning(filled: Filled) -> None:
    assert meant(filled, "staging@2025-10-11") == "v3"
    assert meant(filled, "production") == meant(filled, "latest") == "v3"
    assert meant(filled, "production@2025-10-21", adapter="mail") == "v1"
    for selector in ("production@2025-09-30", "staging@2025-10-02", "nowhere@2025-10-21", "latest@2025-10-01"):
        with refused("not_found", 404):
            meant(filled, selector)
    with refused("not_found", 404):
        meant(filled, "production@2025-10-11", adapter="mail")


def test_the_latest_revision_of_a_base_was_the_newest_that_was_sealed_by_then(fresh: Tenant) -> None:
    with fresh.sessions.begin() as session:
        base = fresh.base(session, "tiny", revisions=2)
        for revision in session.scalars(select(BaseRevision).where(BaseRevision.base_model_id == base.id)):
            session.execute(update(Job).where(Job.id == revision.job_id).values(finished_at=OCTOBER[revision.number]))
    bases = fresh.as_("aiko").bases
    assert [bases.revision("tiny", f"latest@2025-10-{day}").number for day in (11, 21)] == [1, 2]
    for selector, code, status in (
        ("latest@2025-10-01", "not_found", 404), ("production@2025-10-21", "not_found", 404), ("sha256:", "not_found", 404),
        ("r1@2025-10-21", "bad_as_of", 422), ("latest@2999-01-01", "bad_as_of", 422), ("latest@yesterday", "bad_as_of", 422),
    ):  # fmt: skip
        with refused(code, status):
            bases.revision("tiny", selector)


def test_a_past_selector_is_taken_wherever_a_selector_is(filled: Filled) -> None:
    client = filled.acme.as_("aiko")
    assert client.releases.standing("risk", "bot", "production@2025-10-02").version == "risk/bot:v1"
    assert [one.version for one in client.evaluations.all("risk", "bot", "production@2025-10-11")] == ["risk/bot:v2"]


def test_the_whole_history_of_every_channel_is_one_list(filled: Filled) -> None:
    client = filled.acme.as_("aiko")
    moves = list(client.releases.all_history("risk", filter=["channel=production"], sort="created_at,sequence"))
    assert [(one.channel, one.version, one.previous, one.created_at) for one in moves if "bot" in one.version] == [
        ("production", "risk/bot:v1", None, OCTOBER[0]),
        ("production", "risk/bot:v2", "risk/bot:v1", OCTOBER[1]),
        ("production", "risk/bot:v3", "risk/bot:v2", OCTOBER[2]),
    ]
    assert client.releases.all_history("risk").count().total == 5
    assert [one.version for one in client.releases.all_history("risk", q="品質", filter=["channel=staging"])] == ["risk/bot:v3"]


def test_what_every_channel_served_at_a_time_is_the_same_list_as_of_then(filled: Filled) -> None:
    def served(time: str) -> set[tuple[str, str]]:
        return {(one.channel, one.version) for one in filled.acme.as_("aiko").releases.all_history("risk", as_of=time)}

    assert served("2025-09-30") == set()
    assert served("2025-10-05") == {("production", "risk/bot:v1")}
    assert served("2025-10-11") == {("production", "risk/bot:v2"), ("staging", "risk/bot:v3")}
    assert served("2025-10-21") == {("production", "risk/bot:v3"), ("production", "risk/mail:v1"), ("staging", "risk/bot:v3")}
