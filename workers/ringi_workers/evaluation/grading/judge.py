"""A model that grades, behind any endpoint that speaks OpenAI's chat completions.

The suite names an endpoint, the worker's operator gives the name an address and a key: so a suite can neither make a worker call an arbitrary
address nor hold a secret. Redirects are not followed. Answers of a batch are judged at once, so many as the operator allows, and for as long.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import httpx

from ringi.jobs.contracts.scorer_parameters import Judge
from ringi.jobs.contracts.scorers import ScoreProblem
from ringi.jobs.contracts.suites import Answer, Item
from ringi_workers.evaluation.grading.judge_words import Opinion, asked, asked_again, content_of, opinion
from ringi_workers.evaluation.grading.parts import Scored, Unscored

Pair = tuple[Item, Answer]
_LONGEST_REPLY = 1024**2
_TRIES = 4
# The endpoint is overloaded or not there: that may pass. Every other refusal would be the same again.
_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
# So many answers in a row for which it could not be reached at all: it is down, and the rest does not wait for it.
GIVEN_UP_AFTER = 5
_NOTE = 2000
# So often it is asked whether the job should end, in seconds.
_LOOK_S = 0.25
LIMIT_S = 3600.0


class Endpoint(NamedTuple):
    """What the operator says of a judge: the address before `/chat/completions`, its key, the longest pause that it may ask for."""

    url: str
    key: str | None = None
    pause_s: float = 0.5
    longest_pause_s: float = 30.0


class Bounds(NamedTuple):
    """How many requests may be open, and how many seconds one batch may take; `should_stop` ends it early."""

    at_once: int = 4
    limit_s: float = LIMIT_S
    should_stop: Callable[[], bool] = lambda: False


class JudgeScorer:
    """One judge with its rubric."""

    def __init__(self, told: Judge, endpoint: Endpoint | None, bounds: Bounds | None = None) -> None:
        self.told, self.endpoint, self.bounds = told, endpoint, bounds or Bounds()

    def __call__(self, item: Item, answer: Answer) -> float | None:
        """The score, 0 to 1. Raises Unscored."""
        one = self.many([(item, answer)])[0]
        if one.problem is not None:
            raise Unscored(one.problem, one.note)
        return one.score

    def many(self, pairs: Sequence[Pair]) -> list[Scored]:
        """A score for each pair in its order; one that fails says why and does not touch the others."""
        if self.endpoint is None:
            return [Scored(None, ScoreProblem.JUDGE_NOT_CONFIGURED, f"this worker knows no judge '{self.told.endpoint}'") for _ in pairs]
        return asyncio.run(_Batch(self.told, self.endpoint, self.bounds).scored(pairs))


class _Batch:
    """The requests of one batch: a client, bounds, and whether the endpoint has been found to be down."""

    def __init__(self, told: Judge, endpoint: Endpoint, bounds: Bounds) -> None:
        self.told, self.endpoint, self.bounds = told, endpoint, bounds
        self.down, self.missed = asyncio.Event(), 0

    async def scored(self, pairs: Sequence[Pair]) -> list[Scored]:
        headers = {"authorization": f"Bearer {self.endpoint.key}"} if self.endpoint.key else {}
        bound = asyncio.Semaphore(self.bounds.at_once)
        # No proxy and no key of the environment: what is called is what the operator named.
        async with httpx.AsyncClient(headers=headers, timeout=self.told.timeout_s, follow_redirects=False, trust_env=False) as client:
            judging = [asyncio.ensure_future(self._one(client, bound, *pair)) for pair in pairs]
            why = await self._ended(judging)
            return [Scored(None, ScoreProblem.JUDGE_TOO_LATE, why) if one.cancelled() else one.result() for one in judging]

    async def _ended(self, judging: Sequence[asyncio.Future[Scored]]) -> str:
        """Wait for all, but not beyond the bounds; what is open then is cancelled. Says what ended it."""
        whole = asyncio.gather(*judging, return_exceptions=True)
        begun, why = time.monotonic(), f"the limit of {self.bounds.limit_s:g} s for a batch was over"
        while not whole.done():
            left = begun + self.bounds.limit_s - time.monotonic()
            stopped = self.bounds.should_stop()
            if stopped or left <= 0:
                for one in judging:
                    one.cancel()
                await whole
                return "the job was to end" if stopped else why
            await asyncio.wait([whole], timeout=min(_LOOK_S, left))
        return why

    async def _one(self, client: httpx.AsyncClient, bound: asyncio.Semaphore, item: Item, answer: Answer) -> Scored:
        outputs = answer.outputs or ((answer.output,) if answer.output is not None else ())
        if not outputs:
            return Scored(None, ScoreProblem.NO_OUTPUT)
        try:
            async with bound:
                means = [await self._judged(client, item, output) for output in outputs]
        except Unscored as error:
            return Scored(None, error.code, error.note)
        score = sum(mean for mean, _ in means) / len(means)
        return Scored(score, None, "\n".join(note for _, note in means)[:_NOTE])

    async def _judged(self, client: httpx.AsyncClient, item: Item, output: str) -> tuple[float, str]:
        """The combined score of all repeats, between 0 and 1. A repeat that cannot be had leaves no score: half of the opinions is another measure."""
        told, messages = self.told, asked(self.told, item, output)
        opinions = [await self._opinion(client, messages, told.seed + repeat) for repeat in range(told.repeats)]
        scores = [one.score for one in opinions]
        combined = statistics.median(scores) if told.combine == "median" else statistics.fmean(scores)
        note = "\n".join(f"{one.score:g}: {one.reason}" for one in opinions)
        return (combined - told.low) / (told.high - told.low), note

    async def _opinion(self, client: httpx.AsyncClient, messages: list[dict[str, str]], seed: int) -> Opinion:
        reply = await self._reply(client, messages, seed)
        if (found := opinion(self.told, reply)) is not None:
            return found
        again = await self._reply(client, asked_again(self.told, messages, reply), seed)
        if (found := opinion(self.told, again)) is not None:
            return found
        raise Unscored(ScoreProblem.JUDGE_UNREADABLE, again[:200])

    async def _reply(self, client: httpx.AsyncClient, messages: list[dict[str, str]], seed: int) -> str:
        told = self.told
        body = {"model": told.model, "messages": messages, "temperature": told.temperature, "seed": seed, "max_tokens": told.max_tokens}
        why = ""
        for attempt in range(_TRIES):
            if self.down.is_set():
                raise Unscored(ScoreProblem.JUDGE_UNREACHABLE, "the endpoint did not answer to others of this batch")
            pause = self.endpoint.pause_s * 2**attempt
            try:
                async with asyncio.timeout(told.timeout_s):
                    status, text, wanted = await self._post(client, body)
            except (httpx.HTTPError, TimeoutError) as error:
                why = type(error).__name__
            else:
                if status == httpx.codes.OK:
                    self.missed = 0
                    return _content(text)
                if status not in _PASSING:
                    raise Unscored(ScoreProblem.JUDGE_REFUSED, f"HTTP {status}")
                why, pause = f"HTTP {status}", wanted if wanted is not None else pause
            if attempt + 1 < _TRIES:
                # It ends early when the endpoint is found to be down meanwhile.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.down.wait(), min(pause, self.endpoint.longest_pause_s))
        self.missed += 1
        if self.missed >= GIVEN_UP_AFTER:
            self.down.set()
        raise Unscored(ScoreProblem.JUDGE_UNREACHABLE, f"{_TRIES} tries, the last: {why}")

    async def _post(self, client: httpx.AsyncClient, body: dict[str, Any]) -> tuple[int, str, float | None]:
        """Status, text, and the pause that it asks for in seconds. Raises Unscored where the reply has no end."""
        async with client.stream("POST", self.endpoint.url.rstrip("/") + "/chat/completions", json=body) as response:
            read = b""
            async for piece in response.aiter_bytes():
                read += piece
                if len(read) > _LONGEST_REPLY:
                    raise Unscored(ScoreProblem.JUDGE_UNREADABLE, f"more than {_LONGEST_REPLY} bytes")
            return response.status_code, read.decode("utf-8", "replace"), _retry_after(response.headers.get("retry-after"))


def _content(text: str) -> str:
    try:
        content = content_of(json.loads(text))
    except (ValueError, RecursionError):
        content = None
    if content is None:
        raise Unscored(ScoreProblem.JUDGE_UNREADABLE, "this is no chat completion")
    return content


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After (RFC 9110, 10.2.3: seconds or a date); None where there is none that can be read."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        until = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
