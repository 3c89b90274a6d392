from __future__ import annotations

from pixelkiln.worker.engines.family import Row


def test_a_row_says_how_near_the_ceiling_it_is() -> None:
    row = Row(
        16, "dense", (64, 64), 64, (1.0, 4.0, 2.0), flops=600, ceiling=400.0, weight_bytes=1, peak_bytes=2
    )
    assert (row.step, row.spread, row.achieved, row.floor, row.fraction) == (2.0, 1.5, 300.0, 1.5, 0.75)
