"""Times steps as a render runs them: cached prefix, sampler and finiteness check included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.checkpoints.calibrate import Calibration, Probe, measured
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.checkpoints.quantize import Widths
from pixelkiln.worker.engines.checkpoints.random_weights import RandomWeights
from pixelkiln.worker.engines.family import Bench, Row, Size, Told
from pixelkiln.worker.engines.hidream.calibrate import choose, run
from pixelkiln.worker.engines.hidream.checkpoint import weights
from pixelkiln.worker.engines.hidream.config import PATCH_VALUES, Config, TextConfig
from pixelkiln.worker.engines.hidream.configs import CONFIGS
from pixelkiln.worker.engines.hidream.flops import step_flops
from pixelkiln.worker.engines.hidream.model import Model
from pixelkiln.worker.engines.hidream.patches import grid
from pixelkiln.worker.engines.hidream.pipeline import Branch, Plan, denoise
from pixelkiln.worker.engines.hidream.positions import patch_positions, text_positions
from pixelkiln.worker.engines.hidream.quantize import widths
from pixelkiln.worker.engines.hidream.recipes import RECIPES
from pixelkiln.worker.engines.hidream.rope import rotation
from pixelkiln.worker.engines.mlx.arithmetic import default_dtype
from pixelkiln.worker.engines.mlx.noise import seeded
from pixelkiln.worker.engines.mlx.qwen3 import Layer
from pixelkiln.worker.engines.mlx.timing import STEPS, benched, ceiling, timed

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
    choice, said = choose(calibrations, folder, config, dtype, manifest.digest)
    model = Model(folder, config, dtype, weights(folder, dtype, choice))
    rows = [measure(model, config.text, manifest.bits, said, size, top, steps, told) for size in sizes]
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
        rule = widths(width, config.num_hidden_layers)
        choice = None if width == 16 else calibrate_random(config, rule, dtype)
        model = random_model(config, rule, dtype, choice.dequantize_from if choice else 0)
        said = choice.said if choice else "dense"
        rows += [measure(model, config, width, said, size, top, steps, told) for size in sizes]
        del model
        mx.clear_cache()
    return benched(dtype, top, rows)


def random_model(config: TextConfig, rule: Widths, dtype: mx.Dtype, dequantize_from: int = 0) -> Model:
    """A model of random weights, without a vision tower."""
    whole = Config(config, {}, image_token_id=0, vision_start_token_id=1, vision_end_token_id=2)
    return Model(Path(), whole, dtype, RandomWeights(rule, dtype, dequantize_from))


def calibrate_random(config: TextConfig, rule: Widths, dtype: mx.Dtype) -> Calibration:
    """From how many rows on to dequantise, measured on one random layer."""

    def probe(dequantize_from: int) -> Probe:
        made = RandomWeights(rule, dtype, dequantize_from)
        return run(Layer(made, "model.language_model.layers.1", config), config, dtype)

    return measured(probe)


def measure(
    model: Model,
    config: TextConfig,
    bits: int,
    linears: str,
    size: Size,
    top: float,
    steps: int = STEPS,
    told: Told | None = None,
) -> Row:
    """Time `steps` steps of the dev recipe at `size` behind a prompt of PROMPT tokens."""
    mx.clear_cache()
    held = mx.get_active_memory()
    mx.reset_peak_memory()
    plan = _plan(model, config, size)
    states = denoise(model, plan, seeded(0, (plan.patches, PATCH_VALUES)))
    about = f"{bits} bits, {size[0]}x{size[1]}, {str(model.dtype).removeprefix('mlx.core.')}"
    heard = told and (lambda step: told(f"{about}: {step}"))
    taken = timed(((state.z, state.clean) for state in states), steps, heard)
    peak = mx.get_peak_memory()
    flops = step_flops(config, PROMPT, plan.patches)
    return Row(bits, linears, size, PROMPT, taken, flops, top, held, peak)


def _plan(model: Model, config: TextConfig, size: Size) -> Plan:
    target, recipe = grid(*size), RECIPES["dev"].text
    ids = tuple(int(one) for one in np.random.default_rng(0).integers(3, config.vocab_size, PROMPT + 1))
    text, patches = text_positions(ids, model.config.image_token_id), patch_positions(target)
    x = model.decoder.embed_tokens(mx.array(ids[:PROMPT])).astype(model.dtype)
    branch = Branch(
        ids=ids,
        positions=np.concatenate([text, patches], axis=1),
        prefix=model.decoder.prefix(x, rotation(text[:, :PROMPT], config)),
        rotation=rotation(np.concatenate([text[:, PROMPT:], patches], axis=1), config),
    )
    times = model.timestep(mx.array(recipe.schedule().timesteps, mx.float32))
    mx.eval(branch.prefix, times)
    return Plan(grid=target, recipe=recipe, branches=(branch,), times=times, references=None)
