from __future__ import annotations

import mlx.core as mx
import pytest

from pixelkiln.worker.engines.hidream import bench
from pixelkiln.worker.engines.hidream.config import Config, TextConfig
from pixelkiln.worker.engines.hidream.memory import weights_at
from pixelkiln.worker.engines.hidream.needs import JOBS, RELEASE_VISION, Job, needed, table, tower_bytes
from pixelkiln.worker.engines.hidream.quantize import widths
from pixelkiln.worker.engines.mlx.memory import Backend

GB = 1e9


@pytest.mark.parametrize(("bits", "size"), [(16, (256, 192)), (8, (128, 96)), (4, (256, 192))])
def test_what_is_computed_bounds_what_is_measured(bits: int, size: tuple[int, int]) -> None:
    text = TextConfig(256, 512, 4, 8, 4, 32, 300, 1e-6, 5e6, (6, 5, 5))
    model = bench.random_model(text, widths(bits, 4), mx.float32)
    row = bench.measure(model, text, bits, "", size, 1.0, steps=1)
    cpu = Backend(fused=False, waiting=4)
    count = needed(Config(text, {}, 0, 1, 2), Job(""), size, bits, cpu, prompt=bench.PROMPT, itemsize=4)
    working = count - weights_at(text, bits)
    assert 0.3 * working < row.peak_bytes - row.weight_bytes < working


def test_the_released_model_needs_what_was_measured() -> None:
    # One H100 at full size, random weights: what each job held at most, in GB.
    measured = {((1024, 1024), 16): 15.9, ((2048, 2048), 16): 17.2, ((1024, 1024), 8): 10.0}
    measured |= {((2048, 2048), 8): 11.4, ((1024, 1024), 6): 8.3, ((2048, 2048), 6): 10.9}
    counted = {(one.size, one.bits): one.bytes / GB for one in table(jobs=JOBS[:1])}
    for key, held in measured.items():
        assert held < counted[key] < held + 2.5
    assert tower_bytes(RELEASE_VISION) == pytest.approx(1.15 * GB, rel=0.01)


def test_more_work_needs_more() -> None:
    needs = {(one.job, one.size, one.bits): one.bytes for one in table()}
    assert len(needs) == 4 * 4 * 5
    plain, guided, edit, two = (job.name for job in JOBS)
    for size in ((1024, 1024), (2048, 2048)):
        for bits in (4, 6, 16):
            assert needs[plain, size, bits] < needs[guided, size, bits]
            assert needs[plain, size, bits] < needs[edit, size, bits] < needs[two, size, bits] * 1.2
        assert needs[plain, size, 4] < needs[plain, size, 6] < needs[plain, size, 8] < needs[plain, size, 16]
