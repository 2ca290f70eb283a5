"""A platform whose notifier may be killed, with an own name server, a certificate that it trusts, and a mail server that wants TLS and a login.

127.0.0.1 is on its list of allowed networks, as an intranet's receiver would be; the rest of 127.0.0.0/8 is not.
"""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from sqlalchemy import make_url

from ringi.embedded.postgres import PostgresHandle
from ringi.events.schemas import CreateSubscription, DeliveryOut, DeliveryState, DeliveryWithAttempts, SubscriptionWithSecret
from support.certificates import Certificate, make_certificate
from support.dns_server import NameServer, name_server
from support.hub_client import free_port
from support.postgres import DatabaseUrls, fresh_database
from support.running_platform import PROJECT, Platform, Processes, environment_of, new_organization, start_api
from support.waiting import until

HOST = "hooks.example.test"
USER, PASSWORD = "ringi", "p@ss/word:1"
TIMEOUT_S = 1.5


@dataclass
class Mailbox:
    """What the mail server took; `refuse` is the reply code of the next messages, none when empty."""

    letters: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    refuse: list[str] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        """Take a message."""
        if self.refuse:
            return self.refuse.pop(0)
        letter = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(letter, EmailMessage)
        self.letters.append(letter)
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 taken"


def login(_server: object, _session: object, _envelope: object, _mechanism: str, given: Any) -> AuthResult:
    """The mail server knows one user."""
    known = isinstance(given, LoginPassword) and given.login == USER.encode() and given.password == PASSWORD.encode()
    return AuthResult(success=known, handled=False)


@dataclass(frozen=True)
class Rig:
    """The processes, and the servers of other people around them."""

    processes: Processes
    names: NameServer
    mailbox: Mailbox
    certificate: Certificate

    @contextmanager
    def superuser(self) -> Iterator[psycopg.Connection]:
        """What only tests may do: set the scene, a day later for instance."""
        url = make_url(self.processes.urls.superuser_url).set(drivername="postgresql")
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
            yield connection

    @contextmanager
    def without_notifier(self, number: int = signal.SIGKILL) -> Iterator[subprocess.Popen[bytes]]:
        """The notifier is sent a signal; when the block is left, however that is, it has ended and a new one is started."""
        process = self.processes.running.pop("notifier")
        os.killpg(process.pid, number)
        if number == signal.SIGKILL:
            process.wait(30)
        try:
            yield process
        finally:
            process.kill()
            process.wait(30)
            self.processes.start("notifier", "ringi_workers.notifier")

    @contextmanager
    def second_notifier(self) -> Iterator[None]:
        """One more notifier, at work."""
        process = self.processes.start("second-notifier", "ringi_workers.notifier")
        listens = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'second-notifier' AND query LIKE 'LISTEN%'"

        def at_work(connection: psycopg.Connection) -> bool:
            assert process.poll() is None, self.processes.log_of("second-notifier")
            return connection.execute(listens).fetchone() is not None

        try:
            with self.superuser() as connection:
                until(lambda: at_work(connection))
            yield
        finally:
            self.processes.kill("second-notifier")


@dataclass(frozen=True)
class World:
    """One organisation of the test's own, and what tests say to it."""

    rig: Rig
    platform: Platform

    def subscribed(self, url: str | None = None, *events: str, email: str | None = None, name: str | None = None) -> SubscriptionWithSecret:
        """A subscription of the deployer's."""
        body: dict[str, Any] = {
            "name": name or f"sub-{uuid4().hex[:8]}",
            "event_types": list(events) or ["channel.created"],
            "description": "通知先",
        }
        body |= {"url": url} if url else {"channel": "email", "email": email}
        return self.platform.as_("deployer").subscriptions.create(PROJECT, CreateSubscription.model_validate(body))

    def happens(self, name: str | None = None) -> str:
        """Something that takes no worker: a channel is created; returns its name."""
        made = name or f"channel-{uuid4().hex[:8]}"
        self.platform.as_("deployer").releases.create_channel(PROJECT, made, environment="production")
        return made

    def deliveries(self, subscription: SubscriptionWithSecret, state: DeliveryState | None = None) -> list[DeliveryOut]:
        """Oldest first."""
        calls = self.platform.as_("deployer").subscriptions
        return list(calls.deliveries(PROJECT, subscription.subscription.name, state=state))[::-1]

    def ended(
        self, subscription: SubscriptionWithSecret, count: int = 1, *, state: DeliveryState = DeliveryState.DELIVERED
    ) -> list[DeliveryWithAttempts]:
        """The deliveries with their attempts, once so many are in `state`."""
        found = until(lambda: len(all_ := self.deliveries(subscription, state)) >= count and all_, timeout_s=40, pause_s=0.1)
        assert isinstance(found, list)
        return [self.delivery(one.id) for one in found]

    def delivery(self, delivery_id: UUID) -> DeliveryWithAttempts:
        """One with its attempts."""
        return self.platform.as_("deployer").subscriptions.delivery(PROJECT, delivery_id)

    def attempted(self, subscription: SubscriptionWithSecret, attempts: int = 1) -> DeliveryWithAttempts:
        """The first delivery, once so many attempts of it are over."""

        def look() -> DeliveryOut | None:
            found = self.deliveries(subscription)
            return found[0] if found and found[0].attempts >= attempts else None

        found = until(look, timeout_s=40, pause_s=0.1)
        assert found is not None
        return self.delivery(found.id)


@pytest.fixture(scope="package")
def rig(postgres_server: PostgresHandle, migrated_template: DatabaseUrls) -> Iterator[Rig]:
    urls = fresh_database(postgres_server, f"events_{uuid4().hex[:8]}", template=migrated_template.name)
    mailbox = Mailbox()
    with tempfile.TemporaryDirectory(prefix="ringi-events-", ignore_cleanup_errors=True) as name, name_server() as names:
        folder = Path(name)
        (folder / "data").mkdir()
        certificate = make_certificate(folder, HOST, "localhost")
        post = Controller(
            mailbox, hostname="127.0.0.1", port=free_port(), tls_context=certificate.server(), require_starttls=True, auth_required=True,
            authenticator=login, auth_exclude_mechanism=["CRAM-MD5"],
        )  # fmt: skip
        post.start()
        processes = Processes(folder, urls, "redis://127.0.0.1:1/0", environment_of(folder, urls, "redis://127.0.0.1:1/0", free_port()))
        processes.environment |= {
            "RINGI_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1/32", "RINGI_WEBHOOK_PORTS": "1-65535", "RINGI_WEBHOOK_DNS": names.server,
            "RINGI_DELIVERY_TIMEOUT_S": str(TIMEOUT_S), "RINGI_DELIVERY_BACKOFF_S": "0.3,0.3,0.3,600", "SSL_CERT_FILE": str(certificate.file),
            "RINGI_SMTP_URL": f"smtp+starttls://{USER}:p%40ss%2Fword%3A1@localhost:{post.port}",
            "RINGI_SMTP_FROM": "ringi@platform.example.jp",
        }  # fmt: skip
        try:
            processes.start("notifier", "ringi_workers.notifier")
            start_api(processes)
            yield Rig(processes, names, mailbox, certificate)
        finally:
            processes.stop()
            post.stop()


@pytest.fixture
def world(rig: Rig) -> Iterator[World]:
    rig.names.names[HOST] = ["127.0.0.1"]
    rig.mailbox.letters.clear()
    rig.mailbox.recipients.clear()
    rig.mailbox.refuse.clear()
    with new_organization(rig.processes) as platform:
        yield World(rig, platform)
        for one in list(platform.as_("deployer").subscriptions.all(PROJECT)):
            platform.as_("deployer").subscriptions.delete(PROJECT, one.name)
    # Shown when the test fails.
    print(rig.processes.log_of("api")[-3000:], rig.processes.log_of("notifier")[-3000:])
