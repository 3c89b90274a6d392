"""Times steps as a render runs them: sampler and finiteness check included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.calibrate import Calibration, Probe, measured
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.checkpoints.quantize import Widths
from pixelkiln.worker.engines.checkpoints.random_weights import RandomWeights
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.family import Bench, Row, Size, Told
from pixelkiln.worker.engines.flux2.calibrate import choose, run
from pixelkiln.worker.engines.flux2.checkpoint import TRANSFORMER, tensors
from pixelkiln.worker.engines.flux2.config import TransformerConfig
from pixelkiln.worker.engines.flux2.configs import CONFIGS
from pixelkiln.worker.engines.flux2.flops import step_flops
from pixelkiln.worker.engines.flux2.pipeline import denoise, prepare
from pixelkiln.worker.engines.flux2.quantize import widths
from pixelkiln.worker.engines.flux2.recipes import RECIPES
from pixelkiln.worker.engines.flux2.schedule import TOKEN
from pixelkiln.worker.engines.flux2.tokens import LENGTH
from pixelkiln.worker.engines.flux2.transformer import SingleBlock, Transformer
from pixelkiln.worker.engines.mlx.arithmetic import default_dtype
from pixelkiln.worker.engines.mlx.noise import seeded
from pixelkiln.worker.engines.mlx.timing import STEPS, WARM_UP, benched, ceiling, timed


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
    """Measure the transformer of a checkpoint folder with its kiln.json; `calibrations` as for the engine.

    Raises CheckpointError.
    """
    config, manifest = TransformerConfig.read(folder / TRANSFORMER), Manifest.read(folder)
    dtype = dtype or default_dtype()
    top = ceiling(dtype, side)
    choice, said = choose(calibrations, folder, config, dtype, manifest.digest)
    weights = Weights(folder / TRANSFORMER, tensors(folder, TRANSFORMER), dtype, choice)
    model = Transformer(weights, config)
    weights.finish(ignore=())
    rows = [measure(model, manifest.bits, said, size, top, steps, told) for size in sizes]
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
        rule = widths(width)
        choice = None if width == 16 else calibrate_random(config, rule, dtype)
        weights = RandomWeights(rule, dtype, choice.dequantize_from if choice else 0)
        model = Transformer(weights, config)
        said = choice.said if choice else "dense"
        rows += [measure(model, width, said, size, top, steps, told) for size in sizes]
        del model, weights
        mx.clear_cache()
    return benched(dtype, top, rows)


def calibrate_random(config: TransformerConfig, rule: Widths, dtype: mx.Dtype) -> Calibration:
    """From how many rows on to dequantise, measured on one random block."""

    def probe(dequantize_from: int) -> Probe:
        made = RandomWeights(rule, dtype, dequantize_from)
        return run(SingleBlock(made, "single_transformer_blocks.1", config), config, dtype)

    return measured(probe)


def measure(
    model: Transformer,
    bits: int,
    linears: str,
    size: Size,
    top: float,
    steps: int = STEPS,
    told: Told | None = None,
) -> Row:
    """Time `steps` steps of text to image at `size`, without guidance."""
    mx.clear_cache()
    held = mx.get_active_memory()
    mx.reset_peak_memory()
    config, grid = model.config, (size[1] // TOKEN, size[0] // TOKEN)
    features = mx.random.normal((LENGTH, config.features), model.dtype, key=mx.random.key(0))
    recipe = replace(RECIPES["distilled"], steps=WARM_UP + steps)
    plan = prepare(model, recipe, grid, [features])
    mx.eval(plan.texts, plan.turn.cos, plan.turn.sin)
    states = denoise(model, plan, seeded(0, (plan.tokens, config.channels)))
    about = f"{bits} bits, {size[0]}x{size[1]}, {str(model.dtype).removeprefix('mlx.core.')}"
    heard = told and (lambda step: told(f"{about}: {step}"))
    taken = timed(((state.z, state.clean) for state in states), steps, heard)
    flops = step_flops(config, LENGTH, plan.tokens)
    return Row(bits, linears, size, LENGTH, taken, flops, top, held, mx.get_peak_memory())
