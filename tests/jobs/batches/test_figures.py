"""Numbers of a night: medians and spreads, loads apart, gaps of idle workers, engines side by side."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pixelkiln.jobs.batches.report import figures, timeline
from pixelkiln.jobs.batches.report.facts import Facts, Told
from pixelkiln.jobs.batches.report.figures import Spread
from tests.jobs.batches.nights import spec, told


def facts(*rows: Told) -> Facts:
    return Facts("night", "default", datetime(2026, 1, 2, tzinfo=UTC), rows, {}, len(rows))


def at(clock: str) -> str:
    return f"2026-01-01T{clock}+00:00"


def one(number: int, begin: str, end: str, worker: str = "mini", **fields: object) -> Told:
    timings = {name: fields.pop(name) for name in ("load", "steps", "prefix", "decode") if name in fields}
    return told(number, spec(seed=number, **fields), worker=worker, begin=at(begin), end=at(end), **timings)


@pytest.mark.parametrize(
    ("numbers", "spread"),
    [([], None), ([2.0], (2, 2, 2, 2, 2)), ([1, 2, 3, 4, 5], (1, 2, 3, 4, 5)), ([1, 3], (1, 1.5, 2, 2.5, 3))],
)
def test_a_spread(numbers: list[float], spread: tuple[float, ...] | None) -> None:
    assert Spread.of(numbers) == spread


def test_seconds_are_by_engine_size_and_host_and_loads_stand_apart() -> None:
    night = facts(
        one(1, "22:00:00", "22:00:20", load=8.0, prefix=1.0, steps=[5.0, 5.0], decode=1.0),
        one(2, "22:00:20", "22:00:25", prefix=0.5, steps=[1.0, 2.0], decode=0.5),
        one(3, "22:00:25", "22:00:30", prefix=0.5, steps=[2.0, 3.0], decode=0.5),
        one(4, "22:00:00", "22:00:05", "studio", steps=[1.0, 1.0]),
        one(5, "22:00:30", "22:00:40", width=128, steps=[4.0, 4.0]),
        one(6, "22:00:40", "22:00:50", quantization="q8", load=2.0, steps=[3.0, 3.0]),
    )
    found = {
        (s.engine, s.size, s.host): (s.pictures, s.image.median, s.step.median) for s in figures.speeds(night)
    }
    assert found == {
        ("demo:bf16", (64, 64), "mini.local"): (3, 5.0, 2.0),  # the first, which waited for a load, aside
        ("demo:bf16", (64, 64), "studio.local"): (1, 2.0, 1.0),
        ("demo:bf16", (128, 64), "mini.local"): (1, 8.0, 4.0),
        ("demo:q8", (64, 64), "mini.local"): (1, 6.0, 3.0),  # there is none but this
    }
    held = {(h.engine, h.host): h for h in figures.held(night)}
    mini = held["demo:bf16", "mini.local"]
    assert (mini.times, mini.first, mini.steady) == (1, 12.0, 6.0)
    assert mini.loads is not None
    assert mini.loads.median == 8.0
    assert held["demo:bf16", "studio.local"].loads is None


def test_a_night_has_gaps_and_no_job_reaches_into_the_next() -> None:
    night = facts(
        one(1, "22:00:00", "22:01:02", load=10.0),  # rendered_at is told by the encoder, a little late
        one(2, "22:01:00", "22:02:00"),
        one(3, "22:12:00", "22:13:00"),
        one(4, "22:30:00", "22:40:00", "studio"),
    )
    mini, studio = timeline.nights(night)
    assert (mini.worker, mini.host, mini.pictures) == ("mini", "mini.local", 3)
    assert (mini.busy, mini.loading, mini.idle) == (180.0, 10.0, 600.0)
    assert [(gap.begin.minute, gap.seconds) for gap in mini.gaps] == [(2, 600.0)]
    # The whole is 40 minutes and its parts 2.4 s: jobs that follow at once are drawn as one.
    drawn = [(part.what, part.span.seconds, part.jobs) for part in mini.stretches]
    assert drawn == [("load", 10.0, 0), ("render", 110.0, 2), ("render", 60.0, 1)]
    assert studio.gaps == ()
    whole = timeline.whole([mini, studio])
    assert whole is not None
    assert whole.seconds == 2400


def test_no_job_makes_no_night() -> None:
    assert timeline.nights(facts()) == []
    assert timeline.whole([]) is None


def test_side_by_side_are_prompts_that_several_engines_had() -> None:
    rows = [
        one(1, "22:00:00", "22:00:01", labels={"genre": "night"}),
        one(1, "22:00:01", "22:00:02", quantization="q8", labels={"genre": "night"}),
        one(2, "22:00:02", "22:00:03"),
    ]
    (row,) = figures.side_by_side(facts(*rows))
    assert (row.title, row.seed, list(row.by)) == ("night", 1, ["demo:bf16", "demo:q8"])
    alone = [one(number, "22:00:02", "22:00:03") for number in range(3, 6)]
    assert figures.side_by_side(facts(*rows, *alone)) == []  # a batch of another kind
