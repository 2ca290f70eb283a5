"""E-mail through a mail server that wants TLS and a login: Japanese, retried, and without a way into the headers."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from pathlib import Path
from uuid import UUID

import pytest
from aiosmtpd.controller import Controller

from events.conftest import USER, Mailbox, World, login
from ringi.events.models import Event
from ringi.identity.models import Project
from ringi.settings import Settings
from ringi_workers.notifications import mail, message
from support.certificates import Certificate, make_certificate
from support.hub_client import free_port
from support.refusals import refused
from support.running_platform import PROJECT
from support.waiting import until


def an_event(**data: str) -> Event:
    return Event(
        id=UUID(int=7), type="adapter.version.revoked", occurred_at=datetime(2026, 4, 1, 9, 30, tzinfo=UTC), data=data,
        project=Project(name=PROJECT),
    )  # fmt: skip


def test_an_event_arrives_as_a_japanese_mail_with_what_it_says(world: World) -> None:
    made = world.subscribed(None, "channel.created", email="shounin@example.co.jp")
    assert (made.secret, made.subscription.target) == (None, "shounin@example.co.jp")
    name = world.happens()
    (delivery,) = world.ended(made)
    assert [(one.outcome, one.status_code) for one in delivery.history] == [("delivered", 250)]
    (letter,) = world.rig.mailbox.letters
    assert world.rig.mailbox.recipients == [["shounin@example.co.jp"]]
    assert letter["Subject"] == f"[Ringi] チャンネルが作成されました: {name} ({PROJECT})"
    assert (letter["From"], letter["To"]) == ("ringi@platform.example.jp", "shounin@example.co.jp")
    text = letter.get_content()
    assert "プロジェクト: support" in text
    assert f"channel: {name}" in text
    assert str(delivery.event_id) in text
    assert letter["Message-ID"] == f"<evt_{delivery.event_id.hex}@platform.example.jp>"


def test_a_mail_that_is_refused_is_tried_again_and_the_servers_words_are_kept(world: World) -> None:
    world.rig.mailbox.refuse += ["451 4.3.0 混雑しています".encode().decode("latin-1"), "550 5.1.1 unknown mailbox"]
    made = world.subscribed(None, email="ops@example.co.jp")
    world.happens()
    (delivery,) = world.ended(made)
    assert [(one.outcome, one.status_code) for one in delivery.history] == [("refused", 451), ("refused", 550), ("delivered", 250)]
    assert "unknown mailbox" in str(delivery.history[1].response)
    assert len(world.rig.mailbox.letters) == 1


def test_a_test_call_by_mail_says_that_it_is_one(world: World) -> None:
    made = world.subscribed(None, "release.published", email="ops@example.co.jp")
    world.platform.as_("deployer").subscriptions.test(PROJECT, made.subscription.name)
    until(lambda: world.rig.mailbox.letters)
    assert "通知のテスト" in world.rig.mailbox.letters[0]["Subject"]
    with refused("subscription_channel_mismatch", 400):
        world.platform.as_("deployer").subscriptions.rotate_secret(PROJECT, made.subscription.name)


@pytest.mark.parametrize(
    "hostile", ["v1\r\nBcc: all@example.com", "v1\nX-Evil: 1\n\n<html>", "v1\x00\x1b[31m", "v1\u2028Bcc: all@example.com", "長" * 5000]
)
def test_no_value_of_an_event_becomes_a_header(hostile: str) -> None:
    letter = message.email(
        an_event(version=hostile, reason=hostile), sender="ringi@example.jp", to="ops@example.jp", public_url="https://ringi.example.jp"
    )
    read = message_from_bytes(letter.as_bytes(), policy=policy.default)
    expected = [
        "Subject",
        "From",
        "To",
        "Date",
        "Message-ID",
        "Auto-Submitted",
        "Content-Type",
        "Content-Transfer-Encoding",
        "MIME-Version",
    ]
    assert sorted(read.keys()) == sorted(expected)
    assert read["To"] == "ops@example.jp"
    assert len(read["Subject"]) <= 150
    lines = [line for line in letter.get_content().splitlines() if line.startswith(("Bcc", "X-Evil"))]
    assert lines == [], "a value stays on its line"


@pytest.mark.parametrize(
    "address",
    [
        "a@b",
        "a b@example.com",
        "a@example.com\r\nBcc: b@example.com",
        "a@example.com,b@example.com",
        "<a@example.com>",
        "受信@example.com",
        '"a"@example.com',
        "a@-example.com",
        "a..b@example.com",
    ],
)
def test_what_is_not_one_plain_mailbox_is_refused(world: World, address: str) -> None:
    body = {"name": "x", "channel": "email", "email": address, "event_types": ["*"]}
    answer = world.platform.call("deployer", "POST", f"/projects/{PROJECT}/subscriptions", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_request")


def test_a_mail_server_without_tls_is_not_spoken_to_where_tls_is_asked_for() -> None:
    server = mail.server_of("smtp+starttls://u:p%40ss@mail.example.jp")
    assert server == ("smtp+starttls", "mail.example.jp", 587, "u", "p@ss")
    assert mail.server_of("smtps://mail.example.jp").port == 465
    with pytest.raises(mail.Unreachable):
        mail.send(
            mail.server_of("smtp+starttls://127.0.0.1:1"), message.email(an_event(), sender="a@example.jp", to="b@example.jp", public_url=""),
            sender="a@example.jp", to="b@example.jp", timeout_s=1,
        )  # fmt: skip


@pytest.fixture
def implicit_tls(tmp_path: Path) -> Iterator[tuple[Controller, Mailbox, Certificate]]:
    """A mail server that speaks TLS from the first byte."""
    mailbox, certificate = Mailbox(), make_certificate(tmp_path, "localhost")
    post = Controller(
        mailbox, hostname="127.0.0.1", port=free_port(), ssl_context=certificate.server(), authenticator=login, auth_require_tls=False,
        auth_exclude_mechanism=["CRAM-MD5"],
    )  # fmt: skip
    post.start()
    try:
        yield post, mailbox, certificate
    finally:
        post.stop()


def test_a_mail_server_that_wants_tls_from_the_first_byte_gets_it_and_must_be_trusted(
    implicit_tls: tuple[Controller, Mailbox, Certificate], monkeypatch: pytest.MonkeyPatch
) -> None:
    post, mailbox, certificate = implicit_tls

    def sent(password: str = "p%40ss%2Fword%3A1") -> int:
        letter = message.email(an_event(version="bot:v2"), sender="a@example.jp", to="b@example.jp", public_url="https://ringi.example.jp")
        server = mail.server_of(f"smtps://{USER}:{password}@localhost:{post.port}")
        return mail.send(server, letter, sender="a@example.jp", to="b@example.jp", timeout_s=2)

    with pytest.raises(mail.Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        sent()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.file))
    with pytest.raises(mail.Refused) as why:
        sent("wrong")
    assert why.value.status_code == 535
    assert mailbox.letters == []
    assert sent() == 250
    assert [letter["Subject"] for letter in mailbox.letters] == [f"[Ringi] アダプターの版が失効しました: bot:v2 ({PROJECT})"]


def test_production_does_not_send_mail_in_the_clear() -> None:
    with pytest.raises(ValueError, match="RINGI_SMTP_URL with smtps"):
        Settings(profile="production", smtp_url="smtp://mail.example.jp")
    with pytest.raises(ValueError, match="must be ASCII"):
        Settings(smtp_url="smtps://u:%E5%90%88@mail.example.jp")
