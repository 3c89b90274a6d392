from __future__ import annotations

import pytest

from pixelkiln.worker.engines.checkpoints import calibrate
from pixelkiln.worker.engines.checkpoints.calibrate import NEVER, ROWS, measured

QUANTISED_FIRST = [  # seconds by rows: quantised multiply, dequantise and multiply; what follows
    ([1, 1, 1], [2, 2, 2], NEVER, "quantised"),
    ([2, 2, 2], [1, 1, 1], 0, "dequantised"),
    ([1, 2, 3], [2, 1, 1], ROWS[1], f"dequantised from {ROWS[1]} rows"),
    ([1, 1, 3], [2, 2, 1], ROWS[2], f"dequantised from {ROWS[2]} rows"),
    ([2, 1, 2], [1, 2, 1], ROWS[2], f"dequantised from {ROWS[2]} rows"),
]


@pytest.mark.parametrize(("quantised", "dequantised", "rows", "said"), QUANTISED_FIRST)
def test_the_choice_follows_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, quantised: list[int], dequantised: list[int], rows: int, said: str
) -> None:
    taken = {NEVER: quantised, 0: dequantised}
    monkeypatch.setattr(calibrate, "_timed", lambda layer: taken[layer])
    found = measured(lambda dequantize_from: dequantize_from)  # type: ignore[arg-type,return-value]
    assert (found.dequantize_from, found.said) == (rows, said)
