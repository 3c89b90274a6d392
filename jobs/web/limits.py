"""What one caller may take of a server: requests in a time, bytes of a body, and how deep it is nested."""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import Message, Receive

from pixelkiln.jobs.storage.pictures import MAX_BYTES as PICTURE
from pixelkiln.jobs.web.problems import ProblemError

PER_SECOND, BURST = 50.0, 200  # requests of one token
GUESSES = 1 / 6, 10  # at one token from one address
THUMBNAIL = 0.2  # of a request: a page of the gallery asks for sixty
CALLERS = 10_000  # that are remembered

JSON = 4 * 2**20  # bytes of a body
UNKNOWN = 16 * 1024  # of one from who has shown no token
FILE = 32 * 2**20  # of a file of jobs
BESIDE = 2**20  # fields and headers around files in a form
FORM = 4 * PICTURE  # of all pictures in one
CARRIED = 8 * 2**20  # of a compressed file of jobs in a page
SMALL = 64 * 1024  # of JSON that needs no place, and is looked at without a thread
DEPTH = 32  # objects and lists within each other
VALUES = 128_000  # of a body: a thousand specs that say all there is, of about 105 each

LARGE, EACH = 16, 4  # uploads that come at once, and of one token; as many large bodies of JSON

BEGIN = 15.0  # seconds that the next part of a body may take
SLOWEST = 64 * 1024  # bytes a second, beyond the first half minute

# Where more than JSON is taken: these are read by who needs them, not before.
BODIES = {
    "/v1/references": PICTURE + BESIDE,
    "/v1/batches": FILE + BESIDE,
    "/v1/images/edits": FORM + BESIDE,
    "/new": FORM + BESIDE,  # the page's forms
    "/new/file": FILE + BESIDE,
    "/new/batch": CARRIED + BESIDE,
}

# Up to the next sign between values: a text is passed over within the match, whatever stands in it.
# No JSON has more than five pieces before a sign: blanks, a name, a colon, a text, blanks.
_SIGN = re.compile(
    rb'(?:[^",\[\]{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+"?){0,5}+([,\[\]{}])?',
    re.DOTALL,
)


class Rates:
    """So many in a second each, and some at once. For one thread."""

    def __init__(
        self,
        per_second: float = PER_SECOND,
        burst: float = BURST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # who -> left, and when that was

    def left(self, who: str) -> float:
        """How many `who` may have now."""
        now = self._clock()
        left, then = self._left.get(who, (self._burst, now))
        return min(self._burst, left + (now - then) * self._per_second)

    def take(self, who: str, price: float = 1) -> float:
        """Count one; seconds until it may come where that is too many, and it was not counted."""
        left = self.left(who)
        if left < 1:
            return (1 - left) / self._per_second
        self._left[who] = left - price, self._clock()
        self._left.move_to_end(who)
        if len(self._left) > CALLERS:
            self._left.popitem(last=False)
        return 0.0


class Places:
    """For so many at once, and so many of each. For one thread."""

    def __init__(self, most: int = LARGE, each: int = EACH) -> None:
        self._most, self._each = most, each
        self._taken: list[str] = []

    def take(self, who: str) -> Callable[[], None] | None:
        """Take one: what gives it back, when first called; None where there is none."""
        if len(self._taken) >= self._most or self._taken.count(who) >= self._each:
            return None
        self._taken.append(who)
        mine = [who]

        def leave() -> None:
            while mine:
                self._taken.remove(mine.pop())

        return leave


def bounded(receive: Receive, most: int, ended: Callable[[], None] = lambda: None) -> Receive:
    """Pass on a body of at most so many bytes, and not one that drips; tell when it has ended.

    Raises ProblemError.
    """
    had, began, over = 0, time.monotonic(), False

    async def act() -> Message:
        nonlocal had, over
        if over:  # what comes now is that the other side leaves, however long the answer takes
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), BEGIN)
        except TimeoutError:
            raise ProblemError(408, "the body did not come", headers={"Connection": "close"}) from None
        had += len(message.get("body", b""))
        if had > most:
            raise too_large(most)
        if not message.get("more_body"):
            over = True
            ended()
        elif time.monotonic() - began > 2 * BEGIN + had / SLOWEST:
            raise ProblemError(408, "the body comes too slowly", headers={"Connection": "close"})
        return message

    return act


async def whole(receive: Receive, grown: Callable[[], object]) -> bytes:
    """The body, read to its end; `grown`: called once there is more than SMALL of it.

    Raises ProblemError where the other side left.
    """
    parts, had = list[bytes](), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ProblemError(400, "the body is not whole")
        part = message.get("body", b"")
        if had <= SMALL < had + len(part):
            grown()
        had += len(part)
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


def too_large(most: int) -> ProblemError:
    """What is said of a body beyond `most` bytes."""
    told = f"the body is more than {most:,} bytes"
    return ProblemError(413, told, headers={"Connection": "close"})


def check_json(body: bytes) -> None:
    """Raise ProblemError for JSON that would take far more to read than to send.

    It looks as far as a parser would: what is no JSON ends it, and is told by who reads it.
    """
    if b"\0" in body:  # else Python takes it for UTF-16 or UTF-32, and reads what was not looked at
        raise ProblemError(422, "the body has a NUL byte: JSON is sent in UTF-8")
    depth = values = 0
    for found in _SIGN.finditer(body):
        sign = found[1]
        if sign is None or depth < 0:
            return
        if sign in b"]}":
            depth -= 1
            continue
        values += 1
        depth += sign in b"[{"
        if depth > DEPTH or values > VALUES:
            told = f"the body is nested deeper than {DEPTH}, or has more than {VALUES:,} values"
            raise ProblemError(422, told)
