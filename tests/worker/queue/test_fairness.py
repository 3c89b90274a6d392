"""Two clients whose jobs always wait get the same of the GPU, whatever their jobs take and one forges.

`python -m tests.benchmarks.fairness` tries more cases, for longer.
"""

from __future__ import annotations

import pytest

from pixelkiln.jobs import Settings
from pixelkiln.jobs.queue.connection import connect
from tests.benchmarks.fairness import EDIT, LARGE, OTHER_SMALL, SMALL, Case, shared

CASES = {
    "small and large": Case({"a": (SMALL,), "b": (LARGE, EDIT)}, 2),
    "two models, killed": Case({"a": (SMALL, OTHER_SMALL), "b": (LARGE, OTHER_SMALL)}, 2, 200.0),
    "one forges": Case({"a": (LARGE,), "b": (LARGE, EDIT)}, 2, forger="b"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_each_gets_half_within_5_percent(settings: Settings, case: Case) -> None:
    with connect(settings) as connection:
        part, farm = shared(connection, case, 1, 1000.0)
    assert part == pytest.approx(0.5, rel=0.05), farm.done
