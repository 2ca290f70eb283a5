"""The log that grows and the logs that it follows, read as one: each under its own checkpoint and key, and held together by the openings.

A log that lost signed entries ends, and another one under another name follows it (docs/decisions/0016). Whether this is so is decided here by the
monitor's own trust file and the checkpoint that it kept, never by what the platform says of itself: leaf 0 of the newer log names what was signed and
what is left of the older one, two administrators whom the trust file lists approved exactly that, and the older log must end there.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import httpx

from ringi.audit.durable import write_durably
from ringi.audit.ringi_verify import (
    EMPTY_ROOT,
    OPENING,
    Checkpoint,
    LogKey,
    NoteInvalid,
    Opening,
    Policy,
    VerifierKey,
    claim_of,
    parse_note,
)
from ringi.audit.signing import CheckpointFile
from ringi.audit.tiles import TILE_WIDTH
from ringi.monitor.log import Entry, Log, LogAway, LogFault, Served, opening_of

_READABLE = 0o644


class LogSucceeded(LogAway):
    """Another log grows than the one that was read so far: everything must be read anew."""


@dataclass(frozen=True)
class Follows:
    """That the log `origin` follows `old_origin`: signed were `last_size` entries, of which the database still had `held_size`."""

    origin: str
    old_origin: str
    last_size: int
    held_size: int
    lost: int
    carried: int
    reason: str
    administrators: tuple[str, ...]

    def __str__(self) -> str:
        who = " and ".join(self.administrators)
        return f"{self.origin} follows {self.old_origin}, which had {self.last_size} signed entries and lost {self.lost}: {self.reason} ({who})"


class Logs:
    """All logs as read so far. `grow` reads what was added; a new object reads everything anew.

    `follows`: each log that has ended, oldest first; `news`: those whose end was not known to the kept checkpoint.
    """

    def __init__(self, client: httpx.Client, policy: Policy, kept: CheckpointFile) -> None:
        self._policy, self._kept = policy, kept
        self._growing = Log(Served(client), policy)
        # Newest first.
        self._ended: list[Log] = []
        self.follows: list[Follows] = []
        self.news: list[Follows] = []

    @property
    def size(self) -> int:
        """How many entries of the log that grows were read and checked."""
        return self._growing.size

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Under which the logs were read and checked, the oldest log's first."""
        return [log.checkpoint for log in [*reversed(self._ended), self._growing] if log.checkpoint is not None]

    @property
    def origin(self) -> str | None:
        """The name of the log that grows."""
        return self._growing.origin

    def grow(self, take: Callable[[Entry], None]) -> None:
        """Read on to the newest signed checkpoint, and the ended logs where they were not read yet; `take` gets each entry once.

        Entries come in the order of their log, and the newer log comes first: an entry's place says which of two is the newer one. Raises LogFault:
        then nothing that was taken counts. Raises LogAway: then the next call goes on behind what was taken; LogSucceeded: a new object must.
        """
        before = self._kept.read()
        older = self._own(before) if before is not None else None
        note = self._growing.served.note()
        if note is None:
            if older is not None and older.size:
                raise LogFault("log_shortened", f"No checkpoint is shown; the log '{older.origin}' had {older.size} entries.")
            raise LogAway("the log has no signed checkpoint yet")
        signed = self._signed(note, older)
        if self.origin not in {None, signed.origin}:
            raise LogSucceeded(f"the log is '{signed.origin}' now, and was '{self.origin}'")
        self._growing.read(signed, older if older is not None and older.origin == signed.origin else None, take)
        self._read_ended(signed, older, take)
        if before is None or older is None or older.origin != signed.origin or older.size < signed.size:
            self._remember(note, before, older, signed)

    def _own(self, note: bytes) -> Checkpoint:
        """The kept checkpoint."""
        checkpoint = _parsed(note)
        if not self._lists(checkpoint.origin):
            raise LogAway(
                f"the checkpoint that was kept is of '{checkpoint.origin}', which the trust file does not list: keep the lines of a log that has ended"
            )
        return self._opened(note)

    def _signed(self, note: bytes, older: Checkpoint | None) -> Checkpoint:
        """The checkpoint that is shown, of the log that grows."""
        checkpoint = _parsed(note)
        if not self._lists(checkpoint.origin):
            self._must_be_told(note, checkpoint, older)
            if older is not None and older.origin != checkpoint.origin:
                raise _replaced(checkpoint.origin, older)
        return self._opened(note)

    def _lists(self, origin: str) -> bool:
        return any(log.key.name == origin for log in self._policy.logs)

    def _opened(self, note: bytes) -> Checkpoint:
        try:
            # A cosignature may come seconds after the signature; the quorum is for those who are shown a checkpoint to trust.
            return self._policy.open(note, cosigned=False).checkpoint
        except NoteInvalid as error:
            raise LogFault(error.code, error.message) from error

    def _must_be_told(self, note: bytes, checkpoint: Checkpoint, older: Checkpoint | None) -> None:
        """Where trusted administrators approved the unlisted log, say which lines the trust file needs; the key that they approved is in leaf 0."""
        if checkpoint.size == 0:
            return
        first = self._growing.served.entries(0, min(TILE_WIDTH, checkpoint.size))[0]
        if claim_of(0, first).action != OPENING:
            return
        details = json.loads(first)["details"]
        told = details if isinstance(details, dict) else {}
        try:
            # The administrators signed for both keys: these are good for saying what to add, and for nothing else.
            named = [VerifierKey.parse(str(told.get(name))) for name in ("old_key", "new_key")]
            keys = (*self._policy.logs, *(LogKey(key) for key in named if not self._lists(key.name)))
            widened = replace(self._policy, logs=keys)
            opened = opening_of(first, widened)
            # Of this name there is no other key, so that the approved one signed it.
            widened.open(note, cosigned=False)
        except NoteInvalid as error:
            raise LogFault("opening_invalid", f"Nobody approved the key that signs '{checkpoint.origin}': {error.message}") from error
        if older is not None and older.origin == opened.old_origin:
            _must_admit(opened, older)
        lines = f"'log {told['old_key']}', '#sizes 0-{opened.last.size}', 'log {opened.new_key}'"
        raise LogAway(
            f"the trust file does not list the log '{checkpoint.origin}', which follows '{opened.old_origin}' ({opened.reason}), approved by "
            f"{' and '.join(opened.administrators)}. Compare with what 'ringi audit open-origin' printed, put these lines into the trust file in the "
            f"place of the old log's, and start the monitor again: {lines}"
        )

    def _read_ended(self, signed: Checkpoint, older: Checkpoint | None, take: Callable[[Entry], None]) -> None:
        """Every log that an opening leads to, where it was not read yet, and where the kept checkpoint stands among them."""
        follower, openings, reached = self._growing, list[Opening](), [signed.origin]
        while follower.opened is not None:
            opened = follower.opened
            openings.append(opened)
            reached.append(opened.old_origin)
            kept = older if older is not None and older.origin == opened.old_origin else None
            if kept is not None:
                _must_admit(opened, kept)
            if opened.held.size == 0:
                if opened.held.root != EMPTY_ROOT:
                    raise LogFault("opening_invalid", f"'{opened.origin}' says that nothing is left, under the root of something.")
                break
            follower = self._ended_log(len(openings), opened.held, kept, take)
        if older is not None and older.origin not in reached:
            raise _replaced(signed.origin, older)
        if len(openings) != len(self.follows):
            self.follows = [_follows(one) for one in reversed(openings)]
            unknown = len(openings) if older is None else reached.index(older.origin)
            self.news += [one for one in self.follows[len(openings) - unknown :] if one not in self.news]

    def _ended_log(self, back: int, held: Checkpoint, kept: Checkpoint | None, take: Callable[[Entry], None]) -> Log:
        if len(self._ended) < back:
            number = self._growing.served.number_of(held.origin)
            if number is None:
                raise LogFault("log_shortened", f"The ended log '{held.origin}' of {held.size} entries is not shown any more.")
            self._ended.append(Log(self._growing.served.other(f"audit/logs/{number}"), self._policy, -back))
        log = self._ended[back - 1]
        if log.checkpoint is None:
            log.read(self._end_of(log, held), kept if kept is not None and kept.size <= held.size else None, take)
        return log

    def _end_of(self, log: Log, held: Checkpoint) -> Checkpoint:
        """The ended log's last checkpoint, which must be where its successor's opening says that it ended."""
        note = log.served.note()
        end = self._opened(note) if note is not None else Checkpoint(held.origin, 0, EMPTY_ROOT)
        if end.origin != held.origin:
            raise LogFault("log_replaced", f"The log '{end.origin}' is shown in the place of '{held.origin}', which has ended.")
        if end.size < held.size:
            raise LogFault("log_shortened", f"The log '{end.origin}' shows {end.size} entries; it ended with {held.size}.")
        if end != held:
            raise LogFault("split_view", f"The log '{end.origin}' of {end.size} entries is not the one that ended with {held.size}.")
        return end

    def _remember(self, note: bytes, before: bytes | None, older: Checkpoint | None, signed: Checkpoint) -> None:
        if before is not None and older is not None and older.origin != signed.origin:
            # Evidence of what the ended log had signed, on disk before the newer log's checkpoint takes its place.
            name = f"{self._kept.path.name}-of-{re.sub(r'[^A-Za-z0-9.-]', '_', older.origin)}"
            write_durably(self._kept.path.with_name(name), before, mode=_READABLE, replace=True)
        self._kept.store(note)


def _parsed(note: bytes) -> Checkpoint:
    try:
        return Checkpoint.parse(parse_note(note)[0])
    except NoteInvalid as error:
        raise LogFault(error.code, error.message) from error


def _replaced(origin: str, older: Checkpoint) -> LogFault:
    message = f"The log calls itself '{origin}' and does not say that it follows '{older.origin}', which is the one that was kept."
    return LogFault("log_replaced", message)


def _must_admit(opened: Opening, kept: Checkpoint) -> None:
    """The opening must know of everything that was signed as far as the kept checkpoint tells."""
    if kept.size > opened.last.size:
        message = (
            f"'{kept.origin}' had {kept.size} signed entries; '{opened.origin}' admits {opened.last.size}: more was lost than it says."
        )
        raise LogFault("loss_understated", message)
    if kept.size == opened.last.size and kept.root != opened.last.root:
        raise LogFault(
            "split_view", f"The first {kept.size} entries of '{kept.origin}' are not those that '{opened.origin}' says it follows."
        )


def _follows(opened: Opening) -> Follows:
    return Follows(
        opened.origin, opened.old_origin, opened.last.size, opened.held.size, opened.lost, opened.carried, opened.reason, opened.administrators
    )  # fmt: skip
