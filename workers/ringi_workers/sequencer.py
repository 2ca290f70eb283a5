"""The audit sequencer process, `python -m ringi_workers.sequencer`: events get their index, then the head gets its signature.

It looks at the queue five times a second and signs at once when the log grew, else checks every ten seconds that the log still extends
what was signed. Writers do not NOTIFY it: NOTIFY takes one lock for all commits of the server (durable inserts of 32 clients on two
cores fell from 2,600-3,400 to 550 a second), while looking at an empty queue costs three short queries.
One sequencer works at a time (advisory lock); a second one only waits. Loads no torch and no Celery.
"""

import logging
import time

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ringi.audit.note import Signer
from ringi.audit.sequence import sequence_once
from ringi.audit.signing import CheckpointFile, load_or_create_signer, load_signer, sign_head
from ringi.db.session import get_engine, transaction, work_for_all
from ringi.kit.errors import RingiError
from ringi.observe import logs, metrics, serving
from ringi.observe.signs import SEQUENCER, Signs
from ringi.settings import Settings, get_settings
from ringi_workers.stopping import Stop

ROUND_S = 0.2
CHECK_S = 10.0
FIRST_BACKOFF_S = 0.2
LAST_BACKOFF_S = 5.0
BATCH = 5000

logger = logging.getLogger("ringi.sequencer")


def open_signer(settings: Settings) -> Signer:
    """The log's key; only the embedded profile makes one by itself."""
    path = settings.audit_key_file or settings.data_dir / "keys" / "audit.key"
    load = load_signer if settings.profile == "production" else load_or_create_signer
    return load(path, settings.audit_origin)


def open_checkpoint_file(settings: Settings) -> CheckpointFile:
    """Where the signer keeps its last word, outside the database."""
    return CheckpointFile(settings.audit_checkpoint_dir or settings.data_dir / "checkpoints")


class Problems:
    """One log line per problem, and one when it is over; not one a second."""

    def __init__(self) -> None:
        self._current: str | None = None

    def report(self, code: str, message: str) -> None:
        """Log `message` unless the same problem was the last thing said."""
        if code != self._current:
            logger.error("%s: %s", code, message)
            metrics.SEQUENCER_PROBLEMS.labels(code).inc()
        self._current = code

    def over(self) -> None:
        """Work went through again."""
        if self._current is not None:
            logger.info("recovered from %s", self._current)
        self._current = None


def drain() -> int:
    """Sequence everything that is committed; returns how many events."""
    total = 0
    while True:
        with transaction() as session:
            taken = sequence_once(session, BATCH)
        total += taken
        metrics.SEQUENCED.inc(taken)
        if taken < BATCH:
            return total


def work(stop: Stop, signer: Signer, last_signed: CheckpointFile, problems: Problems, signs: Signs) -> None:
    """Sequence and sign until asked to stop. A refused signature is reported and does not stop the sequencing; a lost database raises."""
    checked_at: float | None = None
    while not stop.asked:
        signs.came_round()
        grew = drain() > 0
        if grew or checked_at is None or time.monotonic() - checked_at >= CHECK_S:
            checked_at = time.monotonic()
            try:
                with transaction() as session:
                    sign_head(session, signer, last_signed)
            except RingiError as error:
                problems.report(error.code, str(error))
            else:
                problems.over()
        stop.wait(ROUND_S)


def run(stop: Stop, settings: Settings) -> None:
    """Work until asked to stop; a database that is away is waited for with growing pauses and a fresh pool."""
    signer, last_signed, problems = open_signer(settings), open_checkpoint_file(settings), Problems()
    logger.info("sequencing %s", signer.verifier)
    pause, signs = FIRST_BACKOFF_S, Signs(SEQUENCER)
    serving.start(broker=False, signs=signs)
    while not stop.asked:
        began = time.monotonic()
        signs.turned()
        try:
            work(stop, signer, last_signed, problems, signs)
        except RingiError as error:
            problems.report(error.code, str(error))
        except (SQLAlchemyError, OSError) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            away = isinstance(error, OperationalError | PoolTimeout | OSError)
            problems.report("database_unavailable" if away else "sequencer_failed", " ".join(str(reason).split()))
            get_engine().dispose()
        if time.monotonic() - began > LAST_BACKOFF_S:
            pause = FIRST_BACKOFF_S
        stop.wait(pause)
        pause = min(pause * 2, LAST_BACKOFF_S)


def main() -> int:
    """Entry point; exit status 0 after a requested stop, 1 when the key is unusable."""
    work_for_all()
    logs.configure()
    stop = Stop()
    try:
        run(stop, get_settings())
    except RingiError as error:
        logger.error("%s: %s", error.code, error)  # noqa: TRY400  # a refusal, not a crash: its message is the whole story
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
