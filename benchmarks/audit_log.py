"""The audit log's cost and its proofs: `python -m benchmarks.audit_log [ENTRIES] [SECONDS] [GO_VERIFIER]`.

1. A bundle of ENTRIES (1,000,000) events as `audit.service` writes them, made without a database: building the tree, writing the file, verifying it
   with `ringi-verify` and, where the program built from tests/audit/independent is named, with Go; inclusion and consistency proofs made and verified.
2. The same small update by 8 and 32 clients, SECONDS (3) each, five rounds: without an event, with an event and its queue row (two-phase, what the platform does;
   one sequencer process runs beside), and with the index taken inside the transaction under the head's lock (what it does not do).
3. How long an event waits for its place while 500 a second are written, and how fast a sequencer works off 100,000 that wait.
Prints what it measured and what machine it is on; compare only within one run. Ends with one line of figures, ratios first.
"""

import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import rfc8785

from benchmarks.audit_appends import appends
from benchmarks.audit_events import ORIGIN, events, now, said
from ringi.audit.container import BundleWriter
from ringi.audit.merkle import consistency_proof, inclusion_proof
from ringi.audit.note import Signer, sign_checkpoint
from ringi.audit.ringi_verify import FORMAT, Checkpoint, Frontier, leaf_hash, verify_bundle, verify_consistency, verify_inclusion
from ringi.embedded import postgres

ROOT = Path(__file__).parents[1]
PROOFS = 5000


def write_bundle(path: Path, count: int, signer: Signer) -> tuple[Frontier, dict[tuple[int, int], bytes]]:
    """The file that an export of these events would be."""
    began = now()
    entries = list(events(count))
    said("events written canonically (rfc8785)", began, count)
    began = now()
    frontier, stored, completed = Frontier(), {}, []
    for number, entry in enumerate(entries):
        leaf = leaf_hash(entry)
        stored[0, number] = leaf
        for node in frontier.append(leaf):
            stored[node.level, node.place] = node.hash
            completed.append(node.hash)
    said("leaf hashes and all nodes of the tree", began, count)
    note = sign_checkpoint(Checkpoint(ORIGIN, count, frontier.root()), signer)
    description: dict[str, Any] = {
        "format": FORMAT, "origin": ORIGIN, "size": count, "vkey": None, "organization": None, "withheld": [], "record_types": [], "unsealed": [],
        "scope": None, "outside": [],
    }  # fmt: skip
    contents = {
        "checkpoint": note, "entries.bin": b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries),
        "leaves.bin": b"".join(stored[0, number] for number in range(count)), "nodes.bin": b"".join(completed), "records.jsonl": b"",
        "bundle.json": rfc8785.dumps(description),
    }  # fmt: skip
    with path.open("wb") as out:
        writer = BundleWriter(out)
        for name, data in contents.items():
            with writer.member(name) as member:
                member.write(data)
        writer.finish()
    print(f"bundle: {path.stat().st_size / 1e6:.0f} MB, {len(contents['entries.bin']) / count:.0f} bytes an entry")
    return frontier, stored


def prove(frontier: Frontier, stored: dict[tuple[int, int], bytes]) -> None:
    """Proofs from stored nodes in memory: what the tree costs, without the database."""
    size, root = frontier.size, frontier.root()
    places = [number * (size - 1) // PROOFS for number in range(PROOFS)]

    def read(level: int, place: int) -> bytes:
        return stored[level, place]

    began = now()
    paths = [inclusion_proof(place, size, read) for place in places]
    said(f"inclusion proofs made, {max(map(len, paths))} hashes", began, PROOFS)
    began = now()
    good = sum(verify_inclusion(place, size, stored[0, place], root, path) for place, path in zip(places, paths, strict=True))
    said("inclusion proofs verified", began, good)
    moved = sum(verify_inclusion(place + 1, size, stored[0, place], root, path) for place, path in zip(places, paths, strict=True))
    print(f"inclusion proofs accepted for a neighbour's place: {moved} of {PROOFS}")
    began = now()
    proofs = [consistency_proof(place, size, read) for place in places]
    said("consistency proofs made", began, PROOFS)
    accepted = sum(verify_consistency(place, size, bytes(32), root, proof) for place, proof in zip(places, proofs, strict=True) if place)
    print(f"consistency proofs accepted for another old root: {accepted} of {PROOFS - 1}")


def verify(path: Path, count: int, vkey: str, go: str) -> dict[str, float]:
    """Both tools over the whole file, each in a process of its own; their seconds."""
    (path.parent / "trust").write_text(f"log {vkey}\nquorum none\n")
    verifier = ROOT / "platform/ringi/audit/ringi_verify.py"
    commands = {"ringi-verify, every byte": [sys.executable, "-I", str(verifier), str(path), "--trust", str(path.parent / "trust")]}
    if go:
        commands["Go sumdb/note and sumdb/tlog, the same"] = [go, f"-bundle={path}", f"-vkey={vkey}"]
    seconds = {}
    for (name, command), key in zip(commands.items(), ("verify_s", "go_verify_s"), strict=False):
        began = now()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        took = said(f"{name} (exit code {done.returncode})", began, count)
        # What refused the file did not verify it, however fast it was.
        seconds[key] = took if done.returncode == 0 else float("nan")
        if done.returncode:
            print(done.stdout[-2000:], done.stderr[-2000:])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    print(f"one changed byte: {[problem.code for problem in verify_bundle(path, vkey).problems]}")
    return seconds


def main() -> None:
    """Both parts."""
    count, seconds, go = [*sys.argv[1:], *("1000000", "3", "")[len(sys.argv) - 1 :]]
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="ringi-bench-") as folder:
        if int(count):
            signer, path = Signer.generate(ORIGIN), Path(folder) / "bundle.zip"
            frontier, stored = write_bundle(path, int(count), signer)
            prove(frontier, stored)
            del stored
            figures |= verify(path, int(count), str(signer.verifier), go)
        if float(seconds):
            handle = postgres.start(Path(folder) / "postgres")
            try:
                figures = appends(handle, float(seconds)) | figures
            finally:
                postgres.stop(Path(folder) / "postgres")
    print(f"\naudit_log {' '.join(f'{name}={value:.3f}' for name, value in figures.items())} entries={count} seconds={seconds}")


if __name__ == "__main__":
    main()
