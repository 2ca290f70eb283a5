"""The witness as its own process: C2SP tlog-witness, what it remembers through kill -9, and two logs under one name."""

import hashlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from ringi.audit.merkle import consistency_proof
from ringi.audit.note import Signer, sign_checkpoint, sign_note
from ringi.audit.ringi_verify import (
    COSIGNATURE,
    EM_DASH,
    Checkpoint,
    Frontier,
    LogKey,
    Node,
    VerifierKey,
    encode_base64,
    leaf_hash,
    open_note,
    parse_policy,
)
from ringi.witness.protocol import Witness
from ringi.witness.serving import Door
from ringi.witness.state import State
from support.certificates import make_certificate
from support.waiting import until
from support.witness import WitnessProcess, witness

ORIGIN = "ringi.example/audit/1"


class Log:
    """A log of made-up entries: its checkpoints and proofs at any size."""

    def __init__(self, name: str = "表", *, origin: str = ORIGIN, signer: Signer | None = None, size: int = 40) -> None:
        self.signer = signer or Signer.generate(origin)
        self.entries = [f"{name} {number}".encode() for number in range(size)]
        self.nodes: dict[tuple[int, int], bytes] = {}
        self.roots = [Frontier().root()]
        frontier = Frontier()
        for place, entry in enumerate(self.entries):
            for node in [Node(0, place, leaf_hash(entry)), *frontier.append(leaf_hash(entry))]:
                self.nodes[node.level, node.place] = node.hash
            self.roots.append(frontier.root())

    def note(self, size: int, *more: Signer) -> bytes:
        return sign_checkpoint(Checkpoint(self.signer.name, size, self.roots[size]), self.signer, *more)

    def proof(self, old: int, new: int) -> list[bytes]:
        return consistency_proof(old, new, lambda level, place: self.nodes[level, place])


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def running(tmp_path: Path, log: Log) -> Iterator[WitnessProcess]:
    with witness(tmp_path / "witness", log.signer.verifier) as process:
        yield process


def cosigned(process: WitnessProcess, note: bytes, answer: httpx.Response) -> bool:
    """Whether the answer is the witness's line over this very note."""
    assert answer.status_code == 200, answer.text
    key = VerifierKey.parse(process.vkey, kind=COSIGNATURE)
    return open_note(note + answer.content, key) == note.decode().partition("\n\n")[0] + "\n"


def test_it_cosigns_what_extends_what_it_saw_and_a_trust_file_with_its_quorum_accepts_that(running: WitnessProcess, log: Log) -> None:
    first = running.ask(0, [], log.note(7))
    assert cosigned(running, log.note(7), first)
    # The first time needs no proof, and the same size may be cosigned again.
    assert cosigned(running, log.note(7), running.ask(7, [], log.note(7)))
    later = running.ask(7, log.proof(7, 23), log.note(23))
    policy = parse_policy(f"log {log.signer.verifier}\nwitness 監査 {running.vkey}\nquorum 監査\n".encode())
    assert policy.open(log.note(23) + later.content).witnesses == ["監査"]
    assert "監査" not in later.text


def test_it_answers_each_refusal_with_the_status_of_the_specification(running: WitnessProcess, log: Log) -> None:
    assert running.ask(0, [], log.note(8)).status_code == 200
    stale = running.ask(0, [], log.note(9))
    assert (stale.status_code, stale.text, stale.headers["content-type"]) == (409, "8\n", "text/x.tlog.size")
    assert running.ask(8, log.proof(8, 20)[:-1], log.note(20)).status_code == 422
    assert running.ask(8, log.proof(4, 20), log.note(20)).status_code == 422
    assert running.ask(9, [], log.note(8)).status_code == 400
    assert running.ask(0, [], Log(origin="other.example/audit/1").note(3)).status_code == 404
    assert running.ask(8, log.proof(8, 9), Log().note(9)).status_code == 403
    forged = log.note(9).replace(log.note(9).split(b"\n")[2], log.note(10).split(b"\n")[2])
    assert running.ask(8, log.proof(8, 9), forged).status_code == 403
    # None of that moved it.
    assert running.ask(8, log.proof(8, 9), log.note(9)).status_code == 200


MALFORMED = {
    "empty": b"",
    "no_blank_line": b"old 0\n",
    "leading_zero": b"old 00\n\n",
    "negative": b"old -1\n\n",
    "no_size": b"old\n\n",
    "proof_no_base64": b"old 0\nabc\n\n",
    "proof_short": b"old 0\nAAAA\n\n",
    "too_many_proof_lines": b"old 0\n" + (b"A" * 43 + b"=\n") * 64 + b"\n",
    "crlf": b"old 0\r\n\r\n",
    "utf8_head": "旧 0\n\n".encode(),
}


@pytest.mark.parametrize("head", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_refused(shared: WitnessProcess, shared_log: Log, head: bytes) -> None:
    assert shared.post(head + shared_log.note(3)).status_code == 400


def test_a_checkpoint_that_is_none_is_refused(shared: WitnessProcess, shared_log: Log) -> None:
    signer = shared_log.signer
    for text in (f"{ORIGIN}\n3\n", f"{ORIGIN}\n03\n{'A' * 43}=\n", f"{ORIGIN}\n3\nAAAA\n", f"{ORIGIN}\n3\n{'A' * 43}=\nmore\n"):
        assert shared.post(b"old 0\n\n" + sign_note(text, signer)).status_code == 400


@pytest.fixture(scope="module")
def shared_log() -> Log:
    return Log()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, shared_log: Log) -> Iterator[WitnessProcess]:
    with witness(tmp_path_factory.mktemp("shared"), shared_log.signer.verifier) as process:
        yield process


def test_requests_are_bounded_and_a_client_that_says_nothing_holds_up_nobody(shared: WitnessProcess, shared_log: Log) -> None:
    assert shared.post(b"x" * 65_537).status_code == 413
    chunked = httpx.post(f"{shared.url}/add-checkpoint", content=iter([b"old 0\n\n"]))
    assert chunked.status_code == 411
    assert httpx.get(f"{shared.url}/add-checkpoint").status_code == 404
    assert httpx.post(f"{shared.url}/elsewhere", content=b"").status_code == 404
    with socket.create_connection(("127.0.0.1", shared.port)) as silent:
        silent.sendall(b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 9\r\n\r\n")
        assert shared.ask(0, [], shared_log.note(0)).status_code == 200


@pytest.mark.parametrize("head", [b"", b"POST /add-checkpoint HTTP/1.1\r\nContent-Length: 900\r\n\r\n"], ids=["headers", "body"])
def test_a_client_that_drips_loses_its_connection_when_the_requests_time_is_over(tmp_path: Path, log: Log, head: bytes) -> None:
    made = Witness(Signer.generate("witness.example/w1", kind=COSIGNATURE), [LogKey(log.signer.verifier)], State(tmp_path))
    with Door(("127.0.0.1", 0), made, request_s=1.0) as door:
        threading.Thread(target=door.serve_forever, kwargs={"poll_interval": 0.05}).start()  # thread: the door of the test's own deadline
        with socket.create_connection(("127.0.0.1", door.server_address[1])) as dripping:
            dripping.sendall(head)
            dripping.settimeout(0.1)
            begun, ended = time.monotonic(), False
            while not ended and time.monotonic() < begun + 30:
                try:
                    dripping.sendall(b"x")
                    ended = dripping.recv(1) == b""
                except TimeoutError:
                    continue
                except ConnectionError:
                    ended = True
        door.shutdown()
    assert ended
    assert time.monotonic() - begun >= 0.9


def test_two_logs_under_one_name_are_refused_and_the_contradiction_is_kept(running: WitnessProcess, log: Log) -> None:
    other = Log("別の表", signer=log.signer)
    assert running.ask(0, [], log.note(12)).status_code == 200
    same_size = running.ask(12, [], other.note(12))
    assert (same_size.status_code, same_size.text) == (409, "12\n")
    assert running.ask(12, other.proof(12, 30), other.note(30)).status_code == 422
    assert "split view" in running.log.read_text()
    kept = {path.read_bytes() for path in (running.state / "evidence").iterdir()}
    assert kept == {other.note(12), other.note(30)}
    assert cosigned(running, log.note(30), running.ask(12, log.proof(12, 30), log.note(30)))


def test_lines_that_anybody_may_have_appended_are_ignored_and_never_kept(tmp_path: Path, log: Log) -> None:
    stranger = Signer.generate("witness.example/w2", kind=COSIGNATURE).verifier
    with witness(tmp_path / "w", log.signer.verifier) as process:
        for size, key in enumerate((process.signer.verifier, stranger, log.signer.verifier), start=1):
            garbage = f"{EM_DASH} {key.name} {encode_base64(key.id + bytes(72))}\n".encode()
            answer = process.ask(size - 1, log.proof(size - 1, size), log.note(size) + garbage)
            # A wrong line under the log's own key is the log's matter, and refuses.
            assert answer.status_code == (403 if key == log.signer.verifier else 200)
            if answer.status_code == 200:
                (kept,) = process.state.glob("*.checkpoint")
                assert kept.read_bytes() == log.note(size) + answer.content
            process.end()
            process.start()
        assert cosigned(process, log.note(3), process.ask(2, log.proof(2, 3), log.note(3)))


def test_several_logs_each_with_a_memory_of_its_own(tmp_path: Path, log: Log) -> None:
    second = Log(origin="ringi.example/監査/2")
    with witness(tmp_path / "w", log.signer.verifier, second.signer.verifier) as process:
        assert cosigned(process, log.note(5), process.ask(0, [], log.note(5)))
        assert cosigned(process, second.note(9), process.ask(0, [], second.note(9)))
        assert process.ask(0, [], log.note(6)).text == "5\n"


def test_a_retired_key_signs_nothing_beyond_its_sizes(tmp_path: Path, log: Log) -> None:
    old, new = log.signer, Signer.generate(ORIGIN)
    with witness(tmp_path / "w", old.verifier, "#sizes 0-10", new.verifier) as process:
        assert cosigned(process, log.note(10), process.ask(0, [], log.note(10)))
        assert process.ask(10, log.proof(10, 11), log.note(11)).status_code == 403
        assert process.ask(10, log.proof(10, 11), log.note(11, new)).status_code == 200


def test_killed_at_any_moment_it_has_never_said_more_than_it_remembers(tmp_path: Path, log: Log) -> None:
    process = WitnessProcess(tmp_path / "w", log.signer.verifier)
    said: dict[int, bytes] = {}
    reached = 0
    for kill in range(5):
        process.start()
        # A first question tells where it stands after the kill before.
        known = process.ask(0, [], log.note(0))
        reached = int(known.text) if known.status_code == 409 else 0
        assert reached >= max(said, default=0)
        killer = threading.Timer(0.01 + 0.02 * kill, process.end)  # thread: the kill comes in the middle of a request
        killer.start()
        try:
            for size in range(reached + 1, len(log.entries) + 1):
                answer = process.ask(reached, log.proof(reached, size), log.note(size))
                assert answer.status_code == 200
                said[size], reached = answer.content, size
        except httpx.TransportError:
            pass
        killer.join()
    process.start()
    answer = process.ask(0, [], log.note(0))
    assert int(answer.text if answer.status_code == 409 else 0) >= max(said, default=0)
    # Another tree of a size that was cosigned gets nothing, before and after every kill.
    other = Log("別の表", signer=log.signer)
    for size in range(1, len(log.entries) + 1):
        assert process.ask(size, [], other.note(size)).status_code == 409
    process.end()


def test_of_many_clients_at_once_one_wins_each_size_and_it_never_goes_backwards(running: WitnessProcess, log: Log) -> None:
    def climb(start: int) -> list[int]:
        old, done = 0, []
        for size in range(start, 41, 4):
            for _ in range(60):
                if old >= size:
                    break
                answer = running.ask(old, log.proof(old, size) if old else [], log.note(size))
                if answer.status_code == 200:
                    done.append(size)
                    old = size
                    break
                assert answer.status_code == 409
                old = int(answer.text)
        return done

    # thread: four clients at once.
    with ThreadPoolExecutor(4) as pool:
        won = [size for sizes in pool.map(climb, range(1, 5)) for size in sizes]
    assert len(won) == len(set(won))
    assert running.ask(0, [], log.note(1)).text == "40\n"


def test_one_process_holds_the_memory_and_damaged_memory_is_never_begun_anew(tmp_path: Path, log: Log) -> None:
    with witness(tmp_path / "w", log.signer.verifier) as process:
        assert process.ask(0, [], log.note(5)).status_code == 200
        second = process.run(*process.serve_arguments)
        assert second.returncode == 1
        assert "Another witness" in second.stderr
        process.end(signal.SIGTERM)
        (kept,) = process.state.glob("*.checkpoint")
        assert kept.name == f"{hashlib.sha256(ORIGIN.encode()).hexdigest()}.checkpoint"
        kept.write_bytes(kept.read_bytes().replace(b"\n5\n", b"\n4\n"))
        damaged = process.run(*process.serve_arguments)
        assert damaged.returncode == 1
        assert str(kept) in damaged.stderr


def test_memory_that_cannot_be_written_cosigns_nothing(tmp_path: Path, log: Log) -> None:
    with witness(tmp_path / "w", log.signer.verifier) as process:
        assert process.ask(0, [], log.note(5)).status_code == 200
        (kept,) = process.state.glob("*.checkpoint")
        content = kept.read_bytes()
        kept.unlink()
        kept.mkdir()
        assert process.ask(5, log.proof(5, 6), log.note(6)).status_code == 500
        kept.rmdir()
        kept.write_bytes(content)
        assert process.ask(5, log.proof(5, 6), log.note(6)).status_code == 200
        until(lambda: "nothing was cosigned" in process.log.read_text())


def test_over_https_a_client_that_never_shakes_hands_holds_up_nobody(tmp_path: Path, log: Log) -> None:
    process = WitnessProcess(tmp_path / "w", log.signer.verifier)
    process.with_tls(make_certificate(tmp_path))
    process.start()
    with socket.create_connection(("127.0.0.1", process.port)):
        assert cosigned(process, log.note(5), process.ask(0, [], log.note(5)))
    process.end()


def test_the_files_of_its_container_are_all_that_it_needs(tmp_path: Path) -> None:
    """What deploy/witness.Dockerfile copies, on a machine with `cryptography` and nothing else of the platform."""
    root = Path(__file__).parents[2]
    for line in (root / "deploy" / "witness.Dockerfile").read_text().splitlines():
        match line.split():
            case ["COPY", *sources, target] if target.startswith("/app/"):
                for source in sources:
                    place = tmp_path / target.removeprefix("/")
                    if (root / source).is_dir():
                        shutil.copytree(root / source, place, ignore=shutil.ignore_patterns("__pycache__"))
                    else:
                        place = place / Path(source).name if target.endswith("/") else place
                        place.parent.mkdir(parents=True, exist_ok=True)
                        shutil.copyfile(root / source, place)
    program = (
        "import sys, runpy\n"
        "sys.argv = ['ringi-witness', 'keygen', '--name', 'witness.example/w1', '--key', 'witness.key']\n"
        "try:\n    runpy.run_module('ringi.witness.command', run_name='__main__')\n"
        "finally:\n    print(sorted(name for name in sys.modules if name.partition('.')[0] in {'sqlalchemy', 'pydantic', 'fastapi', 'httpx'}))\n"
        "    print(sys.modules['ringi'].__path__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "app"), "PATH": ""}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    vkey, loaded, where = done.stdout.splitlines()
    assert VerifierKey.parse(vkey, kind=COSIGNATURE).name == "witness.example/w1"
    assert (loaded, where) == ("[]", f"['{tmp_path / 'app' / 'ringi'}']")


def test_the_command_explains_itself_and_guards_its_key(tmp_path: Path) -> None:
    assert "ringi-witness serve --state" in WitnessProcess.run("--help").stdout
    process = WitnessProcess(tmp_path / "w", Signer.generate(ORIGIN).verifier)
    assert WitnessProcess.run("vkey", "--key", str(process.key)).stdout.strip() == process.vkey
    assert process.key.stat().st_mode & 0o777 == 0o600
    again = WitnessProcess.run("keygen", "--name", "w", "--key", str(process.key))
    assert again.returncode == 2
    process.key.chmod(0o644)
    readable = WitnessProcess.run(*process.serve_arguments)
    assert readable.returncode == 2
    assert "others can read it" in readable.stderr
    assert "PRIVATE" not in readable.stderr + again.stderr
