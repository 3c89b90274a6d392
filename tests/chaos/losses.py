"""What Redis forgets, and what is cancelled or blamed at the worst moment: cases for `tests.chaos.cases`."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from pixelkiln.jobs import NotReadyError
from tests.chaos.case import Case
from tests.chaos.crew import Worker, until
from tests.chaos.farm import crash, revive

BOUND = 60.0  # seconds in which the bucket is as it should be, whoever is left


def _spooled(case: Case, count: int) -> Worker:
    """A worker with so many pictures in its spool, and storage away."""
    worker = case.worker()
    case.farm.to_s3.refuse()
    case.submit(count)
    until(lambda: len(case.events("spooled")) == count, 60, "the pictures in the spool")
    return worker


def _stored(case: Case) -> None:
    """Every job's picture is in the bucket, and none lies in a spool or half in the bucket."""

    def well() -> bool:
        ends = case.kiln.statuses(list(case.jobs)).values()
        finished = all(status is not None and status.state == "finished" for status in ends)
        return finished and not any(w.waiting() for w in case.workers if w.alive()) and not case.halves()

    until(well, BOUND, "every picture in the bucket")
    for job in case.jobs:
        case.kiln.sidecar(job)


def flushed_live(case: Case) -> str:
    """FLUSHALL with a full spool: the living worker stores what it has."""
    _spooled(case, 5)
    case.kiln.redis.flushall()
    case.farm.to_s3.restore()
    _stored(case)
    case.jobs.update(dict.fromkeys(case.jobs, "anything"))  # Redis knows none of them
    return "5 pictures spooled, Redis emptied: all stored"


def flushed_restarted(case: Case) -> str:
    """FLUSHALL with a full spool: the worker started again stores what it finds."""
    worker = _spooled(case, 5)
    worker.end()
    case.kiln.redis.flushall()
    case.farm.to_s3.restore()
    worker.start()
    _stored(case)
    case.jobs.update(dict.fromkeys(case.jobs, "anything"))
    return "5 pictures spooled, worker killed, Redis emptied, worker restarted: all stored"


def _lose(case: Case, kept: float) -> None:
    """Render 4 jobs into the spool, then let Redis keep that share of what it was told since their submit."""
    case.kiln.pause("farm")
    case.worker()
    case.submit(4)
    log = next((case.farm.valkey.folder / "appendonlydir").glob("*.incr.aof"))
    before = log.stat().st_size
    case.farm.to_s3.refuse()
    case.kiln.resume("farm")
    until(lambda: len(case.events("spooled")) == 4, 60, "the pictures in the spool")
    crash(case.farm.valkey)
    with log.open("r+b") as file:
        file.truncate(before + int(kept * (log.stat().st_size - before)))
    revive(case.farm.valkey)
    case.kiln.resume("farm")
    case.farm.to_s3.restore()
    _stored(case)
    renders = len(case.events("render"))
    assert renders == 4, f"{renders} renders"


def rolled_back(case: Case) -> str:
    """Redis goes back to before the jobs were taken, with a full spool: each ends finished, stored once."""
    _lose(case, 0.0)
    return "4 jobs, queued again while their pictures were spooled: all finished"


def truncated(case: Case) -> str:
    """The end of Redis's log is lost, with a full spool: each job ends finished, and is stored once."""
    _lose(case, 0.5)
    return "4 pictures spooled, half of what was written since is cut from the log: all finished"


def _half_stored(case: Case) -> str:
    """A job whose worker died between picture and sidecar, for good."""
    job = case.submit()[0]
    first = Worker(case.farm.orders("w0", hurry=True), case._context)
    case.workers.append(first)
    first.start(point="png.after", strike=int(signal.SIGKILL))
    assert first.wait(60) == -signal.SIGKILL
    case.jobs[job] = "cancelled or finished"
    return job


def cancelled_while_requeued(case: Case) -> str:
    """A worker dies between picture and sidecar and never returns; its job is cancelled while it waits."""
    job = _half_stored(case)
    case.kiln.pause("farm")
    case.worker(hurry=True)
    until(lambda: _state(case, job) == "queued", 30, "the job being queued again")
    case.kiln.cancel([job])
    case.kiln.resume("farm")
    started = time.monotonic()
    until(lambda: not case.halves(), BOUND, "an empty bucket")
    return f"nothing of it in the bucket after {time.monotonic() - started:.1f} s"


def cancelled_while_rendered_again(case: Case) -> str:
    """A worker dies between picture and sidecar and never returns; its job is cancelled at another's."""
    job = _half_stored(case)
    heir = case.worker(hurry=True, pace=0.2)
    until(lambda: any(e["slot"] == heir.slot for e in case.events("first step")), 60, "its step")
    case.kiln.cancel([job])
    started = time.monotonic()
    until(lambda: not case.halves(), BOUND, "an empty bucket")
    return f"nothing of it in the bucket after {time.monotonic() - started:.1f} s"


def adjacent_poisons(case: Case) -> str:
    """Two jobs kill each worker that starts them; the one before them, still being encoded, is innocent."""
    names = case.submit_named(["innocent", "poison-1", "poison-2"])
    worker, kills = case.worker(encoding=2.0), 0

    def struck() -> bool:
        return case.ended() or len(_poisoned(case)) > kills

    while not case.ended() and kills < 12:
        until(struck, 60, "a poison's start")
        if len(_poisoned(case)) > kills:
            kills = len(_poisoned(case))
            worker.end()
            worker.start(encoding=2.0)
            until(worker.ready, 30, "a worker being ready")
    ends = [_state(case, name) for name in names]
    assert ends == ["finished", "failed", "failed"], ends
    case.jobs |= dict.fromkeys(names[1:], "failed")
    return f"{kills} workers killed: the innocent finished, both poisons are quarantined"


def _poisoned(case: Case) -> list[object]:
    return [event for event in case.events("render") if event["job"].startswith("poison")]


def _state(case: Case, job: str) -> str:
    try:
        status = case.kiln.statuses([job])[job]
    except NotReadyError:
        return ""
    return status.state if status else ""


CASES: tuple[Callable[[Case], str], ...] = (
    flushed_live,
    flushed_restarted,
    rolled_back,
    truncated,
    cancelled_while_requeued,
    cancelled_while_rendered_again,
    adjacent_poisons,
)
