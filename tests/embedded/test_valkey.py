"""The embedded Valkey keeps what it was told, needs its password and never forgets to make room."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from ringi.embedded import children, valkey
from ringi.embedded.valkey import ValkeyHandle


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[ValkeyHandle]:
    folder = tmp_path / "データ 日本語 folder"
    yield valkey.start(folder)
    valkey.stop(folder)


def test_a_second_start_attaches_to_the_running_broker(broker: ValkeyHandle) -> None:
    assert valkey.start(broker.data_dir) == broker


def test_the_broker_needs_its_password_and_refuses_rather_than_evicts(broker: ValkeyHandle) -> None:
    assert broker.password not in repr(broker)
    assert (broker.data_dir / "valkey" / "valkey.conf").stat().st_mode & 0o777 == 0o600
    with redis.Redis(port=broker.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis.from_url(broker.url) as client:
        settings = client.config_get("bind", "maxmemory-policy", "appendonly")
    assert settings == {"bind": "127.0.0.1", "maxmemory-policy": "noeviction", "appendonly": "yes"}


def test_a_message_survives_a_restart_and_the_address_stays(broker: ValkeyHandle) -> None:
    with redis.Redis.from_url(broker.url) as client:
        client.rpush("cpu", "nudge 稟議")
    valkey.stop(broker.data_dir)
    assert not valkey.is_running(broker.data_dir)
    again = valkey.start(broker.data_dir)
    assert again.url == broker.url
    with redis.Redis.from_url(again.url) as client:
        assert client.lpop("cpu") == "nudge 稟議".encode()


def test_kill_9_is_noticed_and_the_next_start_serves_again(broker: ValkeyHandle) -> None:
    process = children.process_of(broker.pid)
    assert process is not None
    os.kill(broker.pid, signal.SIGKILL)
    assert children.wait_gone(process, 10)
    assert not valkey.is_running(broker.data_dir)
    assert valkey.start(broker.data_dir).pid != broker.pid


def test_a_pid_file_that_names_another_process_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "valkey").mkdir()
    (tmp_path / "valkey" / "valkey.pid").write_text(str(os.getpid()), encoding="utf-8")
    assert not valkey.is_running(tmp_path)
    valkey.stop(tmp_path, grace_s=1)
