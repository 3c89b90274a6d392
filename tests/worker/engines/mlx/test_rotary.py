from __future__ import annotations

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.mlx.rotary import angles, halves, pairs
from pixelkiln.worker.engines.mlx.timesteps import sinusoid

POSITIONS = np.array([[3, 0, 0], [4, 7, 511], [1535, 100, 2]], np.int32)
SIZES, THETA = (4, 6, 6), 256.0


def reference(x: np.ndarray, neighbours: bool) -> np.ndarray:
    """Each pair of a head turned one by one, in float64."""
    y = x.astype(np.float64).copy()
    for token, place in enumerate(POSITIONS):
        pair = 0
        for axis, size in enumerate(SIZES):
            for i in range(size // 2):
                angle = float(place[axis]) * THETA ** (-2 * i / size)
                a, b = (2 * pair, 2 * pair + 1) if neighbours else (pair, pair + 8)
                u, v = x[0, :, token, a].astype(np.float64), x[0, :, token, b].astype(np.float64)
                y[0, :, token, a] = u * np.cos(angle) - v * np.sin(angle)
                y[0, :, token, b] = v * np.cos(angle) + u * np.sin(angle)
                pair += 1
    return y


def test_pairs_turn_as_the_formula_says() -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 16)).astype(np.float32)
    turned = angles(POSITIONS, SIZES, THETA)
    for made, neighbours in ((pairs(turned), True), (halves(turned), False)):
        np.testing.assert_allclose(made(mx.array(x)), reference(x, neighbours), atol=1e-6)
        assert made(mx.array(x).astype(mx.bfloat16)).dtype == mx.bfloat16
        assert made.cos.dtype == mx.float32


def test_times_are_told_by_cosines_then_sines() -> None:
    t = np.array([0.0, 45.4545, 999.75])
    frequencies = np.exp(-np.log(10000) * np.arange(128) / 128)
    expected = np.concatenate([f(t[:, None] * frequencies) for f in (np.cos, np.sin)], axis=1)
    found = sinusoid(mx.array(t.astype(np.float32)))
    assert found.dtype == mx.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)  # t itself is rounded: 6e-5 at 1000
