"""Scorers of the user's own, `module:function`, each in a process that may crash, hang or grow without harm to the job.

The function is called as `function(item, answer, **arguments)` with the JSON forms of `Item` and `Answer`, and returns a number, None (not
measured) or a pair of that and a note. Only modules that the worker's operator has named are imported, because this is code that runs as the
worker's user: the limits keep accidents away, not attackers (it could read what that user can read). docs/scorers.md.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ringi.jobs.contracts.scorer_parameters import Custom
from ringi.jobs.contracts.scorers import ScoreProblem
from ringi.jobs.contracts.suites import Answer, Item
from ringi_workers.evaluation.grading.parts import Scored, Unscored

_CHILD = Path(__file__).with_name("custom_child.py")
_LONGEST_LINE = 64 * 1024
# An import may take longer than an item.
_START_S = 60.0
# So many processes that died or hung, one after the other, are the scorer's fault and not the items': the rest is not tried.
GIVEN_UP_AFTER = 8
_DEADLY = frozenset({ScoreProblem.SCORER_CRASHED, ScoreProblem.SCORER_TIMED_OUT, ScoreProblem.SCORER_OUTPUT_TOO_LARGE})


class CustomScorer:
    """One function in one process, which is started at the first answer and again after it died. Close it."""

    def __init__(self, name: str, told: Custom, *, memory_bytes: int, folder: Path | None = None) -> None:
        self.module, _, self.function = name.partition(":")
        self.told, self.memory_bytes, self.folder = told, memory_bytes, folder
        self.process: subprocess.Popen[bytes] | None = None
        self.read = b""
        self.deaths = 0
        # The module is not there, or cannot be imported: that does not change from item to item.
        self.hopeless: Unscored | None = None

    def __call__(self, item: Item, answer: Answer) -> float | None:
        """The score. Raises Unscored."""
        return self.scored(item, answer).score

    def scored(self, item: Item, answer: Answer) -> Scored:
        """The score with its note. Raises Unscored."""
        if self.hopeless is not None:
            raise self.hopeless
        try:
            self._start()
            replied = self._ask(
                {
                    "item": item.model_dump(mode="json"), "answer": answer.model_dump(mode="json"),
                    "arguments": dict(self.told.arguments), "timeout_s": self.told.timeout_s,
                }
            )  # fmt: skip
        except Unscored as error:
            self._count(error)
            raise
        self.deaths = 0
        if (problem := replied.get("problem")) is not None:
            raise Unscored(ScoreProblem(problem), str(replied.get("note", "")))
        return Scored(self._in_range(replied["score"]), None, str(replied.get("note", "")))

    def close(self) -> None:
        """End the process, and whatever it started in its group."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self.process, self.read = None, b""

    def try_again(self) -> None:
        """What died over the answers of one arm is tried again with those of the next."""
        if self.deaths >= GIVEN_UP_AFTER:
            self.hopeless = None
        self.deaths = 0

    def _count(self, error: Unscored) -> None:
        self.deaths += error.code in _DEADLY
        if self.deaths >= GIVEN_UP_AFTER:
            self.hopeless = Unscored(error.code, f"{self.deaths} times in a row; the rest was not tried")

    def _in_range(self, score: float | None) -> float | None:
        low, high = (0.0, 1.0) if self.told.binary else (self.told.low, self.told.high)
        if score is None:
            return None
        if (low is not None and score < low) or (high is not None and score > high) or (self.told.binary and score not in {0.0, 1.0}):
            raise Unscored(ScoreProblem.SCORER_OUT_OF_RANGE, f"{score} is not what its parameters say")
        return score

    def _start(self) -> None:
        if self.process is not None:
            return
        # An environment of our own making: no key, no address of a database comes along. A group of its own, so that its children end with it.
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-X", "utf8", str(_CHILD), self.module, self.function, str(self.memory_bytes), str(self.folder or "")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tempfile.gettempdir(), start_new_session=True, bufsize=0,
            env={"PATH": os.defpath, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        )  # fmt: skip
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
        ready = self._line(time.monotonic() + max(_START_S, self.told.timeout_s))
        if (problem := ready.get("problem")) is not None:
            self.hopeless = Unscored(ScoreProblem(problem), str(ready.get("note", "")))
            self.close()
            raise self.hopeless

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + self.told.timeout_s
        pipe = self._process.stdin
        if pipe is None:
            raise Unscored(ScoreProblem.SCORER_CRASHED)
        left = memoryview(json.dumps(asked).encode() + b"\n")
        while left:
            self._wait(pipe.fileno(), selectors.EVENT_WRITE, deadline)
            try:
                left = left[os.write(pipe.fileno(), left) :]
            except BrokenPipeError:
                raise self._died() from None
        return self._line(deadline)

    def _line(self, deadline: float) -> dict[str, Any]:
        """The next line of the child. Raises Unscored, and then the process is gone."""
        pipe = self._process.stdout
        if pipe is None:
            raise Unscored(ScoreProblem.SCORER_CRASHED)
        while b"\n" not in self.read:
            self._wait(pipe.fileno(), selectors.EVENT_READ, deadline)
            piece = os.read(pipe.fileno(), _LONGEST_LINE)
            if not piece:
                raise self._died()
            self.read += piece
            if len(self.read) > _LONGEST_LINE:
                self.close()
                raise Unscored(ScoreProblem.SCORER_OUTPUT_TOO_LARGE, f"more than {_LONGEST_LINE} bytes")
        line, _, self.read = self.read.partition(b"\n")
        try:
            read = json.loads(line)
        except ValueError:
            read = None
        # Only a module that writes to the pipe itself gets here.
        if not isinstance(read, dict) or not _is_reply(read):
            self.close()
            raise Unscored(ScoreProblem.SCORER_WRONG_TYPE, "the process wrote something that is no reply")
        return read

    def _wait(self, file: int, event: int, deadline: float) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(file, event)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                self.close()
                raise Unscored(ScoreProblem.SCORER_TIMED_OUT, f"no answer within {self.told.timeout_s} s")

    @property
    def _process(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            raise Unscored(ScoreProblem.SCORER_CRASHED)
        return self.process

    def _died(self) -> Unscored:
        process = self._process
        self.close()
        code = process.returncode
        if code == -signal.SIGXCPU:
            return Unscored(ScoreProblem.SCORER_TIMED_OUT, "its CPU time was used up")
        return Unscored(ScoreProblem.SCORER_CRASHED, f"it ended with {signal.Signals(-code).name if code < 0 else code}")


def _is_reply(read: dict[str, Any]) -> bool:
    """Whether it is one of the shapes of `custom_child`."""
    if "problem" in read:
        return read["problem"] in set(ScoreProblem)
    score = read.get("score")
    return score is None or (isinstance(score, float) and score - score == 0.0)


def is_allowed(name: str, modules: Sequence[str]) -> bool:
    """Whether the operator has named the module of `module:function`, or a package around it."""
    module = name.partition(":")[0]
    return any(module == one or module.startswith(one + ".") for one in modules)
