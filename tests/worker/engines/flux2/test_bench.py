from __future__ import annotations

from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.flux2.bench import bench, bench_random
from pixelkiln.worker.engines.flux2.configs import CONFIGS
from pixelkiln.worker.engines.flux2.flops import step_flops
from pixelkiln.worker.engines.flux2.tokens import LENGTH


def test_random_weights_are_timed_by_width_and_size() -> None:
    found = bench_random("small", [(64, 96)], [16, 4], dtype=mx.float32, steps=2, side=64)
    assert [(row.bits, row.size, row.prompt, len(row.seconds)) for row in found.rows] == [
        (16, (64, 96), LENGTH, 2),
        (4, (64, 96), LENGTH, 2),
    ]
    dense, few = found.rows
    assert dense.flops == few.flops == step_flops(CONFIGS["small"], LENGTH, 24)
    assert dense.linears == "dense" != few.linears
    assert few.weight_bytes < dense.weight_bytes < dense.peak_bytes
    assert dense.floor > 0


def test_a_checkpoint_is_timed(copied: Path) -> None:
    (row,) = bench(copied, [(64, 64)], dtype=mx.float32, steps=2, side=64).rows
    assert (row.bits, row.linears, row.size) == (16, "dense", (64, 64))
