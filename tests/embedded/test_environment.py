"""What the processes of a data folder are told, and which servers of one's own take the place of the embedded ones."""

from pathlib import Path

import pytest

from ringi.embedded import environment, valkey
from ringi.embedded.environment import OwnDatabaseIncomplete, environment_for
from ringi.settings import Settings

OWN = {
    "RINGI_DATABASE_URL": "postgresql+psycopg://app@db.example/ringi",
    "RINGI_OWNER_DATABASE_URL": "postgresql+psycopg://owner@db.example/ringi",
    "RINGI_PLATFORM_DATABASE_URL": "postgresql+psycopg://platform@db.example/ringi",
    "RINGI_BROKER_URL": "redis://broker.example/0",
}


def test_own_servers_take_the_place_of_the_embedded_ones(tmp_path: Path) -> None:
    told = environment_for(tmp_path, OWN | {"MLFLOW_TRACKING_URI": "http://mlflow.example"})
    assert OWN.items() <= told.items()
    assert told["MLFLOW_TRACKING_URI"] == "http://mlflow.example"
    assert not (tmp_path / "postgres").exists()
    assert not (tmp_path / "valkey").exists()


@pytest.mark.parametrize("missing", ["RINGI_OWNER_DATABASE_URL", "RINGI_PLATFORM_DATABASE_URL"])
def test_half_of_an_own_database_is_refused_with_the_missing_name(tmp_path: Path, missing: str) -> None:
    with pytest.raises(OwnDatabaseIncomplete, match=missing):
        environment_for(tmp_path, {name: value for name, value in OWN.items() if name != missing})


def test_the_setup_key_is_drawn_once_and_private(tmp_path: Path) -> None:
    first, second = environment_for(tmp_path, OWN), environment_for(tmp_path, OWN)
    assert first == second
    assert environment_for(tmp_path / "other", OWN)["RINGI_SETUP_KEY"] != first["RINGI_SETUP_KEY"]
    assert (tmp_path / "secrets" / "setup-key").stat().st_mode & 0o777 == 0o600


def test_every_name_is_one_that_the_settings_read(tmp_path: Path) -> None:
    known = {f"RINGI_{name}".upper() for name in Settings.model_fields} | {"MLFLOW_TRACKING_URI"}
    assert set(environment_for(tmp_path, OWN)) <= known


def test_an_embedded_broker_is_used_beside_an_own_database(tmp_path: Path) -> None:
    handle = valkey.start(tmp_path)
    try:
        told = environment_for(tmp_path, {name: value for name, value in OWN.items() if name != "RINGI_BROKER_URL"})
        assert told["RINGI_BROKER_URL"] == handle.url
    finally:
        valkey.stop(tmp_path)


def test_the_port_of_the_api_is_kept(tmp_path: Path) -> None:
    environment.keep_api_port(tmp_path, 9123)
    assert environment.api_port_of(tmp_path) == 9123
    assert environment_for(tmp_path, OWN)["RINGI_PUBLIC_URL"] == "http://127.0.0.1:9123"
