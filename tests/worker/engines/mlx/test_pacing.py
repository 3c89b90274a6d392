from __future__ import annotations

import mlx.core as mx
import pytest

from pixelkiln.worker.engines.mlx.pacing import Pace, ahead


def test_a_pace_waits_for_the_layer_before(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[tuple[str, int]] = []
    monkeypatch.setattr(mx, "async_eval", lambda x: did.append(("start", x)))
    monkeypatch.setattr(mx, "eval", lambda x: did.append(("wait", x)))
    with ahead(1):
        pace = Pace()
    for layer in range(3):
        pace(layer)  # type: ignore[arg-type]
    assert did == [("start", 0), ("start", 1), ("wait", 0), ("start", 2), ("wait", 1)]
