"""When jobs will be rendered: by workers with speeds and hours, and whether that is by a deadline."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pixelkiln.jobs.batches.forecast import Deadline, Forecast, Work, forecast
from pixelkiln.jobs.batches.outlook import warned
from pixelkiln.jobs.queue.farm import Farm, WorkerStatus

NOW = datetime(2026, 11, 26, 21, tzinfo=UTC)
HOUR = 3600.0
DEMO, OTHER = "demo:bf16", "demo:q6"


def at(hours: float) -> float:
    """Hours from now."""
    return NOW.timestamp() + hours * HOUR


def worker(
    name: str, *serves: str, hours: tuple[tuple[float, float], ...] = (), **about: object
) -> WorkerStatus:
    spans = tuple((at(a), at(b)) for a, b in hours)
    return WorkerStatus(name, serves=serves or (DEMO,), hours=spans, **about)  # type: ignore[arg-type]


def ends(found: Forecast) -> list[float]:
    """In hours from now."""
    return [round((end - NOW.timestamp()) / HOUR, 3) for end in found.ends]


def told(jobs: list[Work], *workers: WorkerStatus, hours: tuple[tuple[float, float], ...] = ()) -> Forecast:
    """Each worker does an amount of 1 in an hour, but `fast` does 2."""
    speeds = {kind: {"a": 1 / HOUR, "fast": 2 / HOUR} for kind in (DEMO, OTHER)}
    spans = [(at(a), at(b)) for a, b in hours]
    return forecast(jobs, Farm(workers=workers), speeds, NOW.timestamp(), spans)


def test_workers_take_jobs_in_turn_at_their_speeds() -> None:
    assert ends(told([Work(DEMO, 1)] * 3, worker("a"))) == [1, 2, 3]
    assert ends(told([Work(DEMO, 1)] * 3, worker("a"), worker("fast"))) == [0.5, 1, 1]


def test_one_that_rendered_none_yet_is_as_fast_as_the_others() -> None:
    assert ends(told([Work(DEMO, 3)], worker("new"))) == [2]


def test_each_kind_goes_to_those_that_serve_it() -> None:
    jobs = [Work(DEMO, 1), Work(OTHER, 1), Work(DEMO, 1)]
    assert ends(told(jobs, worker("a"), worker("fast", OTHER))) == [0.5, 1, 2]


def test_a_worker_works_in_its_hours_and_begins_nothing_that_it_cannot_end() -> None:
    night = ((1.0, 3.5), (25.0, 34.0))
    assert ends(told([Work(DEMO, 1)] * 4, worker("a", hours=night))) == [2, 3, 26, 27]


def test_hours_are_the_same_a_week_later() -> None:
    assert ends(told([Work(DEMO, 1)] * 2, worker("a", hours=((1.0, 2.5),)))) == [2, 7 * 24 + 2]


def test_jobs_are_taken_in_their_own_windows_and_may_end_outside() -> None:
    assert ends(told([Work(DEMO, 1)] * 3, worker("a"), hours=((2.0, 3.5), (26.0, 27.0)))) == [3, 4, 27]
    assert told([Work(DEMO, 1)], worker("a", hours=((1.0, 2.0),)), hours=((5.0, 6.0),)).never == 1


def test_what_cannot_be_told_is_named() -> None:
    jobs = [Work(DEMO, 1), Work(OTHER, 1), Work("demo:q4", 1)]
    found = told(jobs, worker("a", DEMO, "demo:q4"))
    assert (found.unserved, found.unknown, ends(found)) == ((OTHER,), ("demo:q4",), [1])
    assert told([Work(DEMO, 3)], worker("a", hours=((1.0, 2.0),))).never == 1


@pytest.mark.parametrize("about", [{"age": 60.0}, {"paused": ("farm",)}, {"paused": ("worker:a",)}])
def test_who_is_gone_or_paused_renders_nothing(about: dict[str, object]) -> None:
    assert told([Work(DEMO, 1)], worker("a", **about)).unserved == (DEMO,)


def test_ten_thousand_jobs_and_a_hundred_workers() -> None:
    workers = [worker(f"w{n}", hours=((1.0, 10.0), (25.0, 34.0))) for n in range(100)]
    found = told([Work(DEMO, 0.5)] * 10_000, *workers)
    assert found.complete
    assert len(found.ends) == 10_000


def test_a_deadline_is_told() -> None:
    deadline = Deadline(datetime(2026, 11, 27, 7, 30, tzinfo=UTC), UTC)
    fits, late = told([Work(DEMO, 1)] * 10, worker("a")), told([Work(DEMO, 1)] * 12, worker("a"))
    assert deadline.verdict(fits, NOW) == (True, "ready at Fri 07:00, before the deadline Fri 07:30")
    assert deadline.verdict(late, NOW) == (
        False,
        "not ready by the deadline Fri 07:30: 10 of 12 are by then, all at Fri 09:00",
    )
    assert deadline.verdict(Forecast(), NOW)[0] is True
    assert deadline.verdict(told([Work(OTHER, 1)], worker("a")), NOW) == (
        None,
        f"whether it is ready by the deadline Fri 07:30 cannot be told: no worker serves {OTHER}",
    )
    assert deadline.verdict(told([Work(DEMO, 9)], worker("a", hours=((1.0, 2.0),))), NOW) == (
        False,
        "not ready by the deadline Fri 07:30: 1 fit into no worker's window",
    )


def test_a_warning_comes_once_when_it_turns_out_late() -> None:
    deadline = Deadline(datetime(2026, 11, 27, 7, 30, tzinfo=UTC), UTC)
    fits, late = told([Work(DEMO, 1)] * 10, worker("a")), told([Work(DEMO, 1)] * 12, worker("a"))
    unknown = told([Work(DEMO, 1)])
    is_late, seen = False, []
    for one in (fits, late, late, unknown, late, fits, late):
        before, is_late = is_late, warned(deadline.verdict(one, NOW)[0], is_late)
        seen.append(is_late and not before)
    assert seen == [False, True, False, False, False, False, True]
