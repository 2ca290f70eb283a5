"""Our signatures are those of Standard Webhooks: its own library makes the same and accepts ours."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from ringi.events import signing
from ringi.events.deliveries import pause_s
from ringi.events.emission import matches
from ringi.settings import Settings


def test_the_vector_of_the_specification_is_signed_as_it_says() -> None:
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    signed = signing.sign(secret, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=body)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.text(max_size=300), st.text(alphabet=st.characters(min_codepoint=48, max_codepoint=122), min_size=1, max_size=40))
def test_the_library_makes_the_same_signature_and_accepts_ours(text: str, message_id: str) -> None:
    secret, at, body = signing.draw_secret(), datetime.now(UTC), text.encode("utf-8", "replace")
    headers = signing.signed_headers([secret], message_id=message_id, at=at, body=body)
    assert headers["webhook-signature"] == Webhook(secret).sign(message_id, at, body.decode())


def test_an_old_timestamp_is_refused_by_the_library() -> None:
    secret, body = signing.draw_secret(), b"{}"
    headers = signing.signed_headers([secret], message_id="evt_1", at=datetime.now(UTC) - timedelta(hours=1), body=body)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, headers)


def test_the_schedule_lasts_three_days_and_its_pauses_are_scattered() -> None:
    schedule = Settings().delivery_backoff_s
    assert 3 * 86_400 <= sum(schedule) <= 4 * 86_400
    drawn = {pause_s(schedule, 2) for _ in range(50)}
    assert len(drawn) > 10
    assert all(0.8 * 300 <= one <= 1.2 * 300 for one in drawn)
    assert pause_s(schedule, 1, wish_s=100) == 100
    assert pause_s(schedule, 1, wish_s=10**9) == 86_400


@pytest.mark.parametrize(
    ("pattern", "type_", "wanted"),
    [
        ("*", "a.b", True),
        ("a.*", "a.b.c", True),
        ("a.*", "ab.c", False),
        ("a.b", "a.b", True),
        ("a.b", "a.b.c", False),
        ("a.b.*", "a.b", False),
    ],
)
def test_a_pattern_is_a_type_a_prefix_or_everything(pattern: str, type_: str, wanted: bool) -> None:
    assert matches([pattern], type_) is wanted
