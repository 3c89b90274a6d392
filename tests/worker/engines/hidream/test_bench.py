from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from pixelkiln.worker.engines.checkpoints import calibrate
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.families import family_of
from pixelkiln.worker.engines.hidream import bench as benching
from pixelkiln.worker.engines.hidream.bench import bench, bench_random, random_model
from pixelkiln.worker.engines.hidream.config import TextConfig
from pixelkiln.worker.engines.hidream.configs import CONFIGS
from pixelkiln.worker.engines.hidream.convert import convert
from pixelkiln.worker.engines.hidream.flops import step_flops
from pixelkiln.worker.engines.hidream.memory import weights_at
from pixelkiln.worker.engines.hidream.model import Model
from pixelkiln.worker.engines.hidream.quantize import widths
from pixelkiln.worker.engines.hidream.rope import rotation
from pixelkiln.worker.engines.mlx import timing
from pixelkiln.worker.engines.mlx.features import size_of
from pixelkiln.worker.engines.mlx.layers import Quantized
from pixelkiln.worker.engines.mlx.pacing import ahead

SMALL = CONFIGS["small"]


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "ROWS", (2, 4, 8))
    monkeypatch.setattr(timing, "WARM_UP", 1)


def test_random_weights_of_each_width_are_measured() -> None:
    made = bench_random("small", [(64, 64), (96, 64)], [16, 8, 6], dtype=mx.float32, steps=2, side=32)
    assert [(row.bits, row.size) for row in made.rows] == [
        (bits, size) for bits in (16, 8, 6) for size in ((64, 64), (96, 64))
    ]
    for row in made.rows:
        assert len(row.seconds) == 2
        assert row.step > 0
        assert row.fraction == pytest.approx(row.achieved / made.ceiling)
        assert row.peak_bytes > row.weight_bytes > 0
    held = {row.bits: row.weight_bytes for row in made.rows}
    assert held[16] > held[8] > held[6]
    facts = json.loads(json.dumps(made.facts()))
    assert facts["rows"][0]["linears"] == "dense"
    assert facts["arithmetic"] == "float32"


def test_whole_pictures_are_measured_by_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benching, "PROMPT", 4)
    shares = [(4, 0), (4, 3)]
    made = bench_random("small", [(64, 96)], [16], dtype=mx.float32, steps=1, side=32, shares=shares)
    assert [(one.bits, one.size, one.steps, one.coarse_steps) for one in made.pictures] == [
        (16, (64, 96), 4, 0),
        (16, (64, 96), 4, 3),
    ]
    assert [len(one.seconds) for one in made.pictures] == [benching.PICTURES] * 2
    assert json.loads(json.dumps(made.facts()))["pictures"][1]["coarse_steps"] == 3


def test_a_family_without_coarse_steps_refuses_them() -> None:
    with pytest.raises(CheckpointError, match="takes no coarse steps"):
        family_of("z-image-turbo").bench_random("small", [(64, 64)], [16], 1, shares=[(4, 3)])


def test_a_checkpoint_is_measured(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    convert(checkpoint("dev"), tmp_path / "six", 6)
    (row,) = bench(tmp_path / "six", [(64, 64)], dtype=mx.float32, steps=1, side=32).rows
    assert (row.bits, row.linears, row.prompt) == (6, "dequantised", 64)


def test_the_released_models_step_costs_what_was_counted() -> None:
    release = CONFIGS["release"]
    assert step_flops(release, 50, 32 * 32) == pytest.approx(15.0e12, rel=0.01)
    assert step_flops(release, 50, 64 * 64) == pytest.approx(67.2e12, rel=0.01)
    # By hand, for a model of one layer: hidden 4, two heads of 2, one key-value head, MLP 3, three tokens.
    tiny = TextConfig(4, 3, 1, 2, 1, 2, 9, 1e-6, 1e4, (1, 0, 0))
    linears = 2 * 3 * (4 * 4 + 4 * 2 + 4 * 2 + 4 * 4 + 3 * 4 * 3)
    heads = 2 * 2 * (3072 * 1 + 1 * 4) + 2 * 3 * 4 * 3072
    assert step_flops(tiny, 5, 2) == linears + 2 * 2 * 3 * (5 + 3) * 4 + heads


@pytest.mark.parametrize("bits", [16, 8, 6, 5, 4])
def test_random_models_hold_what_the_config_says(bits: int) -> None:
    mx.clear_cache()
    before = mx.get_active_memory()
    model = random_model(SMALL, widths(bits, SMALL.num_hidden_layers), mx.bfloat16)
    held = mx.get_active_memory() - before
    assert held == pytest.approx(weights_at(SMALL, bits), rel=0.05)
    weight = model.decoder.layers[0].down_proj.weight
    values = weight.rows() if isinstance(weight, Quantized) else weight
    assert float(mx.std(values.astype(mx.float32)).item()) == pytest.approx(192**-0.5, rel=0.08)


def test_few_layers_weights_are_dequantised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benching, "PROMPT", 4)
    wide = TextConfig(256, 4096, 6, 4, 2, 16, 64, 1e-6, 5e6, (4, 2, 2))
    model = random_model(wide, widths(8, 6), mx.float32)
    row = benching.measure(model, wide, 8, "", (64, 64), 1.0, steps=1)
    layer = 4 * (256 * (4 + 2 + 2 + 4) * 16 + 3 * 256 * 4096)  # bytes, dequantised
    assert row.peak_bytes - row.weight_bytes < 2.5 * layer


def test_a_prefix_holds_no_more_than_its_keys_and_values() -> None:
    model = random_model(SMALL, widths(16, SMALL.num_hidden_layers), mx.float32)
    x = mx.random.normal((200, SMALL.hidden_size), key=mx.random.key(0))
    turn = rotation(np.tile(np.arange(200, dtype=np.int32), (3, 1)), SMALL)
    mx.eval(x, turn.cos, turn.sin)
    before = mx.get_active_memory()
    prefix = model.decoder.prefix(x, turn)
    mx.eval(prefix)
    # Buffers are rounded up to pages; views of the whole product would be several times as large.
    assert mx.get_active_memory() - before < 1.5 * size_of(prefix)


def test_pacing_does_not_change_a_picture(tiny_model: Model) -> None:
    def run() -> mx.array:
        plan = benching._plan(tiny_model, tiny_model.config.text, (96, 64))
        z = mx.random.normal((6, 3072), key=mx.random.key(0))
        tokens = [plan.times[:1], tiny_model.pixels_in(z)]
        return tiny_model.predict(tokens, plan.branches[0].rotation, plan.branches[0].prefix)

    with ahead(0):
        slow = run()
    with ahead(99):
        np.testing.assert_array_equal(slow, run())
