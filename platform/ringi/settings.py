"""What a deployment sets: every value is an environment variable `RINGI_*`; the defaults are those of `ringi up`.

`profile=production` refuses the embedded conveniences: plain HTTP and SMTP, local users, and an audit key, checkpoints or blobs
without a place of their own.
"""

from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _listed(value: Any) -> Any:
    """A list as an environment variable holds it: `a,b`."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _named(value: Any) -> Any:
    """Names with a value each: `a=b,c=d`."""
    if not isinstance(value, str):
        return value
    parts = [one.partition("=") for one in _listed(value)]
    if any(not equals for _, equals, _ in parts):
        # Without what stands there: it may be a key.
        raise ValueError("write name=value,name=value")
    return {name.strip(): told.strip() for name, _, told in parts}


def _ports(value: Any) -> Any:
    """Ports and ranges of ports: `443,8000-8999`."""
    listed = _listed(value)
    if not all(isinstance(one, str) for one in listed):
        return listed
    bounds = [one.partition("-") for one in listed]
    return tuple(range(int(first), int(last or first) + 1) for first, _, last in bounds)


def _networks(value: Any) -> Any:
    return tuple(ip_network(one) if isinstance(one, str) else one for one in _listed(value))


def _speakable(url: str) -> str:
    """Python's smtplib logs in with ASCII alone."""
    if not unquote(url).isascii():
        raise ValueError("user and password of the mail server must be ASCII")
    return url


Networks = Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_networks)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
JudgeName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
JudgeUrls = Annotated[dict[JudgeName, Annotated[str, Field(pattern=r"^https?://[^\s@?#]+$")]], NoDecode, BeforeValidator(_named)]
# A key is a header's value.
JudgeKeys = Annotated[dict[JudgeName, Annotated[str, Field(pattern=r"^[\x21-\x7e]+$")]], NoDecode, BeforeValidator(_named)]
Ports = Annotated[tuple[Any, ...], NoDecode, BeforeValidator(_ports)]
SmtpUrl = Annotated[str, Field(pattern=r"^(smtp|smtp\+starttls|smtps)://\S+$"), AfterValidator(_speakable)]
Seconds = Annotated[tuple[Annotated[float, Field(gt=0)], ...], NoDecode, BeforeValidator(_listed)]


class Settings(BaseSettings):
    """One process's settings."""

    # What a setting that is wrong holds may be a secret: its error names the setting and not the value.
    model_config = SettingsConfigDict(env_prefix="RINGI_", extra="ignore", hide_input_in_errors=True)

    profile: Literal["embedded", "production"] = "embedded"
    process_name: str = "ringi"
    data_dir: Path = Path(".ringi")
    # The application role: it can add audit rows but neither change nor remove them.
    database_url: str = "postgresql+psycopg://ringi_app@127.0.0.1:5433/ringi"
    # The role of what works for every organisation: relay, sequencer, notifier, workers, and the few questions of the API that are of all.
    platform_database_url: str | None = None
    # The owner role: migrations only.
    owner_database_url: str | None = None
    database_pool_size: int = Field(default=10, ge=1)
    broker_url: str = "redis://127.0.0.1:6380/0"
    # file:///a/shared/folder, or s3://bucket/prefix?endpoint=…&region=… (docs/storage.md); unset means the data folder's `blobs`.
    blob_url: str | None = None
    public_url: str = "http://127.0.0.1:8400"
    # A secret that may create organisations (`ringi up` draws one per data folder); unset means nobody may.
    setup_key: str | None = None
    # The identity provider (OpenID Connect) whose access tokens people show, and this platform's name in their `aud`; unset means local users.
    oidc_issuer: Annotated[str, Field(pattern=r"^https?://\S+$", max_length=512)] | None = None
    oidc_audience: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    # The provider's client for browsers, whose redirect address is RINGI_PUBLIC_URL/auth/callback; unset means no sessions of browsers.
    oidc_client_id: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    oidc_client_secret: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    # A session ends after so long without a request, and after so long in any case.
    session_idle_s: float = Field(default=8 * 3600.0, gt=0)
    session_s: float = Field(default=12 * 3600.0, gt=0)
    # The provider's public client for terminals (`ringi login`), what it asks for, and by which parameter it names the audience, if by one.
    oidc_cli_client_id: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    oidc_scopes: Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*$", max_length=512)] = "openid"
    oidc_audience_parameter: Literal["none", "resource", "audience"] = "none"
    # Votes, roles, tokens and policies need a login; at most so many seconds old, and of this `acr`, where these are set.
    step_up_max_age_s: float | None = Field(default=None, gt=0)
    step_up_acr: Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+$", max_length=128)] | None = None
    # How long a privileged role is held that is granted without a time.
    privileged_role_days: int = Field(default=90, ge=1, le=365)
    mlflow_tracking_uri: str | None = Field(default=None, validation_alias="MLFLOW_TRACKING_URI")
    # The audit log's name in every checkpoint (C2SP tlog-checkpoint: a schema-less URL) and its Ed25519 key.
    audit_origin: str = "ringi.local/audit/1"
    audit_key_file: Path | None = None
    audit_checkpoint_dir: Path | None = None
    # What the data keys of people are wrapped under (docs/erasure.md); made at the first start by the embedded profile alone.
    personal_key_file: Path | None = None
    # Who cosigns the log's checkpoints, and where they are asked (docs/audit.md); unset means nobody.
    witnesses: Path | None = None
    # A folder in which nothing can be replaced (object lock, a mounted WORM): one new file for each anchored checkpoint. It must exist; unset means none.
    anchor_dir: Path | None = None
    # How often the newest checkpoint is anchored and compared with what was anchored; a grant and a revocation are anchored at once.
    anchor_every_s: float = Field(default=300.0, gt=0)
    # Every entry is hashed again at each of those times as long as that takes a twentieth of the time at most, and at the latest after this.
    audit_replay_s: float = Field(default=3600.0, gt=0)
    # Who replays the whole log shows it as a bearer token at /api/v1/audit/log; unset means that nobody reads every organisation's entries there.
    monitor_token: str | None = None
    heartbeat_s: float = Field(default=5.0, gt=0)
    # Memory that a worker may use, in bytes; unset means all that its device or machine has.
    worker_memory_bytes: int | None = Field(default=None, ge=1)
    # The organisation whose jobs alone a worker takes; unset means every organisation's.
    worker_organization: str | None = None
    # Processes that share one training run; unset means one for each CUDA device that the worker sees.
    training_processes: int | None = Field(default=None, ge=1, le=64)
    # The operator's prices of an hour of each kind of device (docs/preflight.md), read at every question; unset means the shipped example.
    price_table: Path | None = None
    # Whether a run that the preflight refuses is not started; `false` keeps what was found with the run, and starts it.
    preflight_refuses: bool = True
    # A queued job that nobody came for is nudged again after this time: the broker may have lost the first message.
    renudge_s: float = Field(default=60.0, gt=0)
    # No watch of what is live looks more often than this.
    watch_shortest_s: float = Field(default=60.0, ge=1)
    # Requests a minute of one token, unless it has a limit of its own; 0 is no limit.
    requests_per_minute: int = Field(default=30_000, ge=0)
    # Where requests are counted; the broker's Valkey by default.
    rate_limit_url: str | None = None
    # How often an open stream of events proves that it lives, and that its token may still see what it shows.
    stream_pulse_s: float = Field(default=15.0, gt=0)
    # Open streams of one API process.
    max_streams: int = Field(default=2000, ge=1)
    max_streams_of_token: int = Field(default=1000, ge=1)
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
    # An upload in parts that nobody went on with for so long is over.
    upload_session_s: float = Field(default=24 * 3600.0, gt=0)
    # Bytes that nothing refers to are kept so long after they were written: whoever uploads has this time to register them.
    orphan_grace_s: float = Field(default=72 * 3600.0, gt=0)
    # How often the relay looks for such bytes.
    collect_every_s: float = Field(default=3600.0, gt=0)
    # Receivers inside the network that webhooks may reach all the same, as `10.1.2.0/24,fd00:7::/64`; none unless the operator says so.
    webhook_allowed_networks: Networks = ()
    webhook_ports: Ports = tuple(range(port, port + 1) for port in (80, 443, 8080, 8443))
    # A DNS server of its own (`address:port`) for the names of receivers; unset means the system's.
    webhook_dns: str | None = Field(default=None, pattern=r"^\S+:\d{1,5}$")
    # One attempt's time in all, from the first byte of TLS to the last of the answer.
    delivery_timeout_s: float = Field(default=10.0, gt=0)
    # The pauses after the first attempt that failed, the second, and so on: three days in all. Docs: docs/webhooks.md.
    delivery_backoff_s: Seconds = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
    # A receiver that has answered nothing well for so long is disabled; what waits for it is kept.
    delivery_give_up_s: float = Field(default=3 * 86_400.0, gt=0)
    # smtp://host:25, smtp+starttls://user:password@host:587 or smtps://user:password@host:465; unset means no e-mail.
    smtp_url: SmtpUrl | None = None
    smtp_from: str = Field(default="ringi@localhost", pattern=r"^[^@\s<>,;:\"()]+@[A-Za-z0-9.-]+$")
    # Modules whose functions may score answers on this worker (docs/scorers.md): their code runs as the worker's user. None unless the operator says so.
    scorer_modules: Names = ()
    # A folder that they are imported from besides the installed packages.
    scorer_folder: Path | None = None
    # Address space of a process that scores, in bytes.
    scorer_memory_bytes: int = Field(default=1024**3, ge=64 * 1024**2)
    # Judges that suites may name, as `name=https://…/v1`, and their keys, as `name=key`; none unless the operator says so.
    judge_endpoints: JudgeUrls = Field(default_factory=dict)
    judge_keys: JudgeKeys = Field(default_factory=dict, repr=False)
    # Requests to one judge that a job has open at once.
    judge_requests: int = Field(default=4, ge=1, le=64)
    # Seconds that the judgement of one arm's answers to one task may take.
    judge_limit_s: float = Field(default=3600, gt=0, le=86_400)
    # Whether tasks that lm-evaluation-harness knows by name may fetch their datasets from the hub; else only what is on this machine is asked.
    harness_downloads: bool = False

    @property
    def audit_key_path(self) -> Path:
        """Where the log's signing key lies."""
        return self.audit_key_file or self.data_dir / "keys" / "audit.key"

    @property
    def audit_checkpoint_path(self) -> Path:
        """The folder in which the signer keeps its last word, outside the database."""
        return self.audit_checkpoint_dir or self.data_dir / "checkpoints"

    @property
    def personal_key_path(self) -> Path:
        """Where the key lies that the data keys of people are wrapped under."""
        return self.personal_key_file or self.data_dir / "keys" / "personal.key"

    @property
    def blob_dir(self) -> Path:
        """The folder of the local blob store."""
        return self.data_dir / "blobs"

    @property
    def id_tokens_are_for_the_api(self) -> bool:
        """Whether the terminals' client and the audience have one name, so that an ID token of a terminal looks like an access token."""
        return self.oidc_audience is not None and self.oidc_audience == self.oidc_cli_client_id

    @property
    def lease_s(self) -> float:
        """A lease is three missed heartbeats long."""
        return 3 * self.heartbeat_s

    @model_validator(mode="after")
    def _provider_is_whole(self) -> "Settings":
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            raise ValueError("RINGI_OIDC_ISSUER and RINGI_OIDC_AUDIENCE belong together")
        if self.oidc_issuer is None and (self.oidc_client_id or self.oidc_cli_client_id):
            raise ValueError("RINGI_OIDC_CLIENT_ID and RINGI_OIDC_CLI_CLIENT_ID are clients of a provider: set RINGI_OIDC_ISSUER")
        if self.oidc_client_secret is not None and self.oidc_client_id is None:
            raise ValueError("RINGI_OIDC_CLIENT_SECRET belongs to RINGI_OIDC_CLIENT_ID")
        return self

    @model_validator(mode="after")
    def _production_is_not_embedded(self) -> "Settings":
        if self.profile != "production":
            return self
        missing = [
            name
            for name, present in (
                ("RINGI_PLATFORM_DATABASE_URL", self.platform_database_url),
                ("RINGI_AUDIT_KEY_FILE", self.audit_key_file),
                ("RINGI_AUDIT_CHECKPOINT_DIR", self.audit_checkpoint_dir),
                ("RINGI_PERSONAL_KEY_FILE", self.personal_key_file),
                ("RINGI_BLOB_URL", self.blob_url),
                ("RINGI_OIDC_ISSUER with https:// and RINGI_OIDC_AUDIENCE", (self.oidc_issuer or "").startswith("https://")),
                ("another RINGI_OIDC_AUDIENCE than RINGI_OIDC_CLI_CLIENT_ID", not self.id_tokens_are_for_the_api),
                ("RINGI_PUBLIC_URL with https://", self.public_url.startswith("https://")),
                ("RINGI_SMTP_URL with smtps:// or smtp+starttls://", not (self.smtp_url or "").startswith("smtp://")),
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
