"""Our bytes are the standard's: code that is not ours (Go's sumdb/note and sumdb/tlog) reads what we export and serve, and refuses what was changed.

The end of the run says `independent verifier: ran`, or SKIPPED and why; figures that are published need `ran`.
"""

import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from audit.independent.toolchain import Missing, build
from audit.test_bundle import members_of, rebuild
from ringi.audit import service
from ringi.audit.export import is_sealed
from ringi.audit.note import Signer, cosign
from ringi.audit.ringi_verify import COSIGNATURE, parse_policy, verify_bundle
from ringi.audit.schemas import AuditAction
from ringi.kit.actor import system_actor
from support.running_platform import MONITOR_TOKEN, Platform
from support.waiting import until

AT = 1_763_820_000
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path | str:
    try:
        return build(tmp_path_factory.mktemp("independent"))
    except Missing as why:
        return str(why)


@pytest.fixture
def independent(program: Path | str, record_property: Callable[[str, object], None]) -> Run:
    """Runs the verifier with these options."""
    record_property("independent verifier", "ran" if isinstance(program, Path) else f"SKIPPED ({program})")
    if not isinstance(program, Path):
        pytest.skip(f"independent verifier: SKIPPED ({program})")

    def run(**options: object) -> subprocess.CompletedProcess[str]:
        command = [str(program), *(f"-{name}={value}" for name, value in options.items())]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run


class Log(NamedTuple):
    """A log on a running platform with more entries than one tile holds."""

    platform: Platform
    vkey: str
    bundle: Path
    older: Path
    proof: Path


@pytest.fixture
def log(platform: Platform, tmp_path: Path) -> Log:
    auditor, older, bundle, proof = platform.as_("auditor"), tmp_path / "older", tmp_path / "bundle.zip", tmp_path / "one.tlog-proof"
    engine = create_engine(platform.processes.urls.app_url)
    with Session(engine) as session:

        def write(count: int) -> None:
            for number in range(count):
                service.record(session, system_actor("試験"), AuditAction.CHANNEL_CREATE, object_type="channel", object_id=f"一{number}")
            session.commit()
            until(lambda: is_sealed(session))

        write(3)
        older.write_text(auditor.audit.log_checkpoint(), encoding="utf-8")
        write(300)
    engine.dispose()
    with bundle.open("wb") as out:
        auditor.audit.export(out)
    # The export's own entry may have its place and no signature yet.
    size = int(auditor.audit.log_checkpoint().split("\n")[1])
    newest = next(entry for entry in auditor.audit.events() if entry.index is not None and entry.index < size)
    proof.write_text(auditor.audit.proof(newest.event_id), encoding="utf-8")
    return Log(platform, auditor.audit.key().vkey, bundle, older, proof)


def test_gos_checksum_database_code_accepts_our_bundle_checkpoint_proof_and_every_served_tile(independent: Run, log: Log) -> None:
    done = independent(
        bundle=log.bundle, vkey=log.vkey, old=log.older, proof=log.proof, url=f"{log.platform.server}/api/v1/audit/log", token=MONITOR_TOKEN
    )
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["VERIFIED"]), done.stdout + done.stderr
    for said in ("to the signed root", "consistent with", "proof of entry", "served tiles"):
        assert said in done.stdout


def test_it_accepts_a_cosignature_of_our_witness_key_and_asks_for_it(independent: Run, log: Log, tmp_path: Path) -> None:
    members, witness = members_of(log.bundle), Signer.generate("witness.example/w1", kind=COSIGNATURE)
    cosigned = members["checkpoint"] + cosign(members["checkpoint"], witness, at=AT)
    path = rebuild(tmp_path / "cosigned.zip", members | {"checkpoint": cosigned})
    done = independent(bundle=path, vkey=log.vkey, witness=witness.verifier)
    assert (done.returncode, "keys 2" in done.stdout) == (0, True), done.stdout
    trust = parse_policy(f"log {log.vkey}\nwitness 証人 {witness.verifier}\nquorum 証人\n".encode())
    report = verify_bundle(path, trust)
    assert (report.problems, report.witnesses) == ([], ["証人"])
    assert independent(bundle=log.bundle, vkey=log.vkey, witness=witness.verifier).returncode == 1
    assert [problem.code for problem in verify_bundle(log.bundle, trust).problems] == ["audit_quorum_missing"]


@pytest.mark.parametrize("count", [24, pytest.param(2000, marks=pytest.mark.proof)])
def test_it_refuses_every_changed_byte_that_our_verifier_refuses(independent: Run, log: Log, tmp_path: Path, count: int) -> None:
    members, choose, path = members_of(log.bundle), random.Random(count), tmp_path / "forged.zip"
    for number in range(count):
        name = ("checkpoint", "entries.bin", "leaves.bin", "nodes.bin")[number % 4]
        data = members[name]
        at = choose.randrange(len(data))
        rebuild(path, members | {name: data[:at] + bytes([data[at] ^ choose.randrange(1, 256)]) + data[at + 1 :]})
        assert not verify_bundle(path, log.vkey).ok, (name, at)
        done = independent(bundle=path, vkey=log.vkey)
        assert done.returncode != 0, (name, at, done.stdout)
