"""The notifier, `python -m ringi_workers.notifier`: events go to webhooks and mailboxes, with a history of every attempt.

Woken by LISTEN when a delivery is committed, and by a timer for what is due later. Several may run side by side. A receiver gets one
delivery at a time (lease on its subscription), a host few, and one attempt ends within RINGI_DELIVERY_TIMEOUT_S, so that a slow one holds
no more than its share. A notifier that is killed in the middle loses its leases; its deliveries go out again: at least once.
Loads no torch.
"""

import logging
import os
import platform
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from ringi.db.session import transaction, work_for_all
from ringi.events import deliveries, signing, targets
from ringi.events.deliveries import Attempt, Claimed
from ringi.events.emission import CHANNEL
from ringi.events.schemas import AttemptOutcome, Channel, DeliveryState
from ringi.kit.stopping import Stop
from ringi.observe import logs, serving
from ringi.observe.signs import NOTIFIER, Signs
from ringi.settings import Settings, get_settings
from ringi_workers.listening import keep_up, listen, wait
from ringi_workers.notifications import mail, message, webhook

SLOTS, SLOTS_PER_HOST = 16, 4
# A lease outlives the longest attempt, look-up of the name included, so that only a dead notifier loses one.
_LEASE_TIMEOUTS, _LEASE_REST_S = 2.0, 2 * targets.RESOLVE_S
_USER_AGENT = "Ringi-Webhooks/1 (+https://www.standardwebhooks.com)"
log = logging.getLogger("ringi.notifier")


class Carrier:
    """The slots of this process, and what they are busy with."""

    def __init__(self, settings: Settings, stop: Stop) -> None:
        self.settings, self.stop, self.closing = settings, stop, False
        self.owner = f"{settings.process_name}/{platform.node()}/{os.getpid()}"
        self.lease_s = _LEASE_TIMEOUTS * settings.delivery_timeout_s + _LEASE_REST_S
        self._context = webhook.tls()
        self._hosts: Counter[str] = Counter()
        # One claim at a time, so that what a host is given is counted before the next claim looks.
        self._claiming = threading.Lock()

    def take(self) -> Claimed | None:
        """A delivery to a host with a free slot."""
        if self.stop.asked or self.closing:
            return None
        with self._claiming:
            full = [host for host, count in self._hosts.items() if count >= SLOTS_PER_HOST]
            with transaction() as session:
                claimed = deliveries.take(session, owner=self.owner, lease_s=self.lease_s, not_hosts=full)
            if claimed is not None:
                self._hosts[claimed.subscription.host] += 1
        return claimed

    def carry(self, first: Claimed) -> None:
        """Deliver, and go on with what is due next, until there is nothing more; the work of one slot."""
        claimed: Claimed | None = first
        while claimed is not None:
            host = claimed.subscription.host
            try:
                attempt = self.attempt(claimed)
                with transaction() as session:
                    state = deliveries.record(session, claimed, attempt, owner=self.owner)
                _log(claimed, attempt, state)
            finally:
                with self._claiming:
                    self._hosts[host] -= 1
            claimed = self.take()

    def attempt(self, claimed: Claimed) -> Attempt:
        """Try once. Whatever happens is an outcome; nothing is raised, so that no delivery can end its notifier."""
        begun = time.monotonic()

        def ended(outcome: AttemptOutcome, **what: object) -> Attempt:
            return Attempt(outcome, claimed.at, int((time.monotonic() - begun) * 1000), **what)  # type: ignore[arg-type]  # by name

        try:
            return ended(**self._mail(claimed)) if claimed.subscription.channel == Channel.EMAIL else ended(**self._post(claimed))
        except targets.TargetRefused as refusal:
            return ended(AttemptOutcome.FORBIDDEN, error=refusal.message)
        except targets.TargetUnresolved as refusal:
            return ended(AttemptOutcome.UNREACHABLE, error=refusal.message)
        except (webhook.Unreachable, mail.Unreachable) as error:
            return ended(AttemptOutcome.UNREACHABLE, error=str(error))
        except mail.Refused as refusal:
            return ended(AttemptOutcome.REFUSED, status_code=refusal.status_code, response=refusal.response)
        except Exception as error:
            log.exception("delivery %s failed in a way that nobody foresaw", claimed.delivery.id)
            return ended(AttemptOutcome.UNREACHABLE, error=f"{type(error).__name__}: {error}"[: webhook.MAX_RESPONSE])

    def _post(self, claimed: Claimed) -> dict[str, Any]:
        subscription, body = claimed.subscription, message.webhook_body(claimed.event)
        checked = targets.check(subscription.target, self.settings)
        keys = [subscription.secret or ""]
        until = subscription.previous_secret_until
        if subscription.previous_secret is not None and until is not None and until > claimed.at:
            keys.append(subscription.previous_secret)
        headers = signing.signed_headers(keys, message_id=message.message_id(claimed.event), at=claimed.at, body=body)
        headers |= {"Content-Type": "application/json", "User-Agent": _USER_AGENT}
        answer = webhook.post(checked, body=body, headers=headers, timeout_s=self.settings.delivery_timeout_s, context=self._context)
        outcome = AttemptOutcome.DELIVERED if answer.accepted else AttemptOutcome.REFUSED
        return {
            "outcome": outcome, "status_code": answer.status_code, "response": answer.response, "gone": answer.gone, "wait_s": answer.wait_s,
        }  # fmt: skip

    def _mail(self, claimed: Claimed) -> dict[str, Any]:
        if self.settings.smtp_url is None:
            raise mail.Unreachable("RINGI_SMTP_URL is not set for this notifier")
        to, sender = claimed.subscription.target, self.settings.smtp_from
        letter = message.email(claimed.event, sender=sender, to=to, public_url=self.settings.public_url)
        server = mail.server_of(self.settings.smtp_url)
        code = mail.send(server, letter, sender=sender, to=to, timeout_s=self.settings.delivery_timeout_s)
        return {"outcome": AttemptOutcome.DELIVERED, "status_code": code}


def _log(claimed: Claimed, attempt: Attempt, state: DeliveryState) -> None:
    if attempt.outcome is not AttemptOutcome.DELIVERED:
        why = attempt.error or attempt.status_code
        log.warning("delivery %s to '%s': %s, now %s (%s)", claimed.delivery.id, claimed.subscription.name, attempt.outcome, state, why)


def work(stop: Stop, signs: Signs) -> None:
    """Fill the slots until asked to stop; a lost database raises. Leaving waits for the attempts that are on their way."""
    carrier = Carrier(get_settings(), stop)
    running: set[Future[None]] = set()
    with listen(CHANNEL) as connection, ThreadPoolExecutor(SLOTS, thread_name_prefix="slot") as slots:
        try:
            while not stop.asked:
                signs.came_round()
                for done in [one for one in running if one.done()]:
                    running.remove(done)
                    done.result()
                while len(running) < SLOTS and (claimed := carrier.take()) is not None:
                    running.add(slots.submit(carrier.carry, claimed))
                wait(connection)
        finally:
            # The slots end what they have and take nothing new; otherwise this would wait for them for ever.
            carrier.closing = True


def main() -> int:
    """Entry point; a database that is away is waited for with growing pauses."""
    work_for_all()
    logs.configure()
    stop, signs = Stop(), Signs(NOTIFIER)
    serving.start(broker=False, signs=signs)
    log.info("notifying")
    keep_up(work, stop, signs, log)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
