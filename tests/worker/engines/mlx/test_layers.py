from __future__ import annotations

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.checkpoints.calibrate import NEVER
from pixelkiln.worker.engines.mlx.layers import Linear, Quantized, stack


def test_both_ways_agree() -> None:
    weight = mx.random.normal((96, 128), key=mx.random.key(1))
    x = mx.random.normal((5, 128), key=mx.random.key(2))
    for bits in (4, 5, 6, 8):
        packed = mx.quantize(weight, 64, bits)
        one, other = (Linear(Quantized(*packed, 64, bits, at))(x) for at in (0, NEVER))
        np.testing.assert_allclose(one, other, atol=2e-5)
        exact = x @ mx.dequantize(*packed, 64, bits).T
        assert mx.array_equal(Linear(Quantized(*packed, 64, bits, 5))(x), exact)


def test_stacked_weights_multiply_as_they_do_apart() -> None:
    x = mx.random.normal((3, 128), key=mx.random.key(0))
    weights = [mx.random.normal((rows, 128), key=mx.random.key(rows)) for rows in (32, 64, 96)]
    kinds = {
        "dense": (list(weights), 1),
        "alike": ([Quantized(*mx.quantize(one, 64, 6), 64, 6) for one in weights], 1),
        "mixed": (
            [Quantized(*mx.quantize(w, 64, b), 64, b) for w, b in zip(weights, (6, 6, 8), strict=True)],
            2,
        ),
    }
    for matrices, parts in kinds.values():
        stacked = stack(matrices)
        assert len(stacked.parts) == parts
        for ours, matrix in zip(stacked(x), matrices, strict=True):
            np.testing.assert_allclose(ours, Linear(matrix)(x), atol=1e-5)
