"""One worker under test: the product's own service, in a process that keeps a journal of what it does."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from pixelkiln.jobs.errors import KilnError
from pixelkiln.jobs.settings import Settings
from pixelkiln.worker import intake
from pixelkiln.worker.deliver import encoder
from pixelkiln.worker.deliver.delivery import Delivery
from pixelkiln.worker.deliver.spool import Spool
from pixelkiln.worker.host.log import log_to_stderr
from pixelkiln.worker.queue import claims, heartbeat
from pixelkiln.worker.queue.claim import Claim
from pixelkiln.worker.queue.claims import Claims
from pixelkiln.worker.queue.heartbeat import Heartbeat
from pixelkiln.worker.service import Service
from tests.chaos import points


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker under test is told."""

    slot: str  # its place in the farm: a restart keeps it, and its spool
    settings: dict[str, Any]
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    log: str = ""
    journal: str = ""
    hurry: bool = False  # leases of seconds rather than of a quarter of a minute
    point: str = ""
    strike: int = signal.SIGKILL
    pace: float = 0.0  # seconds every step lasts longer
    encoding: float = 0.0  # seconds every picture takes longer to encode


def run(orders: Orders) -> None:
    """Be that worker. Ends the process with the exit codes of `kiln worker`."""
    _redirect(Path(orders.log))
    _end_with_parent()
    os.environ["AWS_ACCESS_KEY_ID"] = orders.access_key
    os.environ["AWS_SECRET_ACCESS_KEY"] = orders.secret_key
    random.seed()  # a forked process has its parent's dice
    _differ(orders.slot, orders.encoding)
    if orders.hurry:
        claims.LEASE, heartbeat.BEAT, heartbeat.GRACE = 2.0, 0.3, 0.5
        intake.POLL = 0.2
    if orders.pace:
        _slow(orders.pace)
    _keep_journal(Path(orders.journal))
    if orders.point:
        points.arm(orders.point, signal.Signals(orders.strike))
    log_to_stderr()
    try:
        Service(Settings(**orders.settings), ["demo"]).run()
    except KilnError as error:
        print(f"kiln: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)


def _redirect(log: Path) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def _pause(seconds: float) -> None:
    """Under libfaketime time.sleep is refused at times (EINVAL)."""
    threading.Event().wait(seconds)


def _differ(slot: str, seconds: float) -> None:
    """Make this slot's pictures differ from the others', as those of two chips do, and encode slowly."""
    plain = encoder.encode

    def encode(pixels: Any, spec: Any, facts: Any, version: str) -> bytes:
        _pause(seconds)
        return plain(pixels, spec, facts, f"{version}+{slot}")

    encoder.encode = encode


def _slow(seconds: float) -> None:
    plain = Heartbeat.report

    def report(self: Heartbeat, claim: Claim, progress: Any) -> None:
        plain(self, claim, progress)
        if progress.phase == "rendering":
            _pause(seconds)

    Heartbeat.report = report  # type: ignore[method-assign]


def _keep_journal(path: Path) -> None:
    """Write down, a line each, what the account needs to know of this worker."""
    out = path.open("a", buffering=1)

    def note(event: str, claim: Claim | None = None, **more: Any) -> None:
        about = {"job": claim.job_id, "execution": claim.execution} if claim else {}
        record = {"t": time.monotonic(), "pid": os.getpid(), "event": event, **about, **more}
        out.write(json.dumps(record) + "\n")

    def spooled(self: Service, claim: Claim) -> bool:
        return any(self._spool.root.glob(f"done-{claim.job_id}-*"))

    _after(Delivery, "start", lambda a, r: note("ready"))
    _after(Claims, "take", lambda a, r: r is not None and note("take", r))
    _after(Spool, "put", lambda a, r: note("spooled", r.claim))
    _after(Claims, "finish", lambda a, r: note("finish", a[1], ours=r))
    _after(Claims, "fail", lambda a, r: note("fail", a[1], ours=r, reason=a[2]))
    _after(Claims, "release", lambda a, r: note("release", a[1], ours=r))
    _before(Service, "_render", lambda a: note("render", a[1], spooled=spooled(a[0], a[1])))

    def step(arguments: tuple[Any, ...], _: Any) -> None:
        claim, progress = arguments[1], arguments[2]
        if progress.phase == "rendering" and progress.step in {1, progress.steps}:
            note("first step" if progress.step == 1 else "last step", claim)

    _after(Heartbeat, "report", step)


def _after(owner: Any, name: str, act: Callable[[tuple[Any, ...], Any], object]) -> None:
    plain = getattr(owner, name)

    @functools.wraps(plain)
    def noted(*arguments: Any, **named: Any) -> Any:
        answer = plain(*arguments, **named)
        act(arguments, answer)
        return answer

    setattr(owner, name, noted)


def _before(owner: Any, name: str, act: Callable[[tuple[Any, ...]], object]) -> None:
    plain = getattr(owner, name)

    @functools.wraps(plain)
    def noted(*arguments: Any, **named: Any) -> Any:
        act(arguments)
        return plain(*arguments, **named)

    setattr(owner, name, noted)


def command(orders: Orders) -> list[str]:
    """How to run a worker as a program of its own; its orders come on stdin, since they hold a secret."""
    return [sys.executable, "-m", "tests.chaos.child"]


def on_stdin(orders: Orders) -> str:
    """Its orders."""
    return json.dumps(asdict(orders))


if __name__ == "__main__":
    run(Orders(**json.loads(sys.stdin.readline())))
