"""Every house rule catches what it forbids, and lets pass what it allows."""

import textwrap
from pathlib import Path

import pytest

from architecture.lint import ROOT, check_text, main, owned_models

OWNED = frozenset({"Adapter", "Job"})
SERVICE, TEST, WORKER = "platform/ringi/adapters/service.py", "tests/adapters/test_service.py", "workers/ringi_workers/training/task.py"


def rules_of(path: str, text: str) -> list[str]:
    return [one.rule for one in check_text(path, textwrap.dedent(text), owned=OWNED)]


UNSCOPED = """
    def find(session, name):
        return session.scalars(select(Adapter).where(Adapter.name == name))
"""
FORBIDDEN = {
    "a read of an owned model": (SERVICE, UNSCOPED, "unscoped-read"),
    "a column of an owned model": (SERVICE, "def f(session): return session.scalar(select(func.max(Adapter.number)))", "unscoped-read"),
    "an owned row by its key": (WORKER, "def f(session, key): return session.get_one(Job, key)", "unscoped-read"),
    "a reason in another function": (SERVICE, f"def g():\n    # unscoped: why\n    pass\n{textwrap.dedent(UNSCOPED)}", "unscoped-read"),
    "a reason below the read": (SERVICE, "def f(s):\n    s.scalars(select(Job))\n    # unscoped: why\n    return 1\n", "unscoped-read"),
    "an escape without a reason": (SERVICE, "def f(s):\n    # unscoped\n    return s.scalars(select(Job))\n", "unscoped-read"),
    "a bare session dependency": (SERVICE, "def f(session: Session = Depends(get_session)): ...", "edge-commits"),
    "a qualified session dependency": (SERVICE, "D = fastapi.Depends(session.get_session)", "edge-commits"),
    "a commit in a service": (SERVICE, "def f(session): session.commit()", "edge-commits"),
    "a commit in a worker": (WORKER, "def f(db_session): db_session.commit()", "edge-commits"),
    "eager tasks by attribute": (TEST, "app.conf.task_always_eager = True", "real-processes"),
    "eager tasks by keyword": (TEST, "app.conf.update(task_always_eager=True)", "real-processes"),
    "eager tasks by key": (TEST, "app.conf.update({'task_always_eager': True})", "real-processes"),
    "sleeping in a test": (TEST, "import time\ntime.sleep(1)", "real-processes"),
    "sleeping in a service": (SERVICE, "import time\ntime.sleep(1)", "real-processes"),
    "sleeping under another name": (TEST, "from time import sleep", "real-processes"),
    "a thread that plays a worker": (TEST, "import threading\nthreading.Thread(target=work).start()", "real-processes"),
    "a thread in a service": (SERVICE, "import threading\n# thread: because\nthreading.Thread(target=work)", "real-processes"),
    "a pool without a reason": (TEST, "with ThreadPoolExecutor(4) as pool: ...", "real-processes"),
    "mocks": (TEST, "from unittest.mock import MagicMock", "nothing-patched"),
    "the mocker fixture": (TEST, "def test_x(mocker): ...", "nothing-patched"),
    "a frozen clock": (TEST, "from freezegun import freeze_time", "nothing-patched"),
    "a travelling clock": (TEST, "import time_machine", "nothing-patched"),
    "a clock changed by hand": (TEST, "import time\ntime.time = lambda: 0.0", "nothing-patched"),
    "our code changed by hand": (TEST, "from ringi.jobs import service\nservice.claim = None", "nothing-patched"),
    "monkeypatched code": (TEST, "def test_x(monkeypatch): monkeypatch.setattr(service, 'claim', None)", "nothing-patched"),
    "an assert as a gate": (SERVICE, "def f(x):\n    assert x", "no-assert-gates"),
    "an assert in a worker": (WORKER, "assert True", "no-assert-gates"),
    "a module of odds and ends": ("platform/ringi/jobs/utils.py", "", "names-and-lengths"),
    "a folder of odds and ends": ("tests/helpers/clients.py", "", "names-and-lengths"),
    "a package file with content": ("platform/ringi/jobs/__init__.py", "x = 1\n", "names-and-lengths"),
    "platform as a package": ("platform/__init__.py", "", "names-and-lengths"),
    "a long file": (SERVICE, "x = 1\n" * 301, "names-and-lengths"),
    "a long test file": (TEST, "x = 1\n" * 501, "names-and-lengths"),
    "a long function": (SERVICE, "def f():\n" + "    x = 1\n" * 60, "names-and-lengths"),
    "torch in the platform": (SERVICE, "def f():\n    import torch", "heavy-import"),
    "a part of torch in the platform": (SERVICE, "from torch.nn import Linear", "heavy-import"),
    "a worker in the platform": (SERVICE, "from ringi_workers.app import app", "heavy-import"),
    "a lazy relationship": ("platform/ringi/jobs/models.py", "project = relationship()", "explicit-loads"),
    "a backref": ("platform/ringi/jobs/models.py", "project = relationship(lazy='raise', backref='jobs')", "explicit-loads"),
    "newer syntax than the oldest Python we run on": (SERVICE, "def f(:\n", "syntax"),
}
ALLOWED = {
    "a scoped read": (SERVICE, "def f(s, a): return s.scalars(visible(a, Adapter).where(Adapter.name == 'x'))"),
    "a read of what nobody owns": (SERVICE, "def f(s): return s.scalars(select(Organization))"),
    "a read with a reason": (SERVICE, "def f(s):\n    # unscoped: the platform acts itself.\n    return s.scalars(select(Adapter))\n"),
    "later reads of the same function": (
        SERVICE,
        "def f(s):\n    # unscoped: why\n    a = select(Job)\n    return s.scalars(select(Adapter))\n",
    ),
    "a read inside the wall": ("platform/ringi/identity/permissions.py", "query = select(Adapter)"),
    "a dictionary's get": (SERVICE, "def f(d): return d.get(Job)"),
    "a read in a test": (TEST, textwrap.dedent(UNSCOPED)),
    "the one session": ("platform/ringi/web/session.py", "SessionDep = Annotated[Session, Depends(get_session, scope='function')]"),
    "a commit in a test": (TEST, "session.commit()"),
    "the heartbeat": ("workers/ringi_workers/runtime.py", "import threading\nthreading.Thread(target=beat)"),
    "clients at once, with a reason": (
        TEST,
        "def f():\n    # thread: two clients vote at once.\n    with ThreadPoolExecutor(2) as pool: ...\n",
    ),
    "a poll of a child process": ("platform/ringi/embedded/children.py", "import time\ntime.sleep(0.05)"),
    "the scene of a test": (TEST, "def test_x(monkeypatch):\n    monkeypatch.setenv('A', 'b')\n    monkeypatch.chdir('/')\n"),
    "a replacement with a reason": (TEST, "import socket\n# replaces: no network\nsocket.socket.connect = refuse\n"),
    "an assert in a test": (TEST, "assert 1 == 1"),
    "a long migration": ("migrations/versions/0001_the_first_tables.py", "def upgrade():\n" + "    op.execute('')\n" * 400),
    "a long page with a reason": (SERVICE, '"""One vocabulary."""\n# long: one page.\n' + "x = 1\n" * 301),
    "torch in a worker": ("workers/ringi_workers/training/recipe.py", "import torch"),
    "an explicit relationship": ("platform/ringi/jobs/models.py", "project: Mapped[Project] = relationship(lazy='raise')"),
}


@pytest.mark.parametrize(("path", "text", "rule"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_the_lint_finds(path: str, text: str, rule: str) -> None:
    assert rule in rules_of(path, text)


@pytest.mark.parametrize(("path", "text"), ALLOWED.values(), ids=ALLOWED)
def test_the_lint_lets_pass(path: str, text: str) -> None:
    assert rules_of(path, text) == []


def test_a_violation_names_file_and_line() -> None:
    (found,) = check_text(SERVICE, textwrap.dedent(UNSCOPED), owned=OWNED)
    assert str(found).startswith(f"{SERVICE}:3: unscoped-read: ")


def test_owned_models_are_found_by_their_owner() -> None:
    owned = owned_models((ROOT / "platform").rglob("models.py"))
    assert {"Adapter", "AdapterVersion", "ApprovalRequest", "BaseModel", "ChannelHead", "Job", "Token", "User"} <= owned
    assert not owned & {"Organization", "AuditEvent", "Blob", "OutboxMessage"}


def test_the_lint_ends_with_an_error_when_a_rule_is_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    domain = tmp_path / "platform" / "ringi" / "jobs"
    domain.mkdir(parents=True)
    (domain / "models.py").write_text("class Thing(Identified, OwnedByProject, Base): ...\n")
    (domain / "service.py").write_text("query = select(Thing)\n")
    assert main([str(tmp_path / "platform")], root=tmp_path) == 1
    assert "platform/ringi/jobs/service.py:1: unscoped-read" in capsys.readouterr().out
