"""When a service that ended is started again, and what its endings mean.

The service's process decides, since launchd only knows "exit code 0 stays away, anything else comes again":

- told to leave (a drain, SIGTERM): 0, it stays away until the next boot or login;
- wrong use (exit code 2): trying again cannot help, so it gives up at once;
- refused (a wrong password, no such bucket): it gives up after REFUSALS starts, since a server that is itself
  starting may refuse for a moment;
- all else (Redis away, no checkpoint yet, a crash, the watchdog): it comes again after THROTTLE seconds.

To give up is to leave with the code that the unit names: 0 for launchd, GAVE_UP for systemd, which is told
not to restart on it. Why is noted in a record, where `kiln service status` finds it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import redis

from pixelkiln.jobs.errors import KilnError, StorageRefusedError

Kind = Literal["left", "lasting", "refused", "passing"]

THROTTLE = 30  # seconds between two starts
REFUSALS = 5  # starts in a row that were refused, until it stays away
GAVE_UP = 78  # EX_CONFIG

MEANINGS = {
    0: "it left because it was told to",
    1: "it was unwell, or could not be set up; its log says why",
    2: "wrong use: a setting or an option is wrong",
    3: "not ready: Redis, the bucket or a checkpoint is missing",
    75: "our watchdog ended it: a render was stuck",
    78: "the system could not start it (EX_CONFIG): its command, folder or log is missing or closed to it",
    126: "its command may not be run: is the checkout in a protected folder (Desktop, Documents, Downloads)?",
    127: "its command is not there: was the checkout moved?",
    200: "its folder is not there: was the checkout moved?",  # this and the next are systemd's
    203: "its command cannot be run: was the checkout moved?",
}
SIGNALS = {
    signal.SIGKILL: "killed: it took too long to leave, or the system ran out of memory",
    signal.SIGTERM: "told to leave before it was up",
    signal.SIGABRT: "aborted, as Metal does after a fault of the GPU",
    signal.SIGSEGV: "crashed in native code",
    signal.SIGBUS: "crashed in native code",
}


def meaning(code: int | None, number: int | None = None) -> str:
    """What an exit code, or a signal's number, means in our words."""
    if number is not None:
        known = [words for one, words in SIGNALS.items() if one == number]
        return known[0] if known else f"ended by signal {number}"
    if code is None:
        return "it has not ended yet"
    return MEANINGS.get(code, f"ended with exit code {code}")


def kind_of(error: BaseException) -> Kind:
    """Whether trying again can help."""
    if not isinstance(error, KilnError):
        return "passing"
    if error.exit_code == 2:
        return "lasting"
    if isinstance(error, StorageRefusedError):
        return "refused"
    cause = error.__cause__ or error.__context__  # `from None` hides it from tracebacks, not from here
    if isinstance(cause, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        return "refused"
    if isinstance(cause, ValueError | TypeError) and not isinstance(cause, KilnError):
        return "lasting"  # an address that is none
    return "passing"


@dataclass(frozen=True, slots=True)
class Record:
    """How a service's process ended, by its own account."""

    kind: Kind | Literal["running"]
    reason: str = ""
    gave_up: bool = False
    refusals: int = 0  # starts in a row that were refused
    at: float = 0.0  # seconds since the epoch

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """The record at `path`, or None where there is none that can be read."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, path: Path) -> None:
        """Put it there whole; a disk that takes nothing must not change how the service ends."""
        part = path.with_suffix(".part")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.touch(mode=0o600)
            part.write_text(json.dumps(asdict(self)), encoding="utf-8")
            part.replace(path)
        except OSError:
            with suppress(OSError):
                part.unlink()


def hold(
    work: Callable[[], None],
    record: Path,
    say: Callable[[str], None],
    *,
    gave_up: int,
    clock: Callable[[], float] = time.time,
) -> int:
    """Do the service's work and tell the exit code that makes the system do the right thing."""
    before = Record.read(record)
    refusals = (
        before.refusals if before is not None and before.kind == "refused" and not before.gave_up else 0
    )
    Record("running", at=clock()).write(record)
    try:
        work()
    except KeyboardInterrupt:
        pass
    except KilnError as error:
        kind = kind_of(error)
        refusals = refusals + 1 if kind == "refused" else 0
        stays = kind == "lasting" or refusals >= REFUSALS
        Record(kind, str(error), stays, refusals, clock()).write(record)
        then = "stays away until `kiln service restart`" if stays else f"tried again in about {THROTTLE} s"
        say(f"{error} ({then})")
        return gave_up if stays else error.exit_code
    except BaseException as error:
        Record("passing", f"{type(error).__name__}: {error}"[:300], at=clock()).write(record)
        raise
    Record("left", at=clock()).write(record)
    return os.EX_OK
