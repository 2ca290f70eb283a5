"""What a receiver gets of an event: the JSON of a webhook, and the subject and text of an e-mail. Pure.

The JSON is a Standard Webhooks payload (`type`, `timestamp`, `data`) with the event's id and project beside it. It is made from the event's
row alone, so every attempt and every replay sends the same bytes.
"""

import json
import unicodedata
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from ringi.events.catalogue.names import CATALOGUE
from ringi.events.models import Event

_SUBJECT_CHARACTERS = 150


def message_id(event: Event) -> str:
    """`webhook-id`: the same for every attempt and replay of an event, so that a receiver drops what it has seen."""
    return f"evt_{event.id.hex}"


def webhook_body(event: Event) -> bytes:
    """UTF-8 JSON."""
    document = {
        "type": event.type, "timestamp": f"{event.occurred_at:%Y-%m-%dT%H:%M:%S.%f}Z", "id": str(event.id),
        "project": event.project.name if event.project else None, "data": event.data,
    }  # fmt: skip
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def email(event: Event, *, sender: str, to: str, public_url: str) -> EmailMessage:
    """A Japanese message with the event's data in plain text. No value of the event can add a header: EmailMessage folds and refuses."""
    known = CATALOGUE.get(event.type)
    title = known.TITLE if known else event.type
    project = event.project.name if event.project else "全プロジェクト"
    message = EmailMessage(policy=SMTP)
    message["Subject"] = _line(f"[Ringi] {title}: {_subject_of(event)} ({project})")[:_SUBJECT_CHARACTERS]
    message["From"], message["To"] = sender, to
    message["Date"] = format_datetime(event.occurred_at)
    # The same for every attempt, so that a mailbox can tell a repetition.
    message["Message-ID"] = f"<{message_id(event)}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    lines = [
        f"{title}。",
        "",
        f"プロジェクト: {project}",
        f"イベント: {event.type}",
        f"日時: {event.occurred_at:%Y-%m-%d %H:%M:%S} UTC",
        "",
    ]
    lines += [f"{name}: {_line(_text(value))}" for name, value in event.data.items()]
    lines += ["", f"イベント番号: {event.id}", f"Ringi: {public_url}", "このメールは自動送信です。通知の変更: ringi subscriptions"]
    message.set_content("\n".join(lines) + "\n", charset="utf-8", cte="base64")
    return message


def _subject_of(event: Event) -> str:
    wanted = ("version", "adapter", "revision", "dataset", "base", "channel", "subject", "subscription")
    return next((_text(event.data[name]) for name in wanted if event.data.get(name)), event.type)


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _line(text: str) -> str:
    """One line, without characters that a mail program or a terminal would act on."""
    return "".join(" " if unicodedata.category(one) in {"Cc", "Zl", "Zp"} else one for one in text)
