"""Which checkpoint is shown under a quorum, and what finding it costs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session, sessionmaker

from audit.votes import Votes
from ringi.audit.models import AuditCosignature
from ringi.audit.note import Signer, cosign
from ringi.audit.published import published, signed_at
from ringi.audit.ringi_verify import COSIGNATURE
from ringi.audit.signing import CheckpointFile
from ringi.audit.witnesses import WitnessesUnusable, load_witnesses
from ringi.settings import get_settings

COUNT = 60


class Cosigned:
    """A log of which every size is signed, and two witnesses that must both cosign."""

    def __init__(self, sessions: sessionmaker[Session], policy: Path, log: Signer) -> None:
        self.sessions, self.statements = sessions, 0
        self.witnesses = [Signer.generate(f"witness.example/w{number}", kind=COSIGNATURE) for number in (1, 2)]
        first, second = (one.verifier for one in self.witnesses)
        policy.write_text(
            f"log {log.verifier}\nwitness 監査 {first}\nwitness 法務 {second}\ngroup 両方 all 監査 法務\nquorum 両方\n", encoding="utf-8"
        )

    def cosign(self, size: int, witness: int, *, forged: bool = False) -> None:
        signer = self.witnesses[witness]
        with self.sessions.begin() as session:
            note = signed_at(session, size)
            assert note is not None
            line = cosign(note, Signer(signer.name, bytes(32), COSIGNATURE) if forged else signer, at=1)
            name = f"{signer.name}+{signer.verifier.id.hex()}"
            session.add(AuditCosignature(origin=get_settings().audit_origin, size=size, witness=name, line=line))

    def shown(self) -> tuple[int, int]:
        """The size that is shown, and how many statements it took."""
        with self.sessions() as session, _counted(session) as statements:
            return published(session).checkpoint.size, len(statements)


@contextmanager
def _counted(session: Session) -> Iterator[list[str]]:
    engine, seen = session.get_bind(), list[str]()
    assert isinstance(engine, Engine)

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
def cosigned(
    sessions: sessionmaker[Session], votes: Votes, seal: Callable[[], None], signer: Signer, last_signed: CheckpointFile,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> Iterator[Cosigned]:  # fmt: skip
    assert last_signed.read() is None
    for _ in range(COUNT):
        votes.cast("賛成")
        seal()
    made = Cosigned(sessions, tmp_path / "witnesses", signer)
    monkeypatch.setenv("RINGI_WITNESSES", str(tmp_path / "witnesses"))
    get_settings.cache_clear()
    yield made
    get_settings.cache_clear()


def test_however_many_sizes_lack_the_quorum_finding_what_is_shown_takes_a_few_statements(cosigned: Cosigned) -> None:
    for size in range(1, COUNT + 1):
        cosigned.cosign(size, 0)
    size, statements = cosigned.shown()
    assert (size, statements <= 8) == (COUNT, True), statements
    cosigned.cosign(3, 1)
    size, statements = cosigned.shown()
    assert (size, statements <= 8) == (3, True), statements
    # A later one takes its place, also where lines that are none stand above it.
    cosigned.cosign(40, 1)
    cosigned.cosign(45, 1, forged=True)
    assert cosigned.shown()[0] == 40


def test_what_fulfilled_the_quorum_is_remembered_however_many_bad_lines_stand_above_it(cosigned: Cosigned) -> None:
    for witness in (0, 1):
        cosigned.cosign(2, witness)
    assert cosigned.shown()[0] == 2
    for size in range(3, COUNT):
        cosigned.cosign(size, 0)
        cosigned.cosign(size, 1, forged=True)
    size, statements = cosigned.shown()
    assert (size, statements <= 50) == (2, True), statements


BAD = (
    "https://host:port",
    "https://host:99999",
    "https://:443",
    "https://",
    "ftp://host",
    "https://host?x=1",
    "https://host#x",
    "http://[::1",
)


@pytest.mark.parametrize("url", BAD)
def test_a_url_that_nobody_can_be_asked_under_is_refused_when_the_file_is_read(tmp_path: Path, url: str) -> None:
    log, witness = Signer.generate("ringi.example/audit/1"), Signer.generate("witness.example/w1", kind=COSIGNATURE)
    path = tmp_path / "witnesses"
    path.write_text(f"log {log.verifier}\nwitness w {witness.verifier} {url}\nquorum w\n")
    with pytest.raises(WitnessesUnusable, match="is no URL"):
        load_witnesses(path)
    path.write_text(f"log {log.verifier}\nwitness w {witness.verifier} https://[::1]:8490/監査\nquorum w\n", encoding="utf-8")
    assert [one.name for one in load_witnesses(path).asked] == ["w"]
