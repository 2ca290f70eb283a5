"""Anchor the newest checkpoint where the database cannot reach, and compare the log with what stands there (governance B4.1, B4.3).

A thread of the sequencer process: a witness that is slow or away holds nothing up. A difference makes the platform read-only; whether
something was anchored is never a reason to refuse work, and is told by metrics and the log.
"""

import logging
import threading
import time

import httpx
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from ringi.audit import stops
from ringi.audit.anchor_folder import AnchorFolder, AnchorFolderAway
from ringi.audit.checking import Finding, Known, compare, compare_records, replay
from ringi.audit.copies import changed_columns
from ringi.audit.generations import GROWING, must_be
from ringi.audit.models import AuditCosignature, AuditEvent, AuditLeaf
from ringi.audit.published import AuditNotSigned, Signed, newest_signed
from ringi.audit.read_only import open_stop
from ringi.audit.reading import consistency_hashes
from ringi.audit.ringi_verify import VerifierKey
from ringi.audit.signing import CheckpointFile, KeyFile, LastCheckpointUnusable
from ringi.audit.witnesses import ANSWERS_S, Said, Witness, WitnessAway, Witnesses, ask, load_witnesses
from ringi.db.session import transaction
from ringi.kit.errors import RingiError
from ringi.observe import metrics
from ringi.settings import Settings
from ringi_workers.anchor_place import Place
from ringi_workers.problems import Problems

# Actions whose entries are anchored at once, by their last word.
AT_ONCE = r"\.(grant|revoke)$"
FOLDER = "folder"
_TURN_S = 1.0
# Comparing every entry may take this part of the time.
_REPLAY_SHARE = 20
_QUESTIONS = 4
logger = logging.getLogger("ringi.sequencer")


class Anchoring:
    """The thread, and what it remembers between its turns."""

    def __init__(self, settings: Settings, keys: KeyFile, last_signed: CheckpointFile) -> None:
        self._settings, self._keys, self._last_signed = settings, keys, last_signed
        self._witnesses: Witnesses | None = load_witnesses(settings.witnesses) if settings.witnesses else None
        self._folder = AnchorFolder(settings.anchor_dir, settings.audit_origin) if settings.anchor_dir else None
        self._client = httpx.Client(timeout=ANSWERS_S)
        self.places = [self._at_witness(one) for one in (self._witnesses.asked if self._witnesses else ())]
        self._folder_place = Place(FOLDER, settings.anchor_every_s, self._keep) if self._folder is not None else None
        if self._folder_place is not None:
            # Last, so that its file holds the cosignatures of this turn.
            self.places.append(self._folder_place)
        self._look_at, self._looked = 0.0, -1
        # `_begun`: the log was compared since this process started. `_stopped`: and has to be again, by the thread, before anything is signed.
        self._begun, self._stopped = False, False
        self._replay_at, self._told, self._file_told = 0.0, "", ""
        self._problems = Problems()

    def start(self) -> None:
        """Begin, for as long as the process lives: it may end at any moment, since every step is one transaction or one file."""
        if not self.places and self._settings.profile == "production":
            logger.warning("the log is anchored nowhere: set RINGI_WITNESSES and RINGI_ANCHOR_DIR (docs/audit.md)")
        if self._witnesses is not None and self._keys.signers[0].verifier not in [log.key for log in self._witnesses.policy.logs]:
            logger.error("RINGI_WITNESSES does not list the log's key %s: nothing counts as cosigned", self._keys.signers[0].verifier)
        threading.Thread(target=self._run, name="anchoring", daemon=True).start()

    def look(self) -> None:
        """Compare at the next turn: something is wrong."""
        self._look_at = 0.0

    def may_sign(self) -> bool:
        """Asked before each signature: after a restore nothing must be signed that contradicts what was anchored.

        A process that starts looks once, by itself. Once the platform was read-only, the thread must have looked again since.
        """
        if not self._stopped and not self._begun:
            with transaction() as session:
                must_be(session, self._settings.audit_origin)
                finding = compare(session, self._known())
            if finding is not None:
                self._stop(finding)
            self._begun = finding is None
        return self._begun and not self._stopped

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            try:
                self.turn()
            except (RingiError, SQLAlchemyError, OSError) as error:
                code = error.code if isinstance(error, RingiError) else "anchoring_failed"
                self._problems.report(code, " ".join(str(error).split())[:300])
            except Exception:
                # The thread is all that watches: nothing may end it.
                logger.exception("anchoring failed in a way that nobody foresaw")
            else:
                self._problems.over()
            pause.wait(_TURN_S)

    def turn(self) -> None:
        """Compare when it is time, then anchor where it is due. While the platform is read-only it does neither."""
        with transaction() as session:
            if open_stop(session) is not None:
                self._stopped = True
                return
            must_be(session, self._settings.audit_origin)
            newest = _newest(session)
            if newest is not None and self._is_urgent(session, newest.checkpoint.size):
                for place in self.places:
                    place.now()
        if self._stopped:
            # A person has ended the mode: whether the cause is gone is looked at everywhere before anything is signed.
            self._look_at, self._replay_at = 0.0, 0.0
            for place in self.places:
                place.due_at = 0.0
        now = time.monotonic()
        due = [place for place in self.places if now >= place.due_at and newest is not None]
        if (due or now >= self._look_at) and not self._agrees():
            return
        # Comparing may have found the folder away; it has its pause then.
        found = [finding for place in due if now >= place.due_at and (finding := self._anchor(place)) is not None]
        self._stopped = bool(found)

    def _is_urgent(self, session: Session, size: int) -> bool:
        """Whether a grant or a revocation was signed since the last turn."""
        since, self._looked = self._looked, size
        if since < 0 or since >= size:
            return False
        entries = select(AuditLeaf.leaf_index).join(AuditEvent, AuditEvent.id == AuditLeaf.event_id)
        among = entries.where(
            AuditLeaf.generation == GROWING,
            AuditLeaf.leaf_index >= since,
            AuditLeaf.leaf_index < size,
            AuditEvent.action.regexp_match(AT_ONCE),
        )
        return session.scalar(among.limit(1)) is not None

    def _agrees(self) -> bool:
        """Compare; a difference in the log makes the platform read-only, one in a state row is an alarm."""
        self._look_at = time.monotonic() + self._settings.anchor_every_s
        known = self._known()
        with transaction() as session:
            finding = compare(session, known)
        metrics.AUDIT_CHECKS.labels("quick").inc()
        begun = time.monotonic()
        if finding is None and begun >= self._replay_at:
            with transaction() as session:
                finding = replay(session, known)
            if finding is None:
                self._compare_records()
            metrics.AUDIT_CHECKS.labels("full").inc()
            ended = time.monotonic()
            self._replay_at = min(ended + self._settings.audit_replay_s, ended + _REPLAY_SHARE * (ended - begun))
        if finding is not None:
            self._stop(finding)
        return finding is None

    def _compare_records(self) -> None:
        """An alarm, and no stop: rows are rendered by code, and a release that renders one differently must not stop a healthy platform."""
        # Every domain behind it takes seconds to load: sequencing begins first.
        from ringi.api.live_records import RECORD_TYPES, everyones_records  # noqa: PLC0415  # as said

        try:
            with transaction() as session:
                session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
                findings = list(compare_records(session, everyones_records(session), RECORD_TYPES))
                findings += [Finding("columns_changed", one.message) for one in changed_columns(session)]
        except SQLAlchemyError as error:
            self._problems.report("record_comparison_failed", " ".join(str(error).split())[:300])
            return
        told = "\n".join(f"{one.code} {one.message}" for one in findings)
        for one in findings:
            metrics.AUDIT_FINDINGS.labels(one.code).inc()
            if told != self._told:
                logger.critical("ALARM %s: %s", one.code, one.message)
        self._told = told

    def _known(self) -> list[Known]:
        """What the log has signed, as it stands outside the database; of what cannot be read the others take the place."""
        keys = self._trusted()
        try:
            last = self._last_signed.load(*keys)
        except LastCheckpointUnusable as error:
            self._damaged(Finding(error.code, str(error)))
            last = None
        else:
            self._file_told = ""
        known = [Known(last, "the signer's own file")] if last is not None else []
        return known + self._kept(keys)

    def _kept(self, keys: list[VerifierKey]) -> list[Known]:
        place = self._folder_place
        if self._folder is None or place is None:
            return []
        try:
            return self._folder.newest(keys)
        except AnchorFolderAway as error:
            if not place.failures or time.monotonic() >= place.due_at:
                place.failed(error.code, str(error))
            return []

    def _damaged(self, finding: Finding) -> None:
        """The signer's own file says nothing: an alarm, told once. Nothing is signed without it, and the other places are still compared with."""
        if self._file_told != finding.message:
            metrics.AUDIT_FINDINGS.labels(finding.code).inc()
            logger.critical("ALARM %s: %s", finding.code, finding.message)
        self._file_told = finding.message

    def _trusted(self) -> list[VerifierKey]:
        """The log's keys: those that sign now, and the retired ones of RINGI_WITNESSES."""
        own = [signer.verifier for signer in self._keys.current()]
        listed = [log.key for log in self._witnesses.policy.logs] if self._witnesses else []
        return [*own, *(key for key in listed if key not in own)]

    def _stop(self, finding: Finding) -> None:
        self._stopped = True
        metrics.AUDIT_FINDINGS.labels(finding.code).inc()
        with transaction() as session:
            stops.stop(session, self._settings.audit_origin, finding)

    def _anchor(self, place: Place) -> Finding | None:
        """What the place says against the log; whether it could be asked is told by the place."""
        try:
            with transaction() as session:
                newest = newest_signed(session)
            finding = place.anchor(newest)
        except (RingiError, OSError) as error:
            place.failed(error.code if isinstance(error, RingiError) else "audit_anchor_failed", f"{place.name}: {error}")
            return None
        if finding is not None:
            self._stop(finding)
        else:
            place.done()
        return finding

    def _keep(self, newest: Signed) -> None:
        folder = self._folder
        if folder is not None and not folder.covers(newest.checkpoint.size, self._trusted()):
            folder.keep(newest.note)

    def _at_witness(self, witness: Witness) -> Place:
        return Place(witness.name, self._settings.anchor_every_s, lambda _newest: self._cosigned(witness))

    def _cosigned(self, witness: Witness) -> Finding | None:
        """Get and keep a cosignature of the newest checkpoint; a Finding where the witness knows another log. Raises WitnessAway."""
        origin, old = self._settings.audit_origin, self._size_at(witness)
        for _ in range(_QUESTIONS):
            with transaction() as session:
                signed = newest_signed(session)
                size = signed.checkpoint.size
                if old > size:
                    return Finding("log_shortened", f"The log has {size} signed entries; the witness '{witness.name}' has seen {old}.")
                proof = consistency_hashes(session, old, size)
            answer = ask(self._client, witness, signed.note, old=old, proof=proof)
            if answer.said is Said.COSIGNED:
                row = insert(AuditCosignature).values(origin=origin, size=size, witness=witness.id, line=answer.line)
                with transaction() as session:
                    session.execute(row.on_conflict_do_nothing())
                return None
            if answer.said is Said.INCONSISTENT or (answer.size == old == size):
                return Finding("split_view", f"The witness '{witness.name}' knows another tree of {old} entries under the name '{origin}'.")
            old = answer.size
        raise WitnessAway(witness.name, "it names another size each time")

    def _size_at(self, witness: Witness) -> int:
        """What it has cosigned last, as far as is known here; it says so itself if this is wrong."""
        mine = select(AuditCosignature.size).where(
            AuditCosignature.origin == self._settings.audit_origin, AuditCosignature.witness == witness.id
        )
        with transaction() as session:
            size = newest_signed(session).checkpoint.size
            return min(session.scalar(mine.order_by(AuditCosignature.size.desc()).limit(1)) or 0, size)


def _newest(session: Session) -> Signed | None:
    try:
        return newest_signed(session)
    except AuditNotSigned:
        return None
