"""Times steps as a render runs them: features and vectors at hand, sampler and finiteness check included."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.calibrate import Calibration, Probe, measured
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.checkpoints.quantize import Widths
from pixelkiln.worker.engines.checkpoints.random_weights import RandomWeights
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.family import Bench, Row, Size, Told
from pixelkiln.worker.engines.mlx.arithmetic import default_dtype
from pixelkiln.worker.engines.mlx.timing import STEPS, WARM_UP, benched, ceiling, timed
from pixelkiln.worker.engines.qwen_image import checkpoint
from pixelkiln.worker.engines.qwen_image.calibrate import BLOCK, choose, run
from pixelkiln.worker.engines.qwen_image.config import Config, TransformerConfig
from pixelkiln.worker.engines.qwen_image.configs import CONFIGS
from pixelkiln.worker.engines.qwen_image.flops import step_flops
from pixelkiln.worker.engines.qwen_image.modulation import Opened, table
from pixelkiln.worker.engines.qwen_image.packing import grid
from pixelkiln.worker.engines.qwen_image.pipeline import denoise, prepare
from pixelkiln.worker.engines.qwen_image.quantize import LINEAR, widths
from pixelkiln.worker.engines.qwen_image.transformer import IMAGE, Stream, Transformer

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
    stored = checkpoint.tensors(folder, checkpoint.TRANSFORMER)
    choice, said = choose(calibrations, stored, config.transformer, dtype, manifest.digest)
    opened = partial(Weights, folder, stored, dtype, choice)
    model = checkpoint.transformer(config, opened())
    rows = [measure(model, opened, manifest.bits, said, size, top, steps, told) for size in sizes]
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
        rule = widths(LINEAR, width, config.layers)
        choice = None if width == 16 else calibrate_random(config, rule, dtype)
        opened = partial(RandomWeights, rule, dtype, choice.dequantize_from if choice else 0)
        model = Transformer(opened(), config)
        said = choice.said if choice else "dense"
        rows += [measure(model, opened, width, said, size, top, steps, told) for size in sizes]
        del model
        mx.clear_cache()
    return benched(dtype, top, rows)


def calibrate_random(config: TransformerConfig, rule: Widths, dtype: mx.Dtype) -> Calibration:
    """From how many rows on to dequantise, measured on one random MLP."""

    def probe(dequantize_from: int) -> Probe:
        made = RandomWeights(rule, dtype, dequantize_from)
        return run(Stream(made, BLOCK, config, IMAGE, "img_mlp"), config, dtype)

    return measured(probe)


def measure(
    model: Transformer,
    opened: Opened,
    bits: int,
    linears: str,
    size: Size,
    top: float,
    steps: int = STEPS,
    told: Told | None = None,
) -> Row:
    """Time `steps` steps of text to image without guidance at `size`, behind a prompt of PROMPT tokens."""
    mx.clear_cache()
    config, target = model.config, grid(*size)
    held = mx.get_active_memory()
    mx.reset_peak_memory()
    count = WARM_UP + steps
    sigmas = tuple(1 - i / count for i in range(count + 1))
    features = mx.random.normal((PROMPT, config.context), model.dtype, key=mx.random.key(0))
    plan = prepare(model, [features], target, (), sigmas, 1.0, table(opened, config, sigmas[:-1]))
    tokens = target[0] * target[1]
    z = mx.random.normal((tokens, config.channels), key=mx.random.key(1))
    mx.eval(z, plan.branches[0].text)
    states = denoise(model, plan, z)
    about = f"{bits} bits, {size[0]}x{size[1]}, {str(model.dtype).removeprefix('mlx.core.')}"
    heard = told and (lambda step: told(f"{about}: {step}"))
    taken = timed(((state.z, state.clean) for state in states), steps, heard)
    flops = step_flops(config, PROMPT, tokens)
    return Row(bits, linears, size, PROMPT, taken, flops, top, held, mx.get_peak_memory())
