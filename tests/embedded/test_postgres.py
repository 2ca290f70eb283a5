"""The embedded PostgreSQL keeps its data, its roles are limited, and starting it twice gives one server."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ringi.embedded import children, postgres
from ringi.embedded.folder import NotStarted
from ringi.embedded.postgres import PostgresHandle


def plain(url: str) -> str:
    """A libpq URL from a SQLAlchemy URL."""
    return url.replace("postgresql+psycopg://", "postgresql://")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresHandle]:
    # As root, pytest's folder has mode 0700: the server runs as a user who could not enter it unaided.
    folder = tmp_path_factory.mktemp("データ 日本語 folder")
    yield postgres.start(folder, durable=False)
    postgres.stop(folder, grace_s=10)


def test_the_server_speaks_utf8_and_listens_on_loopback_only(server: PostgresHandle) -> None:
    with psycopg.connect(plain(server.app_url)) as connection:
        row = connection.execute(
            "SELECT current_setting('server_encoding'), current_setting('listen_addresses'), upper('straße ä')"
        ).fetchone()
    assert row in {("UTF8", "127.0.0.1", "STRASSE Ä"), ("UTF8", "127.0.0.1", "STRAßE Ä")}


def test_a_second_start_attaches_to_the_running_server(server: PostgresHandle) -> None:
    assert postgres.start(server.data_dir) == server


def test_two_starts_at_once_give_one_server(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from ringi.embedded import postgres; print(postgres.start(Path(sys.argv[1]), durable=False).pid)"
    starts = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        answers = [start.communicate(timeout=60) for start in starts]
        assert [start.returncode for start in starts] == [0, 0], answers
        assert len({out for out, _ in answers}) == 1
    finally:
        postgres.stop(tmp_path, grace_s=10)


def test_passwords_are_needed_and_kept_in_a_private_file(server: PostgresHandle) -> None:
    assert (server.data_dir / "postgres" / "connection.json").stat().st_mode & 0o777 == 0o600
    assert len(set(server.passwords.values())) == len(server.passwords)
    assert not any(password in repr(server) for password in server.passwords.values())
    for wrong in ("", "postgres"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host="127.0.0.1", port=server.port, user="postgres", password=wrong, dbname="ringi")


@pytest.mark.parametrize(
    "statement", ["CREATE ROLE intruder", "CREATE DATABASE intruder", "CREATE TABLE intruder (id int)", "SET ROLE ringi_owner"]
)
def test_the_application_role_cannot(server: PostgresHandle, statement: str) -> None:
    with psycopg.connect(plain(server.app_url), autocommit=True) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(statement)


def test_the_application_role_cannot_enter_the_other_databases(server: PostgresHandle) -> None:
    for name in ("mlflow", "postgres"):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            psycopg.connect(plain(server.url("ringi_app", name)))


def test_the_application_role_can_use_what_the_owner_creates_but_not_change_it(server: PostgresHandle) -> None:
    with psycopg.connect(plain(server.owner_url), autocommit=True) as owner:
        owner.execute("CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY, text text)")
    with psycopg.connect(plain(server.app_url), autocommit=True) as app:
        app.execute("INSERT INTO notes (text) VALUES ('稟議')")
        app.execute("UPDATE notes SET text = text || '!'")
        assert app.execute("SELECT text FROM notes").fetchall() == [("稟議!",)]
        app.execute("DELETE FROM notes")
        for statement in ("DROP TABLE notes", "TRUNCATE notes", "ALTER TABLE notes ADD COLUMN more int"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                app.execute(statement)


def test_a_copied_database_keeps_the_application_roles_rights_and_closes_itself_to_others(server: PostgresHandle) -> None:
    postgres.create_database(server, "master copy")
    postgres.create_database(server, "copied", template="master copy")
    with psycopg.connect(plain(server.url("ringi_owner", "copied")), autocommit=True) as owner:
        owner.execute("CREATE TABLE later (id int)")
    with psycopg.connect(plain(server.url("ringi_app", "copied"))) as app:
        app.execute("INSERT INTO later VALUES (1)")
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(plain(server.url("ringi_mlflow", "copied")))


def test_committed_rows_survive_kill_9_and_the_next_start_recovers(tmp_path: Path) -> None:
    first = postgres.start(tmp_path, durable=False)
    try:
        with psycopg.connect(plain(first.owner_url), autocommit=True) as owner:
            owner.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
        process = children.process_of(first.pid)
        assert process is not None
        os.kill(first.pid, signal.SIGKILL)
        assert children.wait_gone(process, 10)
        assert not postgres.is_running(tmp_path)
        again = postgres.start(tmp_path, durable=False)
        assert (again.port, again.passwords) == (first.port, first.passwords)
        assert again.pid != first.pid
        with psycopg.connect(plain(again.app_url)) as app:
            assert app.execute("SELECT count(*) FROM kept").fetchone() == (1000,)
    finally:
        postgres.stop(tmp_path, grace_s=10)
    assert not postgres.is_running(tmp_path)


def test_a_server_that_others_are_connected_to_waits_for_its_own_port_instead_of_moving(tmp_path: Path) -> None:
    first = postgres.start(tmp_path, durable=False)
    postgres.stop(tmp_path)
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", first.port))
        taker.listen()
        # thread: what gives the port back while the start waits for it.
        give_back = threading.Timer(1.0, taker.close)
        give_back.start()
        try:
            again = postgres.start(tmp_path, durable=False, move=False)
        finally:
            give_back.join()
    try:
        assert again.port == first.port
    finally:
        postgres.stop(tmp_path)


def test_a_pid_file_that_names_another_process_is_not_believed(tmp_path: Path) -> None:
    # The number in the file now belongs to this very test run, which a wrong `stop` would end.
    (tmp_path / "postgres" / "cluster").mkdir(parents=True)
    lines = [str(os.getpid()), str(tmp_path / "postgres" / "cluster"), "0", "5432", "", "127.0.0.1", "", "ready"]
    (tmp_path / "postgres" / "cluster" / "postmaster.pid").write_text("\n".join(lines), encoding="utf-8")
    assert not postgres.is_running(tmp_path)
    postgres.stop(tmp_path, grace_s=1)


def test_a_folder_that_was_never_started_has_no_address(tmp_path: Path) -> None:
    with pytest.raises(NotStarted, match="ringi up"):
        postgres.attach(tmp_path)
    postgres.stop(tmp_path)
