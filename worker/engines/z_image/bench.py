"""Times steps as a render runs them: text at hand, sampler and finiteness check included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.calibrate import Calibration, Probe, measured
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.checkpoints.quantize import Widths
from pixelkiln.worker.engines.checkpoints.random_weights import RandomWeights
from pixelkiln.worker.engines.family import Bench, Row, Size, Told
from pixelkiln.worker.engines.mlx.arithmetic import default_dtype
from pixelkiln.worker.engines.mlx.noise import seeded
from pixelkiln.worker.engines.mlx.timing import STEPS, WARM_UP, benched, ceiling, timed
from pixelkiln.worker.engines.z_image.calibrate import choose, run
from pixelkiln.worker.engines.z_image.checkpoint import weights
from pixelkiln.worker.engines.z_image.config import TRANSFORMER, Config, TransformerConfig
from pixelkiln.worker.engines.z_image.configs import CONFIGS
from pixelkiln.worker.engines.z_image.flops import step_flops
from pixelkiln.worker.engines.z_image.pipeline import denoise, prepare
from pixelkiln.worker.engines.z_image.positions import text_positions
from pixelkiln.worker.engines.z_image.quantize import widths
from pixelkiln.worker.engines.z_image.recipes import RECIPES
from pixelkiln.worker.engines.z_image.schedule import Schedule
from pixelkiln.worker.engines.z_image.transformer import Block, Transformer

PROMPT = 64  # tokens


def bench(
    folder: Path,
    sizes: Sequence[Size],
    *,
    calibrations: Path | None = None,
    dtype: mx.Dtype | None = None,
    steps: int = STEPS,
    side: int | None = None,
    told: Told | None = None,
) -> Bench:
    """Measure a checkpoint folder with its kiln.json; `calibrations` as for the engine.

    Raises CheckpointError.
    """
    config, manifest = Config.read(folder), Manifest.read(folder)
    dtype = dtype or default_dtype()
    top = ceiling(dtype, side)
    choice, said = choose(calibrations, folder, config.transformer, dtype, manifest.digest)
    model = Transformer(weights(folder, TRANSFORMER, dtype, choice), config.transformer)
    rows = [measure(model, config, manifest.bits, said, size, top, steps, told) for size in sizes]
    return benched(dtype, top, rows)


def bench_random(
    name: str,
    sizes: Sequence[Size],
    bits: Sequence[int],
    *,
    dtype: mx.Dtype | None = None,
    steps: int = STEPS,
    side: int | None = None,
    told: Told | None = None,
) -> Bench:
    """Measure random weights of a config in CONFIGS, one width after another."""
    config = CONFIGS[name]
    dtype = dtype or default_dtype()
    top = ceiling(dtype, side)
    rows: list[Row] = []
    for width in bits:
        rule = widths(TRANSFORMER, config, width)
        choice = None if width == 16 else calibrate_random(config.transformer, rule, dtype)
        made = RandomWeights(rule, dtype, choice.dequantize_from if choice else 0)
        model = Transformer(made, config.transformer)
        said = choice.said if choice else "dense"
        rows += [measure(model, config, width, said, size, top, steps, told) for size in sizes]
        del model
        mx.clear_cache()
    return benched(dtype, top, rows)


def calibrate_random(config: TransformerConfig, rule: Widths, dtype: mx.Dtype) -> Calibration:
    """From how many rows on to dequantise, measured on one random block."""

    def probe(dequantize_from: int) -> Probe:
        made = RandomWeights(rule, dtype, dequantize_from)
        return run(Block(made, "layers.1", config), config, dtype)

    return measured(probe)


def measure(
    model: Transformer,
    config: Config,
    bits: int,
    linears: str,
    size: Size,
    top: float,
    steps: int = STEPS,
    told: Told | None = None,
) -> Row:
    """Time `steps` steps of the turbo recipe's kind at `size` behind a prompt of PROMPT tokens."""
    mx.clear_cache()
    grid = (size[1] // config.grid, size[0] // config.grid)
    held = mx.get_active_memory()
    mx.reset_peak_memory()
    features = mx.random.normal((PROMPT, config.transformer.text), model.dtype, key=mx.random.key(0))
    text = model.text(features, model.rotation(text_positions(PROMPT)))
    schedule = Schedule.of(WARM_UP + steps, RECIPES["turbo"].shift)
    plan = prepare(model, schedule, grid, text, PROMPT)
    mx.eval(plan.arrays())
    states = denoise(model, plan, seeded(0, (grid[0] * grid[1], config.transformer.values)))
    about = f"{bits} bits, {size[0]}x{size[1]}, {str(model.dtype).removeprefix('mlx.core.')}"
    heard = told and (lambda step: told(f"{about}: {step}"))
    taken = timed(((state.z, state.clean) for state in states), steps, heard)
    flops = step_flops(config.transformer, PROMPT, grid[0] * grid[1])
    return Row(bits, linears, size, PROMPT, taken, flops, top, held, mx.get_peak_memory())
