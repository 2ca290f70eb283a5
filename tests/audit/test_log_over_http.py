"""The log under its tlog-tiles paths, proofs of entries, and samples, over HTTP: who gets what, and that it all leads to the signed root."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from ringi.audit import service
from ringi.audit.export import is_sealed
from ringi.audit.ringi_verify import (
    HASH_BYTES,
    Checkpoint,
    SampleRule,
    VerifierKey,
    decode_base64,
    draw,
    leaf_hash,
    open_checkpoint,
    root_of,
    verify_bundle,
    verify_consistency,
    verify_proof,
)
from ringi.audit.schemas import AuditAction
from ringi.audit.tiles import TILE_WIDTH, Tile, tiles_of
from ringi.kit.actor import system_actor
from support.running_platform import MONITOR_TOKEN, Platform, Processes, new_organization
from support.waiting import until

LOG = "/audit/log"


@dataclass
class World:
    """A log of two organisations and of entries of nobody, sealed under a checkpoint; `platform` is the organisation that looks."""

    platform: Platform
    other: Platform
    key: VerifierKey
    foreign: list[UUID]

    def monitor(self, path: str, token: str = MONITOR_TOKEN) -> httpx.Response:
        return httpx.get(f"{self.platform.server}/api/v1{LOG}/{path}", headers={"Authorization": f"Bearer {token}"}, timeout=60)

    def checkpoint(self) -> Checkpoint:
        return open_checkpoint(self.monitor("checkpoint").content, self.key)

    def tile(self, tile: Tile) -> bytes:
        answer = self.monitor(f"tile/{tile.path}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/octet-stream"), answer.text
        return answer.content


@pytest.fixture(scope="module")
def world(shared_platform: Processes) -> Iterator[World]:
    engine = create_engine(shared_platform.urls.app_url)
    with new_organization(shared_platform) as platform, new_organization(shared_platform) as other, Session(engine) as session:
        for _ in range(260):
            service.record(session, system_actor("試験"), AuditAction.CHANNEL_CREATE, object_type="channel", object_id=str(uuid4()))
        session.commit()
        until(lambda: is_sealed(session))
        foreign = [entry.event_id for entry in other.as_("auditor").audit.events()]
        yield World(platform, other, VerifierKey.parse(platform.as_("auditor").audit.key().vkey), foreign)
    engine.dispose()


def framed(data: bytes) -> list[bytes]:
    entries = []
    while data:
        end = 2 + int.from_bytes(data[:2], "big")
        entries.append(data[2:end])
        data = data[end:]
    return entries


def test_the_monitor_replays_every_entry_and_tile_to_the_signed_root(world: World) -> None:
    checkpoint = world.checkpoint()
    leaves: list[bytes] = []
    above: dict[Tile, bytes] = {}
    for tile in tiles_of(checkpoint.size):
        content = world.tile(tile)
        if tile.level is None:
            entries = framed(content)
            assert len(entries) == tile.width
            leaves += [leaf_hash(entry) for entry in entries]
        elif tile.level == 0:
            assert content == b"".join(leaves[tile.start : tile.start + tile.width])
        else:
            above[tile] = content
    assert root_of(leaves) == checkpoint.root
    assert above
    for tile, content in above.items():
        assert content == b"".join(
            root_of(leaves[number * TILE_WIDTH : (number + 1) * TILE_WIDTH]) for number in range(tile.start, tile.start + tile.width)
        )


def test_an_auditor_gets_all_hashes_and_only_the_entries_of_their_own_organisation(world: World) -> None:
    size = world.checkpoint().size
    auditor = world.platform
    own = {str(entry.event_id).encode() for entry in auditor.as_("auditor").audit.events()}
    seen = b""
    for tile in [one for one in tiles_of(size) if one.level in {None, 0}]:
        answer = auditor.call("auditor", "GET", f"{LOG}/tile/{tile.path}")
        assert answer.status_code == 200
        if tile.level == 0:
            assert answer.content == world.tile(tile)
            continue
        shown, whole = framed(answer.content), framed(world.tile(tile))
        assert [one or other for one, other in zip(shown, whole, strict=True)] == whole
        seen += b"".join(shown)
    assert all(event in seen for event in own)
    assert not any(str(event).encode() in seen for event in world.foreign)
    assert "試験".encode() not in seen


def test_a_database_of_one_log_serves_it_under_its_number_and_exports_it_by_its_name(world: World, tmp_path: Path) -> None:
    auditor = world.platform.as_("auditor").audit
    (only,) = auditor.logs()
    assert (only.number, only.origin, only.vkey) == (1, auditor.key().origin, None)
    for path in ("tile/0/000", "tile/entries/000"):
        numbered = world.monitor(f"../logs/1/{path}")
        assert (numbered.status_code, numbered.content) == (200, world.monitor(path).content)
    for path in ("checkpoint", "tile/0/000"):
        missing = world.platform.call("auditor", "GET", f"/audit/logs/2/{path}")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    bundle = tmp_path / "log.zip"
    with bundle.open("wb") as out:
        auditor.export(out, origin=only.origin)
    assert verify_bundle(bundle, auditor.key().vkey).ok
    assert world.platform.call("auditor", "POST", "/audit/export?origin=other.example/audit/1").status_code == 404


def test_nobody_else_reads_the_log(world: World) -> None:
    for path in ("checkpoint", "tile/0/000", "tile/entries/000"):
        assert world.monitor(path).status_code == 200
        assert world.monitor(path, token=f"{MONITOR_TOKEN}x").status_code == 401
        assert world.platform.call(None, "GET", f"{LOG}/{path}").status_code == 401
        for user in ("contributor", "viewer", "deployer", "admin"):
            answer = world.platform.call(user, "GET", f"{LOG}/{path}")
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), user
    # The monitor's token opens the log and nothing beside it.
    for path in ("/audit/events", "/audit/sample", "/projects"):
        answer = httpx.get(f"{world.platform.server}/api/v1{path}", headers={"Authorization": f"Bearer {MONITOR_TOKEN}"})
        assert answer.status_code == 401, path


def test_only_what_is_signed_is_served_and_a_full_tile_is_kept_for_ever(world: World) -> None:
    size = world.checkpoint().size
    full = world.monitor("tile/0/000")
    assert "immutable" in full.headers["cache-control"]
    assert "private" in full.headers["cache-control"]
    last = [tile for tile in tiles_of(size) if tile.level == 0][-1]
    if last.width < TILE_WIDTH:
        assert "immutable" not in world.monitor(f"tile/{last.path}").headers["cache-control"]
    # Others write to the same log: what is asked for lies far beyond it, or is no tile at all.
    beyond = Tile(0, size // TILE_WIDTH + 100, TILE_WIDTH)
    for path in (
        beyond.path,
        Tile(None, beyond.number, 1).path,
        "8/000.p/1",
        "0/0",
        "0/000.p/256",
        "00/000",
        "data/000",
    ):
        assert world.monitor(f"tile/{path}").status_code == 404, path
    assert full.content == world.monitor("tile/0/000").content
    assert world.monitor(f"tile/{Tile(0, 0, 7).path}").content == full.content[: 7 * HASH_BYTES]


def test_an_entry_of_ones_own_is_proven_by_one_file_and_a_foreign_one_is_not_there(world: World) -> None:
    auditor = world.platform.as_("auditor").audit
    entry = next(one for one in auditor.events(action="user.create") if one.index is not None)
    proven = verify_proof(auditor.proof(entry.event_id).encode(), str(world.key))
    assert (proven.leaf, str(entry.event_id) in proven.entry.decode()) == (entry.index, True)
    for event in (world.foreign[0], uuid4()):
        answer = world.platform.call("auditor", "GET", f"/audit/events/{event}/proof")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_later_log_is_proven_to_extend_an_earlier_one(world: World) -> None:
    auditor, before = world.platform.as_("auditor").audit, world.checkpoint()
    world.platform.as_("admin").identity.create_project(f"p-{uuid4().hex[:6]}")
    until(lambda: world.checkpoint().size > before.size)
    found = auditor.consistency(before.size)
    assert found.checkpoint is not None
    now = open_checkpoint(found.checkpoint.encode(), world.key)
    assert (found.old, found.new, now.size > before.size) == (before.size, now.size, True)
    assert verify_consistency(before.size, now.size, before.root, now.root, [decode_base64(one) for one in found.proof])
    for query in (f"old={now.size + 10_000}", f"old=5&new={now.size + 10_000}", "old=5&new=4"):
        answer = world.platform.call("auditor", "GET", f"/audit/consistency?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "audit_sizes_out_of_order")


def test_a_sample_is_counted_and_can_be_drawn_again_from_the_export(world: World, tmp_path: Path) -> None:
    auditor = world.platform.as_("auditor").audit
    found = auditor.sample(action="user.create", size=3, seed="監査-7".encode().hex())
    checkpoint = open_checkpoint(found.checkpoint.encode(), world.key)
    every = sorted(
        entry.index for entry in auditor.events(action="user.create") if entry.index is not None and entry.index < checkpoint.size
    )
    assert (found.population, found.first, found.last) == (len(every), every[0], every[-1])
    assert [entry.index for entry in found.entries] == draw(found.seed, checkpoint.root, every, 3).leaves
    assert {entry.action for entry in found.entries} == {"user.create"}
    bundle = tmp_path / "bundle.zip"
    with bundle.open("wb") as out:
        auditor.export(out)
    # The log may have grown between the two, as others write to it: draw under the bundle's own checkpoint.
    report = verify_bundle(bundle, str(world.key), rule=SampleRule(found.seed, 3, "user.create", found.since, found.until))
    assert (report.problems, report.sample is not None and report.sample.population) == ([], len(every))
    if report.root == checkpoint.root.hex():
        assert report.sample is not None
        assert report.sample.leaves == [entry.index for entry in found.entries]


def test_a_population_has_bounds_in_time_and_may_be_smaller_than_the_sample(world: World) -> None:
    auditor = world.platform.as_("auditor").audit
    # Bounded: what was done a moment ago may be signed between two questions.
    end = auditor.sample(size=200).entries[-1].ts.isoformat()
    everything = auditor.sample(until=end, size=200)
    assert 2 < everything.population == len(everything.entries)
    middle = everything.entries[len(everything.entries) // 2].ts.isoformat()
    early, late = auditor.sample(until=middle, size=200, seed="s"), auditor.sample(since=middle, until=end, size=200, seed="s")
    assert early.population + late.population == everything.population
    assert {entry.event_id for entry in late.entries} == {entry.event_id for entry in everything.entries if entry.ts.isoformat() >= middle}
    nothing = auditor.sample(until="2020-01-01")
    assert (nothing.population, nothing.first, nothing.last, nothing.entries) == (0, None, None, [])
    for query in ("from=yesterday", "from=2026-02-30"):
        answer = world.platform.call("auditor", "GET", f"/audit/sample?{query}")
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_time")


def test_entries_are_found_by_actor_action_object_outcome_project_place_and_time(world: World) -> None:
    auditor = world.platform.as_("auditor").audit
    entry = next(one for one in auditor.events(action="membership.grant"))
    assert entry.index is not None
    engine = create_engine(world.platform.processes.urls.app_url)
    with engine.connect() as connection:
        actor = connection.scalar(text("SELECT actor_id FROM audit_event WHERE event_id = :id"), {"id": entry.event_id})
    engine.dispose()
    exact = [
        f"actor_id={actor}", f"user={entry.actor}", f"action={entry.action}", f"object_type={entry.object_type}", f"object_id={entry.object_id}",
        "outcome=ok", f"index={entry.index}", f"ts>={entry.ts.isoformat()}", f"ts<={entry.ts.isoformat()}",
    ]  # fmt: skip
    assert [one.event_id for one in auditor.events(filter=exact)] == [entry.event_id]
    assert list(auditor.events(filter=["outcome=denied", f"index={entry.index}"])) == []
    page = world.platform.call("auditor", "GET", f"/audit/events?filter=project={world.platform.project}&limit=1&count=true").json()
    assert (len(page["items"]), page["total_exact"]) == (1, True)
    assert page["total"] == len(list(auditor.events(filter=[f"project={world.platform.project}"])))


def test_the_draw_is_the_documented_one() -> None:
    root, population = hashlib.sha256(b"root").digest(), list(range(100, 200))
    prefix = b"ringi-audit-sample/1\nseed\n" + b"SBNJTRN+FjG7owHVrKtue7eqdM4RhdRWVl71HXN2d7I=" + b"\n"
    found = draw("seed", root, population, 5)
    by_hand = sorted(population, key=lambda leaf: hashlib.sha256(prefix + str(leaf).encode() + b"\n").digest())[:5]
    assert (found.population, found.first, found.last) == (100, 100, 199)
    assert found.leaves == sorted(by_hand)
    assert draw("other", root, population, 5).leaves != found.leaves
    assert draw("seed", root, population, 500).leaves == population
