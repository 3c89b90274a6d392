"""What keeps a worker from taking jobs, and that it is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from pixelkiln.jobs import Kiln, KilnError, NotReadyError, Settings
from pixelkiln.worker.intake import Intake
from pixelkiln.worker.service import Service
from tests.wire import Proxy
from tests.worker.working import Work, all_ended

Rewire = Callable[..., tuple[Settings, Proxy]]


@dataclass
class Worker:
    """What an intake looks at: all is well, but for what a test changes."""

    broken: BaseException | None = None
    unwell: str | None = None
    here: str = ""
    trouble: str | None = None
    refused: bool = False
    free: int = 2**40
    waiting: int = 0
    handed: int = 0
    fault: str | None = None
    served: tuple[str, ...] = ("demo:bf16",)

    def intake(self) -> Intake:
        parts: dict[str, Any] = {
            "settings": SimpleNamespace(spool_free=2**30, spool_jobs=3, windows=None),
            "served": dict.fromkeys(self.served),
            "claims": None,
            "control": SimpleNamespace(standing=SimpleNamespace(here=self.here)),
            "heartbeat": SimpleNamespace(broken=None),
            "renderer": SimpleNamespace(unwell=self.unwell),
            "spool": SimpleNamespace(
                root="spool",
                free=lambda: self.free,
                waiting=lambda: self.waiting,
                check=lambda: self.fault,
            ),
            "delivery": SimpleNamespace(
                broken=self.broken, trouble=self.trouble, refused=self.refused, handed=self.handed
            ),
        }
        return Intake(**parts)


AWAY = "the bucket is unreachable"


@pytest.mark.parametrize(
    ("worker", "reason"),
    [
        (Worker(), None),
        (Worker(here="the farm is paused"), "the farm is paused"),
        (Worker(trouble=AWAY), None),  # it goes on into the spool
        (Worker(trouble=AWAY, refused=True), AWAY),
        (Worker(trouble=AWAY, waiting=2), None),
        (Worker(trouble=AWAY, waiting=3), f"3 pictures wait to be stored ({AWAY})"),
        (Worker(trouble=AWAY, free=2**30 - 1), f"the spool's disk is nearly full ({AWAY})"),
        (Worker(waiting=2), None),
        (Worker(waiting=3), "3 pictures wait to be stored (storage is slower than rendering)"),
        (Worker(waiting=1, handed=2), "3 pictures wait to be stored (storage is slower than rendering)"),
        (Worker(waiting=5, trouble=AWAY), f"5 pictures wait to be stored ({AWAY})"),
        (
            Worker(free=2**30 - 1),
            "the spool's disk is nearly full (free some of spool, or set KILN_SPOOL_FREE)",
        ),
        (Worker(fault="the spool cannot be written"), "the spool cannot be written"),
    ],
)
def test_what_speaks_against_a_job(worker: Worker, reason: str | None) -> None:
    assert worker.intake().unable() == reason


@pytest.mark.parametrize(
    ("worker", "error"),
    [
        (Worker(broken=TypeError("a bug")), TypeError),
        (Worker(unwell="unwell: it swaps"), KilnError),
        (Worker(served=()), KilnError),
    ],
)
def test_a_worker_that_cannot_go_on_is_ended(worker: Worker, error: type[Exception]) -> None:
    with pytest.raises(error):
        worker.intake().unable()


def test_it_rests_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.monotonic()]
    monkeypatch.setattr("pixelkiln.worker.intake.time", SimpleNamespace(monotonic=lambda: now[0]))
    intake = Worker().intake()
    intake.rest("no references")
    assert intake.unable() == "no references"
    now[0] += 60
    assert intake.unable() is None


def test_what_is_missing_is_one_line(settings: Settings, rewire: Rewire) -> None:
    with pytest.raises(NotReadyError, match=r"^no model 'x'; there are "):
        Service(settings, ["x"])
    with pytest.raises(NotReadyError, match="kiln models pull hidream-o1-full"):
        Service(settings, ["hidream-o1-full"])
    with pytest.raises(NotReadyError, match="does not exist"):
        Service(settings.model_copy(update={"s3_bucket": "not-there"}), ["demo"])
    away, proxy = rewire("s3")
    proxy.cut()
    with pytest.raises(NotReadyError, match="is unreachable"):
        Service(away, ["demo"])


def test_a_redis_that_refuses_is_told_once(
    service: Service,
    submit: Callable[..., str],
    work: Work,
    kiln: Kiln,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kiln.redis.set("rq:queues", "text")

    def mended() -> bool:
        state = kiln.redis.hget(f"rq:worker:{service.name}", "kiln_state") or b""
        if not state.startswith(b"takes no jobs: Redis refuses: "):
            return False
        kiln.redis.delete("rq:queues")
        return True

    def done() -> bool:
        return bool(jobs or (mended() and not jobs.append(submit()))) and all_ended(kiln, jobs)()

    jobs: list[str] = []
    work(done)
    assert kiln.status(jobs[0]).state == "finished"
    assert len([one for one in caplog.records if "Redis refuses" in one.message]) == 1
