"""What a job's client pays for."""

from __future__ import annotations

from contextlib import suppress

from pixelkiln.worker.engines.engine import Step
from pixelkiln.worker.render.meter import Meter


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_all_that_holds_the_worker_is_paid_but_loading() -> None:
    meter = Meter(clock := Clock())
    clock.now += 7
    meter.start()
    clock.now += 1
    with suppress(ValueError), meter.stopped():
        clock.now += 40
        raise ValueError
    clock.now += 44  # a reference is decoded
    assert meter.seconds == 45
    meter.start()
    assert meter.seconds == 0


def test_the_cost_is_foreseen_from_the_second_step() -> None:
    meter = Meter(clock := Clock())
    meter.start()
    costs = []
    for index, seconds in enumerate((0.5, 9.0, 2.0, 2.0, 3.5)):
        clock.now += seconds
        costs.append(meter.cost(Step(index, 4, seconds)))
    assert costs == [0.5, 9.5, 15.5, 15.5, 17.0]
    meter.start()
    clock.now += 1
    assert meter.cost(Step(0, 4, 1.0)) == 1  # of the next job nothing is foreseen


def test_coarse_steps_foresee_what_the_full_ones_will_take() -> None:
    meter = Meter(clock := Clock())
    meter.start()
    costs = []
    for index, (seconds, left) in enumerate(((0.5, None), (3.0, 9.0), (1.0, 8.0), (4.0, None), (4.0, None))):
        clock.now += seconds
        costs.append(meter.cost(Step(index, 4, seconds, left=left)))
    assert costs == [0.5, 3.5, 12.5, 12.5, 12.5]  # at the second step, eight like it are to come
