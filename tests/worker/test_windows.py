"""A worker and its window: outside it takes no jobs, holds none, and lets its machine sleep."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from pixelkiln.jobs import Kiln, RenderSpec, Settings, keys
from pixelkiln.jobs.batches.windows import Windows
from pixelkiln.worker.host.hours import Hours
from pixelkiln.worker.host.keep_awake import KeepAwake
from pixelkiln.worker.render.pace import Pace
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


SMALL = {"prompt": "a fox", "model": "demo", "width": 64, "height": 64, "steps": 4}


def test_a_job_that_would_not_end_in_the_window_is_left_to_others(
    settings: Settings, submit: Callable[..., str], kiln: Kiln, caplog: pytest.LogCaptureFixture
) -> None:
    """By what it rendered itself: of a kind that it knows nothing of it begins one."""
    caplog.set_level("INFO")
    job_id = submit()
    now = datetime(2026, 11, 27, 6, 59, tzinfo=UTC)
    service = make(settings, lambda: now)
    service._intake._pace.note(RenderSpec.parse(SMALL), 600.0)
    state = "takes no jobs: none of its jobs would end before its window closes"
    working(service, lambda: [one.state for one in kiln.farm().workers] == [state])
    status = kiln.status(job_id)
    assert (status.state, status.attempt) == ("queued", 1)
    assert kiln.redis.zcard(keys.LEASES) == 0
    assert f"job {job_id}: left to others" in caplog.text
    assert caplog.text.count("left to others") == 1  # and not taken again and again
    assert "and the window closes at 07:00" in caplog.text

    now = datetime(2026, 11, 27, 22, 1, tzinfo=UTC)  # in the next one it has time
    service = make(settings, lambda: now)
    service._intake._pace.note(RenderSpec.parse(SMALL), 600.0)
    working(service, all_ended(kiln, [job_id]))
    assert kiln.status(job_id).state == "finished"


def test_other_kinds_are_taken_all_the_same(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    service = make(settings, lambda: datetime(2026, 11, 27, 6, 59, tzinfo=UTC))
    service._served["demo:q4"] = service._served["demo:bf16"]
    asked: list[list[str]] = []
    monkeypatch.setattr(service._claims, "take", lambda served, *_, **__: asked.append(served))
    monkeypatch.setattr(service._claims, "wait", lambda *_: None)
    service._intake.hours.too_late("demo:bf16", 61.0)
    assert service._intake.unable() is None
    assert service._intake.take() is None
    assert asked == [["demo:q4"]]
    assert service._heartbeat._state == "idle; leaves demo:bf16 to others until its window has closed"
    service._spool.close()


def test_what_is_left_is_left_until_the_window_has_closed() -> None:
    now = datetime(2026, 11, 27, 6, 59, tzinfo=UTC)
    hours = Hours(Windows.parse("22:00-07:00", UTC), lambda: now)
    assert hours.too_late("demo:bf16", None) is None
    assert hours.too_late("demo:bf16", 60.0) is None
    assert hours.left == set()
    assert hours.too_late("demo:bf16", 61.0) == "would take about 61 s, and the window closes at 07:00"
    assert hours.left == {"demo:bf16"}
    now += timedelta(minutes=1)
    assert hours.left == set()
    assert Hours(None).too_late("demo:bf16", 1e9) is None
    assert Hours(Windows.parse("Mo-Su")).too_late("demo:bf16", 1e5) is None


def test_a_worker_tells_how_fast_it_is(settings: Settings, submit: Callable[..., str], kiln: Kiln) -> None:
    job_id = submit()
    speeds: dict[str, float] = {}

    def told() -> bool:
        speeds.update(*(one.speeds for one in kiln.farm().workers))
        return bool(speeds) and all_ended(kiln, [job_id])()

    working(make(settings, lambda: NIGHT), told)
    assert set(speeds) == {"demo:bf16"}
    assert speeds["demo:bf16"] > 0


def test_pace_is_the_median_by_how_much_a_job_is() -> None:
    pace, large = Pace(), RenderSpec.parse({**SMALL, "width": 128, "height": 128})
    assert pace.seconds(large) is None
    for seconds in (10.0, 100.0, 20.0):
        told = pace.note(RenderSpec.parse(SMALL), seconds)
    assert pace.seconds(large) == pytest.approx(80.0)
    assert told == {"kiln_speeds": f'{{"demo:bf16": {round(64 * 64 * 4 / 20)}}}'}
    assert pace.seconds(RenderSpec.parse({**SMALL, "quantization": "q4"})) is None
