"""Which looks are asked for in one sweep: however many adapters a channel serves, each sweep is one that can be asked for."""

from ringi.adapters.models import AdapterVersion
from ringi.kit.ids import uuid7
from ringi.measurements.schemas import MAX_ARMS, RequestSweep
from ringi.watches.looking import VERSIONS_AT_ONCE, grouped
from ringi.watches.models import WatchLook


def test_no_sweep_has_more_versions_than_a_sweep_takes_beside_its_baseline() -> None:
    base, other = uuid7(), uuid7()
    versions = [AdapterVersion(id=uuid7(), number=1, base_revision_id=base) for _ in range(2 * MAX_ARMS + 3)]
    elsewhere = AdapterVersion(id=uuid7(), number=1, base_revision_id=other)
    # The first one is live on two channels: it is measured once.
    looks = [WatchLook(channel="本番", version=one) for one in versions]
    looks += [WatchLook(channel="検証", version=versions[0]), WatchLook(channel="本番", version=elsewhere)]
    found = grouped(looks)
    sizes = [len({one.version.id for one in group if one.version}) for group in found]
    assert sizes == [VERSIONS_AT_ONCE, VERSIONS_AT_ONCE, 5, 1]
    assert [len({one.version.base_revision_id for one in group if one.version}) for group in found] == [1, 1, 1, 1]
    assert [one.channel for group in found for one in group if one.version is versions[0]] == ["本番", "検証"]
    assert sorted(id(one) for group in found for one in group) == sorted(map(id, looks))
    for size in sizes:
        RequestSweep(suite="quality:v1", versions=[f"bot{number}:v1" for number in range(size)] + ["bot:v1"])


def test_looks_at_nothing_are_asked_for_in_no_sweep() -> None:
    assert grouped([]) == []
    assert grouped([WatchLook(channel="本番")]) == []
