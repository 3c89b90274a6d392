"""A worker and its window: outside it takes no jobs, holds none, and lets its machine sleep."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from pixelkiln.jobs import Kiln, Settings, keys
from pixelkiln.worker.host.hours import Hours
from pixelkiln.worker.host.keep_awake import KeepAwake
from pixelkiln.worker.service import Service
from tests.worker.working import all_ended, working

NOON, NIGHT = datetime(2026, 11, 26, 12, tzinfo=UTC), datetime(2026, 11, 26, 23, tzinfo=UTC)


def make(settings: Settings, clock: Callable[[], datetime]) -> Service:
    told = settings.model_copy(update={"window": "22:00-07:00", "zone": "UTC", "keep_awake": "always"})
    service = Service(told, ["demo"])
    service._intake.hours = Hours(told.windows, clock)
    return service


def test_a_worker_outside_its_window_takes_no_jobs_and_lets_its_machine_sleep(
    settings: Settings, submit: Callable[..., str], kiln: Kiln, monkeypatch: pytest.MonkeyPatch
) -> None:
    awake: list[str] = []
    for name in ("hold", "idle", "release"):
        monkeypatch.setattr(KeepAwake, name, lambda _, name=name: awake.append(name))
    job_id = submit()
    service = make(settings, lambda: NOON)
    working(service, lambda: [one.state for one in kiln.farm().workers] == ["sleeps until 22:00"])
    assert (kiln.status(job_id).state, kiln.status(job_id).attempt) == ("queued", 0)
    assert set(awake) == {"release"}


def test_in_its_window_it_works_and_tells_its_hours(
    settings: Settings, submit: Callable[..., str], kiln: Kiln
) -> None:
    job_id = submit()
    hours = []

    def done() -> bool:
        hours[:] = [one.hours for one in kiln.farm().workers if one.hours]
        return bool(hours) and all_ended(kiln, [job_id])()

    working(make(settings, lambda: NIGHT), done)
    assert kiln.status(job_id).state == "finished"
    day = datetime(2026, 11, 26, tzinfo=UTC).timestamp()
    assert hours[0][0] == (day + 22 * 3600, day + 31 * 3600)


def test_when_the_window_closes_the_job_goes_back(
    settings: Settings, submit: Callable[..., str], kiln: Kiln
) -> None:
    job_id = submit()
    closed = False

    def clock() -> datetime:
        nonlocal closed
        closed = closed or bool(service._heartbeat.held())
        return NOON if closed else NIGHT

    service = make(settings, clock)
    working(service, lambda: [one.state for one in kiln.farm().workers] == ["sleeps until 22:00"])
    status = kiln.status(job_id)
    assert (status.state, status.attempt) == ("queued", 1)
    assert kiln.redis.zcard(keys.LEASES) == 0
    assert kiln.redis.hget(keys.BLAME(job_id), "crashes") is None  # nothing counts against it
    working(make(settings, lambda: NIGHT), all_ended(kiln, [job_id]))
    assert kiln.status(job_id).state == "finished"
