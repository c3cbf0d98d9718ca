"""The rate of requests: a provider's limits per minute, the waits that it asks for, and those that a slow one needs."""

import asyncio
import contextlib
import math
import random
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from email.utils import parsedate_to_datetime

SHORTEST_WAIT, LONGEST_BACKOFF = 2.0, 60.0  # seconds; the six waits of `max_retries` outlast a limit per minute
RECENT = 8  # answers, of which a server's speed is judged
MOST_PATIENCE = 8  # times the time-out, for a server that is slower
SECONDS = {"ms": 0.001, "millisecond": 0.001, "毫秒": 0.001, "s": 1, "sec": 1, "second": 1, "秒": 1, "秒钟": 1}
SECONDS |= {"m": 60, "min": 60, "minute": 60, "分": 60, "分钟": 60, "h": 3600, "hour": 3600, "小时": 3600, "d": 86400}
SECONDS |= {"day": 86400, "天": 86400}
UNIT = "|".join(sorted(SECONDS, key=len, reverse=True))
WHOLE = rf"(?:\d+(?:\.\d+)?\s*(?:{UNIT})s?(?![a-z])[\s,]*)+"
ASKED = re.compile(rf"(?:again|retry|reset)\w*\D{{0,20}}?({WHOLE})|({WHOLE})(?:后|之后|後)", re.IGNORECASE)


def backoff(failures: int) -> float:
    """Return how many seconds to wait after so many failures in a row: twice as long each time, and not all at once."""
    return min(LONGEST_BACKOFF, SHORTEST_WAIT * 2 ** (failures - 1)) * random.uniform(0.75, 1.25)


def stated_wait(headers: Mapping[str, str], content: str) -> float | None:
    """Return how many seconds a response asks to wait, or None where it does not say.

    Retry-After counts first, then the words. The headers that every response has, of limits that may not be reached,
    count last.
    """
    now = as_date(headers.get("date")) or time.time()
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        if (seconds := as_number(headers.get(name))) is not None:
            return seconds * unit
    if date := as_date(headers.get("retry-after")):
        return max(0.0, date - now)
    if asked := ASKED.search(content):
        return as_duration(asked[1] or asked[2], now)
    resets = {name.lower(): value for name, value in headers.items() if name.lower().startswith("x-ratelimit-reset")}
    used_up = [value for name, value in resets.items() if headers.get(name.replace("reset", "remaining")) == "0"]
    waits = [wait for value in used_up or resets.values() if (wait := as_duration(value, now)) is not None]
    return (max if used_up else min)(waits, default=None)


def as_number(text: str | None) -> float | None:
    """Return a number of seconds, or None for anything else: text, negative, infinite, NaN."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def as_date(text: str | None) -> float | None:
    """Return an HTTP date as seconds since 1970, or None."""
    try:
        return parsedate_to_datetime(text or "").timestamp()
    except (ValueError, OverflowError):
        return None


def as_duration(text: str, now: float) -> float | None:
    """Return "6m0s", "38 seconds", "3", or a moment in (milli)seconds since 1970, as seconds from now; else None."""
    if (number := as_number(text)) is not None:
        moment = number / 1000 if number > 1e12 else number
        return max(0.0, moment - now) if moment > 1e9 else number
    parts = re.findall(rf"(\d+(?:\.\d+)?)\s*({UNIT})", text, re.IGNORECASE)
    return sum(float(value) * SECONDS[unit.lower()] for value, unit in parts) if parts else None


class Limiter:
    """Space units evenly so that at most so many per minute pass; None lets all pass."""

    def __init__(self, per_minute: float | None) -> None:
        self.interval, self.free_at = 60 / per_minute if per_minute else 0.0, 0.0

    def reserve(self, units: float = 1) -> float:
        """Take the next place for so many units and return how many seconds it is away."""
        now = time.monotonic()
        start = max(now, self.free_at)
        self.free_at = start + units * self.interval
        return start - now


class Patience:
    """How long a try waits for its answer: at first the time-out, longer where the server proves slower.

    A local server computes on after a client hung up, so that asking again at the same time-out only makes it slower.
    Every time-out therefore doubles the wait of all, those in flight included. An exception is one that was overtaken
    by a try which began half a wait later, or while the last answers all took less than half the wait: that request
    alone hangs, and it alone waits longer at its next try.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = self.seconds = timeout
        self.longest = MOST_PATIENCE * timeout
        self.answered_at, self.newest = time.monotonic(), -math.inf  # the last answer, and when what it answers began
        self.took, self.slowest = deque(maxlen=RECENT), 0.0  # seconds of the last answers, and of the longest

    def limit(self, late: int = 0) -> float:
        """Return how many seconds a try may take whose request was given up so many times."""
        return min(self.longest, self.seconds * 2**late)

    def answered(self, begun: float) -> None:
        """Note the answer to a try that began then."""
        self.answered_at, self.newest = time.monotonic(), max(self.newest, begun)
        self.took.append(self.answered_at - begun)
        self.slowest = max(self.slowest, self.took[-1])

    def given_up(self, begun: float) -> bool:
        """Note that a try which began then was given up; return whether the server is slower than was waited."""
        slower = self.newest < begun + self.seconds / 2 <= begun + max(self.took, default=math.inf)
        if slower:
            self.seconds = min(self.longest, 2 * self.seconds)
        return slower

    def exhausted(self) -> bool:
        """Return whether nobody was answered for the longest wait: the server hangs."""
        return time.monotonic() - self.answered_at >= self.longest


class Gate:
    """Start tries within the provider's limits: none while it asks to wait, and fewer at a time afterward.

    How many tries are under way follows TCP's congestion control: half as many after a refusal, then one more for each
    round that is answered. They begin in the order in which they were waiting.
    """

    def __init__(self, most: int, requests_per_minute: float | None = None, tokens_per_minute: float | None = None):
        self.most, self.window, self.under_way = most, float(most), 0
        self.limiters = (Limiter(requests_per_minute), Limiter(tokens_per_minute))
        self.resume_at, self.slowed_at, self.answers, self.refusals = 0.0, 0.0, 0, 0
        self.changed, self.closed = asyncio.Condition(), asyncio.Event()

    @contextlib.asynccontextmanager
    async def turn(self, tokens: float) -> AsyncIterator[None]:
        """Wait until a try of so many tokens may begin, and hold its place among those under way until it ends."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.under_way < max(1, int(self.window)))
            self.under_way += 1
        try:
            await self.until_resumed()
            for limiter, units in zip(self.limiters, (1, tokens), strict=True):
                await self.sleep(limiter.reserve(units))
            await self.until_resumed()
            yield
        finally:
            self.under_way -= 1
            async with self.changed:
                self.changed.notify_all()

    async def until_resumed(self) -> None:
        """Wait while the provider asked to; it may ask again meanwhile."""
        while (left := self.resume_at - time.monotonic()) > 0 and not self.closed.is_set():
            await self.sleep(left)

    async def sleep(self, seconds: float) -> None:
        """Sleep, but not longer than asking goes on."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.closed.wait()

    def answered(self) -> None:
        """Note an answer: a little more may be under way."""
        self.answers, self.refusals = self.answers + 1, 0
        self.window = min(self.most, self.window + 1 / self.window)

    def narrow(self, begun: float) -> None:
        """Let half as many be under way after a try that was given up: a slow server has less to do at a time.

        Tries that had begun before the last such time, or the last refusal, belong to it.
        """
        if begun >= self.slowed_at:
            self.window, self.slowed_at = max(1.0, self.window / 2), time.monotonic()

    def slow_down(self, begun: float, seconds: float | None) -> int:
        """Let nothing begin for as long as the server asks, and half as much afterwards.

        Where it does not say, or was asked again too early, the wait doubles. Tries that had begun before the last
        refusal belong to it.

        Args:
            begun: When the refused try began.
            seconds: What the server asks for.

        Returns:
            How many refusals there were since anybody was answered.
        """
        now = time.monotonic()
        if begun >= self.slowed_at:
            self.window, self.slowed_at, self.refusals = max(1.0, self.window / 2), now, self.refusals + 1
        asked = seconds or 0.0
        wait = asked if asked and self.refusals <= 1 else max(asked, backoff(max(1, self.refusals)))
        self.resume_at = max(self.resume_at, now + wait)
        return self.refusals
