"""How long a process stood still, by two clocks."""

from __future__ import annotations

import pytest

from pixelkiln.worker.host.standstill import Standstill


@pytest.mark.parametrize(
    ("monotonic", "wall", "expected"),
    [
        (3.0, 3.0, 3.0),
        (0.1, 28_800.0, 28_800.0),  # a Mac that slept the night
        (600.0, 600.0, 600.0),  # SIGSTOP
        (3.0, -3597.0, 3.0),  # the clock was set back meanwhile
    ],
)
def test_the_clock_that_ran_further_counts(monotonic: float, wall: float, expected: float) -> None:
    now = [100.0, 1_800_000_000.0]
    still = Standstill(lambda: now[0], lambda: now[1])
    now[0] += monotonic
    now[1] += wall
    assert still.seconds() == pytest.approx(expected)
    assert still.seconds() == 0.0
