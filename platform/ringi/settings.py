"""What a deployment sets: every value is an environment variable `RINGI_*`; the defaults are those of `ringi up`.

`profile=production` refuses the embedded conveniences: plain HTTP, and an audit key, checkpoints or blobs without a place of their own.
"""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One process's settings."""

    model_config = SettingsConfigDict(env_prefix="RINGI_", extra="ignore")

    profile: Literal["embedded", "production"] = "embedded"
    process_name: str = "ringi"
    data_dir: Path = Path(".ringi")
    # The application role: it can add audit rows but neither change nor remove them.
    database_url: str = "postgresql+psycopg://ringi_app@127.0.0.1:5433/ringi"
    # The owner role: migrations only.
    owner_database_url: str | None = None
    database_pool_size: int = Field(default=10, ge=1)
    broker_url: str = "redis://127.0.0.1:6380/0"
    blob_url: str | None = None
    public_url: str = "http://127.0.0.1:8400"
    # A secret that may create organisations (`ringi up` draws one per data folder); unset means nobody may.
    setup_key: str | None = None
    mlflow_tracking_uri: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_URI")
    # The audit log's name in every checkpoint (C2SP tlog-checkpoint: a schema-less URL) and its Ed25519 key.
    audit_origin: str = "ringi.local/audit/1"
    audit_key_file: Path | None = None
    audit_checkpoint_dir: Path | None = None
    heartbeat_s: float = Field(default=5.0, gt=0)
    # A queued job that nobody came for is nudged again after this time: the broker may have lost the first message.
    renudge_s: float = Field(default=60.0, gt=0)
    # `auto`: JSON lines in production and wherever standard error is no terminal.
    log_format: Literal["auto", "json", "text"] = "auto"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    # Who scrapes /metrics shows it as a bearer token; unset means that nobody may at the API.
    metrics_token: str | None = None
    # Where the relay, the sequencer and the workers answer /metrics, /healthz and /readyz; unset means nowhere.
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    metrics_host: str = "127.0.0.1"
    # Bytes of one upload; large base models are sharded far below it.
    max_upload_bytes: int = Field(default=64 * 1024**3, ge=1)

    @property
    def blob_dir(self) -> Path:
        """The folder of the local blob store."""
        return self.data_dir / "blobs"

    @property
    def lease_s(self) -> float:
        """A lease is three missed heartbeats long."""
        return 3 * self.heartbeat_s

    @model_validator(mode="after")
    def _production_is_not_embedded(self) -> "Settings":
        if self.profile != "production":
            return self
        missing = [
            name
            for name, present in (
                ("RINGI_AUDIT_KEY_FILE", self.audit_key_file),
                ("RINGI_AUDIT_CHECKPOINT_DIR", self.audit_checkpoint_dir),
                ("RINGI_BLOB_URL", self.blob_url),
                ("RINGI_PUBLIC_URL with https://", self.public_url.startswith("https://")),
            )
            if not present
        ]
        if missing:
            raise ValueError(f"profile 'production' needs {', '.join(missing)}; the embedded defaults are not for production")
        return self


@cache
def get_settings() -> Settings:
    """The process's settings, read once."""
    return Settings()
