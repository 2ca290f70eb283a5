"""A backup of a running platform, restored into an empty folder, is the same platform; a damaged one is refused before anything is touched."""

import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest

from ringi.audit.ringi_verify import verify_bundle
from ringi.backup.archive import MANIFEST, BackupDamaged, open_backup
from ringi.backup.restore import NotEmpty, restore
from ringi.cli.client import RingiClient
from ringi.embedded import postgres
from ringi.embedded.postgres import PostgresHandle
from ringi.embedded.processes import platform_down, platform_status
from ringi.kit.digests import sha256_bytes
from support.postgres import drop_database, empty_database
from support.running_platform import PROJECT, Platform
from support.shell import Shell
from support.story import ADAPTER, Ground, approved, environment_name, published

SETTINGS = (
    "RINGI_DATABASE_URL", "RINGI_PLATFORM_DATABASE_URL", "RINGI_OWNER_DATABASE_URL", "RINGI_AUDIT_KEY_FILE", "RINGI_PERSONAL_KEY_FILE",
    "RINGI_AUDIT_CHECKPOINT_DIR",
)  # fmt: skip


def files_of(folder: Path) -> dict[str, bytes]:
    return {found.relative_to(folder).as_posix(): found.read_bytes() for found in folder.rglob("*") if found.is_file()}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("home"), "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def channel(ground: Ground) -> str:
    """Serves v1, approved and released."""
    name = environment_name()
    ground.platform.as_("deployer").releases.create_channel(PROJECT, name, environment=name)
    approved(ground.platform, "v1", environment=name)
    published(ground.platform, "v1", channel=name)
    return name


@pytest.fixture(scope="module")
def watcher(ground: Ground) -> Iterator[str]:
    """A role of the deployment's own that may look, as the monitor's does."""
    role = f"見張り-{uuid4().hex[:8]}"
    with as_superuser(ground) as connection:
        connection.execute(f'CREATE ROLE "{role}" LOGIN BYPASSRLS')
        connection.execute(f'GRANT USAGE ON SCHEMA public TO "{role}"')
        connection.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{role}"')
        connection.execute(f'ALTER DEFAULT PRIVILEGES FOR ROLE {postgres.OWNER} IN SCHEMA public GRANT SELECT ON TABLES TO "{role}"')
        yield role
        connection.execute(f'DROP OWNED BY "{role}"')
        connection.execute(f'DROP ROLE "{role}"')


def as_superuser(ground: Ground) -> psycopg.Connection:
    return psycopg.connect(ground.platform.processes.urls.superuser_url.replace("+psycopg", ""), autocommit=True)


@pytest.fixture(scope="module")
def taken(ground: Ground, channel: str, watcher: str, shell: Shell, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the running platform, by the variables of its deployment, as a tar."""
    del channel, watcher
    ground.platform.with_everybody()  # whoever joins later is not in it
    target = tmp_path_factory.mktemp("backups") / "バックアップ.tar"
    processes = ground.platform.processes
    told = {name: processes.environment[name] for name in SETTINGS}
    done = shell.run("backup", str(target), "--data-dir", str(processes.data), "--json", **told)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["keys"] == ["audit-key", "personal-key"]
    assert "can sign as the log" in done.stderr
    assert target.stat().st_mode & 0o077 == 0
    return target


@pytest.fixture
def up(shell: Shell, tmp_path: Path) -> Iterator[Path]:
    """Where a platform is restored; it is stopped afterwards."""
    folder = tmp_path / "復元"
    yield folder
    if folder.exists():
        platform_down(folder)
    del shell


def pulled(server: str, token: str, channel: str) -> str:
    url = f"{server}/hf/{channel}/{PROJECT}/{ADAPTER}/resolve/main/adapter_model.safetensors"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, follow_redirects=True, timeout=60)
    assert answer.status_code == 200, answer.text
    return sha256_bytes(answer.content)


SHAPE = (
    (
        "SELECT 'rights of', c.oid::regclass::text, c.relkind::text, c.relowner::regrole::text, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(c.relacl) a)::text,"
        "  c.relrowsecurity::text || c.relforcerowsecurity::text FROM pg_class c WHERE relnamespace = 'public'::regnamespace"
    ),
    (
        "SELECT 'rights of column', attrelid::regclass::text, attname::text, attacl::text, '', '' FROM pg_attribute WHERE attacl IS NOT NULL"
        "  AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace)"
    ),
    "SELECT 'trigger', tgrelid::regclass::text, tgname::text, tgenabled::text, pg_get_triggerdef(oid), '' FROM pg_trigger WHERE NOT tgisinternal",
    "SELECT 'policy', tablename::text, policyname::text, roles::text, qual, with_check FROM pg_policies",
    (
        "SELECT 'function', proname::text, proowner::regrole::text, proacl::text, pg_get_functiondef(oid), '' FROM pg_proc"
        "  WHERE pronamespace = 'public'::regnamespace"
    ),
    "SELECT 'default', defaclrole::regrole::text, defaclobjtype::text, defaclacl::text, '', '' FROM pg_default_acl",
)


def shape_of(url: str) -> set[tuple[str, ...]]:
    """Owners, rights, policies, triggers and functions: what keeps the application from what it must not do."""
    with psycopg.connect(url.replace("+psycopg", "")) as database:
        return {row for query in SHAPE for row in database.execute(query.encode()).fetchall()}


@pytest.mark.long
def test_a_restored_platform_serves_what_was_released_and_its_log_holds(
    ground: Ground, channel: str, watcher: str, taken: Path, shell: Shell, up: Path, tmp_path: Path
) -> None:
    platform = ground.platform
    before = pulled(platform.server, platform.tokens["viewer"], channel)
    key = platform.as_("auditor").audit.key().vkey
    vote = next(iter(platform.as_("auditor").audit.events(action="approval.vote")))
    done = shell.run("restore", str(taken), "--data-dir", str(up), "--json")
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout)
    assert f"The log of {manifest['log_size']} entries holds" in done.stderr
    assert "Repeat every erasure" in done.stderr
    assert f"Made without a login, because they have rights in the backup: the database's roles {watcher}" in done.stderr
    modes = {path.name: path.stat().st_mode & 0o777 for path in (up / "secrets").iterdir()}
    assert (modes["audit-key"], modes["personal-key"]) == (0o600, 0o600)
    started = shell.process("up", "--data-dir", str(up), "--workers-gpu", "0", "--workers-cpu", "0", "--json")
    assert started.returncode == 0, started.stderr
    server = platform_status(up).api_url or ""
    assert pulled(server, platform.tokens["viewer"], channel) == before
    with RingiClient(server, platform.tokens["auditor"]) as auditor:
        assert auditor.audit.key().vkey == key
        bundle = tmp_path / "restored.zip"
        with bundle.open("wb") as out:
            auditor.audit.export(out)
        report = verify_bundle(bundle, key)
        assert report.ok, report.problems
        assert report.size >= manifest["log_size"]
        # Under the restored key the text of the vote can still be read.
        restored = next(one for one in auditor.audit.events(action="approval.vote") if one.event_id == vote.event_id)
        assert restored.text == vote.text is not None
    assert shape_of(postgres.attach(up).superuser_url) == shape_of(platform.processes.urls.superuser_url)
    # A backup of this one, as a folder and without its keys, while it runs.
    second = shell.run("backup", str(tmp_path / "second"), "--data-dir", str(up), "--without-keys", "--json")
    assert second.returncode == 0, second.stderr
    assert not (tmp_path / "second" / "keys").exists()
    assert {"ringi", "mlflow"} == set(open_backup(tmp_path / "second").manifest.databases)
    with pytest.raises(NotEmpty):
        restore(tmp_path / "second", up)
    # And of one that does not run: its database runs for as long as it takes.
    platform_down(up)
    third = shell.run("backup", str(tmp_path / "third.tar"), "--data-dir", str(up), "--json")
    assert third.returncode == 0, third.stderr
    assert json.loads(third.stdout)["log_size"] >= manifest["log_size"]
    assert not postgres.is_running(up)


def test_a_restore_into_a_database_and_a_store_of_ones_own(
    postgres_server: PostgresHandle, ground: Ground, watcher: str, taken: Path, shell: Shell, tmp_path: Path
) -> None:
    urls = empty_database(postgres_server, f"restored_{uuid4().hex[:8]}")
    told = {
        "RINGI_DATABASE_URL": urls.tenant_url, "RINGI_PLATFORM_DATABASE_URL": urls.app_url, "RINGI_OWNER_DATABASE_URL": urls.owner_url,
        "RINGI_BLOB_URL": (tmp_path / "store").as_uri(), "RINGI_AUDIT_KEY_FILE": str(tmp_path / "keys" / "audit"),
        "RINGI_PERSONAL_KEY_FILE": str(tmp_path / "keys" / "personal"), "RINGI_AUDIT_CHECKPOINT_DIR": str(tmp_path / "checkpoints"),
    }  # fmt: skip
    with as_superuser(ground) as connection:
        connection.execute(f'ALTER ROLE "{watcher}" RENAME TO elsewhere')
        refused = shell.run("restore", str(taken), "--data-dir", str(tmp_path / "data"), **told)
        connection.execute(f'ALTER ROLE elsewhere RENAME TO "{watcher}"')
    assert (refused.returncode, "restore_roles_absent" in refused.stderr) == (1, True)
    assert f'CREATE ROLE "{watcher}" NOLOGIN;' in " ".join(refused.stderr.split())
    assert list((tmp_path / "data").iterdir()) == []
    done = shell.run("restore", str(taken), "--data-dir", str(tmp_path / "data"), "--json", **told)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "data" / "postgres").exists()
    keys = ground.platform.processes.environment
    for name in ("RINGI_AUDIT_KEY_FILE", "RINGI_PERSONAL_KEY_FILE"):
        assert Path(told[name]).read_bytes() == Path(keys[name]).read_bytes()
    assert shape_of(urls.superuser_url) == shape_of(ground.platform.processes.urls.superuser_url)
    with psycopg.connect(urls.tenant_url.replace("+psycopg", "")) as application:
        # Without a caller there is nothing to see, and nothing can be changed.
        assert application.execute("SELECT count(*) FROM users").fetchone() == (0,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            application.execute("UPDATE approval_votes SET reason = ''")
    again = shell.run("restore", str(taken), "--data-dir", str(tmp_path / "other"), **told)
    assert (again.returncode, "is not empty" in again.stderr) == (1, True)
    drop_database(postgres_server, urls.name)


def unpacked(taken: Path, folder: Path) -> Path:
    with tarfile.open(taken) as tar:
        tar.extractall(folder, filter="data")
    return folder


def changed_manifest(folder: Path, change: Callable[[dict[str, object]], None]) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    change(document)
    (folder / MANIFEST).write_text(json.dumps(document))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut off before its manifest": lambda folder: (folder / MANIFEST).unlink(),
    "a byte of the database": lambda folder: flip(folder / "database" / "ringi.dump"),
    "a byte of a blob": lambda folder: flip(next((folder / "blobs").rglob("*/*/*"))),
    "a blob is missing": lambda folder: next((folder / "blobs").rglob("*/*/*")).unlink(),
    "a file too many": lambda folder: (folder / "keys" / "other").write_bytes(b"x"),
    "another format": lambda folder: changed_manifest(folder, lambda document: document.update(format="ringi-backup/2")),
    "a path out of it": lambda folder: changed_manifest(
        folder, lambda document: document.update(files=[{"name": "../x", "size": 0, "digest": "sha256:" + "0" * 64}])
    ),
    "no manifest but a text": lambda folder: (folder / MANIFEST).write_text("終わり"),
}


def test_a_damaged_backup_is_refused_before_anything_is_touched(taken: Path, tmp_path: Path) -> None:
    whole = unpacked(taken, tmp_path / "whole")
    open_backup(whole)
    for number, (name, damage) in enumerate(DAMAGES.items()):
        folder = shutil.copytree(whole, tmp_path / f"damaged-{number}")
        damage(folder)
        with pytest.raises(BackupDamaged):
            restore(folder, tmp_path / f"into-{number}")
        assert not (tmp_path / f"into-{number}").exists(), name
    half = tmp_path / "half.tar"
    half.write_bytes(taken.read_bytes()[: taken.stat().st_size // 2])
    with pytest.raises(BackupDamaged):
        restore(half, tmp_path / "into-half")
    with pytest.raises(BackupDamaged):
        restore(tmp_path / "none", tmp_path / "into-none")


def test_a_restore_writes_over_nothing_and_a_backup_neither(taken: Path, shell: Shell, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "日記.txt").write_text("大切")
    before = files_of(mine)
    done = shell.run("restore", str(taken), "--data-dir", str(mine))
    assert (done.returncode, files_of(mine)) == (1, before)
    assert "is not empty" in done.stderr
    assert shell.run("backup", str(taken), "--data-dir", str(mine)).returncode == 1
    assert shell.run("backup", str(tmp_path / "new"), "--data-dir", str(tmp_path / "nothing")).returncode == 1
    assert shell.run("backup", str(tmp_path / "new"), "--data-dir", str(mine)).returncode == 1
    assert (files_of(mine), (tmp_path / "new").exists()) == (before, False)


def test_a_backup_whose_bytes_are_not_what_they_are_named_is_not_made(ground: Ground, channel: str, shell: Shell, tmp_path: Path) -> None:
    """A bad sector must not become the only copy."""
    del channel
    processes = ground.platform.processes
    copy = tmp_path / "blobs"
    shutil.copytree(processes.data / "blobs", copy)
    flip(next((copy / "sha256").rglob("*/*")))
    told = {name: processes.environment[name] for name in SETTINGS} | {"RINGI_BLOB_URL": copy.as_uri()}
    done = shell.run("backup", str(tmp_path / "bad"), "--data-dir", str(processes.data), **told)
    assert done.returncode == 1
    assert "no longer match" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"blobs"}


@pytest.mark.parametrize("name", ["RINGI_AUDIT_KEY_FILE", "RINGI_PERSONAL_KEY_FILE"])
def test_a_backup_that_would_lack_a_key_is_not_made(platform: Platform, shell: Shell, tmp_path: Path, name: str) -> None:
    told = {one: platform.processes.environment[one] for one in SETTINGS} | {name: str(tmp_path / "nothing-here")}
    done = shell.run("backup", str(tmp_path / "lacking"), "--data-dir", str(platform.processes.data), **told)
    assert (done.returncode, "--without-keys" in done.stderr, name in done.stderr) == (1, True, True), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_log_with_a_changed_entry_is_not_backed_up(platform: Platform, shell: Shell, tmp_path: Path) -> None:
    processes = platform.processes
    url = processes.urls.superuser_url.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as database:
        database.execute("ALTER TABLE audit_leaf DISABLE TRIGGER ALL")
        (kept,) = database.execute("SELECT leaf_hash FROM audit_leaf WHERE leaf_index = 0").fetchone() or (b"",)
        database.execute("UPDATE audit_leaf SET leaf_hash = sha256('other') WHERE leaf_index = 0")
        try:
            told = {name: processes.environment[name] for name in SETTINGS}
            done = shell.run("backup", str(tmp_path / "bad.tar"), "--data-dir", str(processes.data), **told)
        finally:
            database.execute("UPDATE audit_leaf SET leaf_hash = %s WHERE leaf_index = 0", (kept,))
            database.execute("ALTER TABLE audit_leaf ENABLE TRIGGER ALL")
            # As the migration left them: ENABLE TRIGGER ALL alone would not fire for replicas.
            for name in ("audit_leaf_no_change", "audit_leaf_no_truncate"):
                database.execute(f"ALTER TABLE audit_leaf ENABLE ALWAYS TRIGGER {name}".encode())
    assert done.returncode == 1
    assert "entry 0 was changed" in done.stderr
    assert list(tmp_path.iterdir()) == []
