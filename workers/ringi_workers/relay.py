"""The outbox relay, `python -m ringi_workers.relay`: messages go from the database to the broker, and silent workers are found.

Woken by LISTEN when a message is committed, and by a timer for what is due later. Several may run side by side (SKIP LOCKED).
The broker being away is not an error here: messages wait in the database and go out when it is back.
"""

import logging
import time

from kombu.exceptions import OperationalError as BrokerAway

from ringi.db.session import transaction, work_for_all
from ringi.events.models import OutboxMessage
from ringi.events.outbox import CHANNEL, deliver_due
from ringi.kit.stopping import Stop
from ringi.observe import logs, serving
from ringi.observe.signs import RELAY, Signs
from ringi.settings import get_settings
from ringi_workers import housekeeping
from ringi_workers.app import RUN_JOB, app
from ringi_workers.listening import keep_up, listen, wait

_BROKER_ANSWERS_S = 5.0
_BATCH = 100
log = logging.getLogger("ringi.relay")


def send(message: OutboxMessage) -> None:
    """Nudge the workers of a queue; raises ConnectionError when the broker is away."""
    try:
        app.send_task(RUN_JOB, args=[message.key], queue=message.payload["queue"], retry=False)
    except BrokerAway as error:
        raise ConnectionError(str(error)) from error


def deliver() -> None:
    """Everything that is due."""
    while True:
        with transaction() as session:
            if deliver_due(session, send, batch=_BATCH) < _BATCH:
                # What came since has notified, and `wait` returns at once.
                return


def work(stop: Stop, signs: Signs) -> None:
    """Deliver and sweep until asked to stop; a lost database raises."""
    swept_at = 0.0
    rounds, collecting = housekeeping.Housekeeping(), housekeeping.Collecting()
    with listen(CHANNEL) as connection:
        while not stop.asked:
            signs.came_round()
            deliver()
            if time.monotonic() - swept_at >= get_settings().heartbeat_s:
                swept_at = time.monotonic()
                rounds.sweep()
            collecting.go_on()
            wait(connection)


def main() -> int:
    """Entry point; a database that is away is waited for with growing pauses."""
    work_for_all()
    logs.configure()
    stop, signs = Stop(), Signs(RELAY)
    serving.start(broker=True, signs=signs)
    log.info("relaying")
    # Here only: this process sends and never waits for messages, which is a read without an end in the workers.
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "socket_timeout": _BROKER_ANSWERS_S}
    keep_up(work, stop, signs, log)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
