"""What every process of the embedded platform is told: the addresses and secrets of one data folder, as environment variables.

`RINGI_DATABASE_URL`, `RINGI_BROKER_URL` and `MLFLOW_TRACKING_URI` of the caller win; the embedded server of that kind is then not started.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from ringi.embedded import postgres, valkey
from ringi.embedded.folder import LOOPBACK, free_port, remembered, secret, write_private
from ringi.kit.errors import RingiError

DEFAULT_API_PORT = 8400
# What must be told of a database of one's own, beside RINGI_DATABASE_URL.
_OWN = {
    "RINGI_OWNER_DATABASE_URL": "that owns its tables, for the migrations",
    "RINGI_PLATFORM_DATABASE_URL": "ringi_platform, for what works for every organisation",
}


class OwnDatabaseIncomplete(RingiError):
    """A database of one's own needs three roles: for the application, for what works for every organisation, and the owner of the tables."""

    code, status = "own_database_incomplete", 409

    def __init__(self, missing: str, role: str) -> None:
        super().__init__(
            f"RINGI_DATABASE_URL points to a database of your own, but {missing} is not set.",
            next_step=f"Set {missing} to the same database with the role {role}.",
        )


def uses_embedded_database(environ: Mapping[str, str]) -> bool:
    """Whether `ringi up` starts a PostgreSQL; raises OwnDatabaseIncomplete when half of an own one is given."""
    if not environ.get("RINGI_DATABASE_URL"):
        return True
    for name, role in _OWN.items():
        if not environ.get(name):
            raise OwnDatabaseIncomplete(name, role)
    return False


def uses_embedded_broker(environ: Mapping[str, str]) -> bool:
    """Whether `ringi up` starts a Valkey."""
    return not environ.get("RINGI_BROKER_URL")


def api_port_of(data_dir: Path) -> int:
    """The port that the API of this data folder listens on; drawn once and then kept, so that addresses stay valid."""
    return int(remembered(data_dir.resolve() / "api-port", lambda: str(free_port(DEFAULT_API_PORT))))


def keep_api_port(data_dir: Path, port: int) -> None:
    """Let the API of this data folder listen on `port` from the next start on."""
    data_dir.mkdir(parents=True, exist_ok=True)
    write_private(data_dir / "api-port", str(port))


def environment_for(data_dir: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of this data folder's processes; raises NotStarted before its servers were started once."""
    data_dir = data_dir.resolve()
    defaults = {
        "RINGI_DATA_DIR": str(data_dir),
        "RINGI_PUBLIC_URL": f"http://{LOOPBACK}:{api_port_of(data_dir)}",
        "RINGI_SETUP_KEY": remembered(data_dir / "secrets" / "setup-key", secret),
        "RINGI_METRICS_TOKEN": remembered(data_dir / "secrets" / "metrics-token", secret),
        "RINGI_AUDIT_KEY_FILE": str(data_dir / "secrets" / "audit-key"),
        "RINGI_PERSONAL_KEY_FILE": str(data_dir / "secrets" / "personal-key"),
        "RINGI_AUDIT_CHECKPOINT_DIR": str(data_dir / "checkpoints"),
    }
    if uses_embedded_database(environ):
        database = postgres.attach(data_dir)
        defaults |= {
            "RINGI_DATABASE_URL": database.app_url,
            "RINGI_PLATFORM_DATABASE_URL": database.platform_url,
            "RINGI_OWNER_DATABASE_URL": database.owner_url,
            "MLFLOW_TRACKING_URI": database.mlflow_url,
        }
    else:
        defaults |= {name: environ[name] for name in ("RINGI_DATABASE_URL", *_OWN)}
    if uses_embedded_broker(environ):
        defaults["RINGI_BROKER_URL"] = valkey.attach(data_dir).url
    overridable = (
        "RINGI_BROKER_URL", "RINGI_PUBLIC_URL", "RINGI_SETUP_KEY", "RINGI_METRICS_TOKEN", "RINGI_AUDIT_KEY_FILE", "RINGI_AUDIT_CHECKPOINT_DIR",
        "RINGI_PERSONAL_KEY_FILE",
    )  # fmt: skip
    return defaults | {name: environ[name] for name in (*overridable, "MLFLOW_TRACKING_URI") if environ.get(name)}
