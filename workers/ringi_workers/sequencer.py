"""The audit sequencer process, `python -m ringi_workers.sequencer`: events get their index, then the head gets its signature.

It looks at the queue five times a second and signs at once when the log grew, else checks every ten seconds that the log still extends
what was signed. Writers do not NOTIFY it: NOTIFY takes one lock for all commits of the server (durable inserts of 32 clients on two
cores fell from 2,600-3,400 to 550 a second), while looking at an empty queue costs one short query.
One sequencer works at a time (advisory lock); a second one only waits. Loads no torch and no Celery.

Beside it, in a thread of its own so that no slow witness holds it up, checkpoints are anchored and the log is compared (`anchoring.py`).
"""

import logging
import time

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ringi.audit.models import AuditPending
from ringi.audit.read_only import open_stop
from ringi.audit.sequence import sequence_once
from ringi.audit.signing import CheckpointFile, KeyFile, load_or_create_signers, sign_head
from ringi.db.session import get_engine, transaction, work_for_all
from ringi.kit.errors import RingiError
from ringi.kit.stopping import Stop
from ringi.observe import logs, metrics, serving
from ringi.observe.signs import SEQUENCER, Signs
from ringi.settings import Settings, get_settings
from ringi_workers.anchoring import Anchoring
from ringi_workers.problems import Problems

ROUND_S = 0.2
CHECK_S = 10.0
FIRST_BACKOFF_S = 0.2
LAST_BACKOFF_S = 5.0
BATCH = 5000

logger = logging.getLogger("ringi.sequencer")


def open_keys(settings: Settings) -> KeyFile:
    """The log's keys; only the embedded profile makes one by itself."""
    path = settings.audit_key_path
    if settings.profile != "production":
        load_or_create_signers(path, settings.audit_origin)
    return KeyFile(path, settings.audit_origin)


def open_checkpoint_file(settings: Settings) -> CheckpointFile:
    """Where the signer keeps its last word, outside the database."""
    return CheckpointFile(settings.audit_checkpoint_path)


def is_empty() -> bool:
    """Whether the queue is; asked without a transaction, because it nearly always is."""
    with get_engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        return connection.scalar(select(AuditPending.event_id).limit(1)) is None


def drain() -> int:
    """Sequence everything that is committed; returns how many events."""
    total = 0
    while not is_empty():
        with transaction() as session:
            taken = sequence_once(session, BATCH)
        total += taken
        metrics.SEQUENCED.inc(taken)
        # Fewer than asked for: what came since waits for the next round, or another sequencer is at work.
        if taken < BATCH:
            break
    return total


def sign(keys: KeyFile, last_signed: CheckpointFile) -> None:
    """Sign the head, unless the platform is read-only: what is under doubt gets no signature."""
    newest, *older = keys.current()
    with transaction() as session:
        if open_stop(session) is None:
            sign_head(session, newest, last_signed, also=older)


def work(stop: Stop, keys: KeyFile, last_signed: CheckpointFile, problems: Problems, signs: Signs, anchoring: Anchoring) -> None:
    """Sequence and sign until asked to stop. A refused signature is reported and does not stop the sequencing; a lost database raises."""
    checked_at: float | None = None
    while not stop.asked:
        signs.came_round()
        grew = drain() > 0
        if grew or checked_at is None or time.monotonic() - checked_at >= CHECK_S:
            try:
                checked_at = time.monotonic()
                if not anchoring.may_sign():
                    # As soon as it may, and not at the next check.
                    checked_at = None
                    stop.wait(ROUND_S)
                    continue
                sign(keys, last_signed)
            except RingiError as error:
                problems.report(error.code, str(error))
                anchoring.look()
            else:
                problems.over()
        stop.wait(ROUND_S)


def run(stop: Stop, settings: Settings) -> None:
    """Work until asked to stop; a database that is away is waited for with growing pauses and a fresh pool."""
    keys, last_signed, problems = open_keys(settings), open_checkpoint_file(settings), Problems()
    anchoring = Anchoring(settings, keys, last_signed)
    logger.info("sequencing %s", keys.signers[0].verifier)
    pause, signs = FIRST_BACKOFF_S, Signs(SEQUENCER)
    serving.start(broker=False, signs=signs)
    anchoring.start()
    while not stop.asked:
        began = time.monotonic()
        signs.turned()
        try:
            work(stop, keys, last_signed, problems, signs, anchoring)
        except RingiError as error:
            problems.report(error.code, str(error))
        except (SQLAlchemyError, OSError) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            away = isinstance(error, OperationalError | PoolTimeout)
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
