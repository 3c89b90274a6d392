from __future__ import annotations

import mlx.core as mx
import pytest

from pixelkiln.worker.engines.mlx.schedulers import FlowMatch, listed


def test_listed_sigmas_are_thousandths() -> None:
    assert listed((999, 640, 8)).sigmas == (0.999, 0.64, 0.008, 0.0)


def test_flow_match_is_euler() -> None:
    z = FlowMatch((0.8, 0.3, 0.0)).step(0, mx.full((1,), 2.0), mx.full((1,), 1.0), None)
    assert z.item() == pytest.approx(1.0 + (0.3 - 0.8) * 2.0)
