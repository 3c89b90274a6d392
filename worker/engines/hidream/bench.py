"""Times steps as a render runs them: cached prefix, sampler and finiteness check included."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.checkpoints.calibrate import Calibration, Probe, measured
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.checkpoints.quantize import Widths
from pixelkiln.worker.engines.checkpoints.random_weights import RandomWeights
from pixelkiln.worker.engines.engine import NonFiniteError
from pixelkiln.worker.engines.family import Bench, Picture, Row, Share, Size, Told
from pixelkiln.worker.engines.hidream.calibrate import choose, run
from pixelkiln.worker.engines.hidream.checkpoint import weights
from pixelkiln.worker.engines.hidream.config import Config, TextConfig
from pixelkiln.worker.engines.hidream.configs import CONFIGS
from pixelkiln.worker.engines.hidream.flops import step_flops
from pixelkiln.worker.engines.hidream.model import Model
from pixelkiln.worker.engines.hidream.patches import grid, to_pixels
from pixelkiln.worker.engines.hidream.pipeline import Branch, Plan, denoise, noises
from pixelkiln.worker.engines.hidream.positions import patch_positions, text_positions
from pixelkiln.worker.engines.hidream.quantize import widths
from pixelkiln.worker.engines.hidream.recipes import RECIPES, Recipe
from pixelkiln.worker.engines.hidream.rope import rotation
from pixelkiln.worker.engines.mlx.arithmetic import default_dtype
from pixelkiln.worker.engines.mlx.qwen3 import Layer
from pixelkiln.worker.engines.mlx.timing import STEPS, benched, ceiling, timed

PROMPT = 64  # tokens
RECIPE = RECIPES["dev"].text
PICTURES = 3  # that are timed alike
PATIENCE = 20  # seconds: more than these take are not rendered


def bench(
    folder: Path,
    sizes: Sequence[Size],
    *,
    calibrations: Path | None = None,
    dtype: mx.Dtype | None = None,
    steps: int = STEPS,
    side: int | None = None,
    told: Told | None = None,
    shares: Sequence[Share] = (),
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
    pictures = [picture(model, manifest.bits, size, share, told) for size in sizes for share in shares]
    return benched(dtype, top, rows, pictures)


def bench_random(
    name: str,
    sizes: Sequence[Size],
    bits: Sequence[int],
    *,
    dtype: mx.Dtype | None = None,
    steps: int = STEPS,
    side: int | None = None,
    told: Told | None = None,
    shares: Sequence[Share] = (),
) -> Bench:
    """Measure random weights of a config in CONFIGS, one width after another."""
    config = CONFIGS[name]
    dtype = dtype or default_dtype()
    top = ceiling(dtype, side)
    rows, pictures = list[Row](), list[Picture]()
    for width in bits:
        rule = widths(width, config.num_hidden_layers)
        choice = None if width == 16 else calibrate_random(config, rule, dtype)
        model = random_model(config, rule, dtype, choice.dequantize_from if choice else 0)
        said = choice.said if choice else "dense"
        rows += [measure(model, config, width, said, size, top, steps, told) for size in sizes]
        pictures += [picture(model, width, size, share, told) for size in sizes for share in shares]
        del model
        mx.clear_cache()
    return benched(dtype, top, rows, pictures)


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
    states = denoise(model, plan, *noises(plan, 0))
    about = _about(model, bits, size)
    heard = told and (lambda step: told(f"{about}: {step}"))
    taken = timed(((state.z, state.clean) for state in states), steps, heard)
    peak = mx.get_peak_memory()
    flops = step_flops(config, PROMPT, plan.patches)
    return Row(bits, linears, size, PROMPT, taken, flops, top, held, peak)


def picture(model: Model, bits: int, size: Size, share: Share, told: Told | None = None) -> Picture:
    """Time whole pictures by the dev recipe in so many steps, the first of them coarse.

    A prompt of PROMPT tokens, its prefix included, to pixels; behind one in few steps, which is not counted.
    """
    steps, coarse = share
    few = min(steps, 4)

    def run(steps: int, coarse: int) -> float:
        if told:
            told(f"{_about(model, bits, size)}: a picture in {steps} steps, {coarse} coarse")
        started = time.perf_counter()
        plan = _plan(model, model.config.text, size, RECIPE.with_steps(steps), coarse)
        for number, state in enumerate(denoise(model, plan, *noises(plan, 0)), 1):
            finite = mx.isfinite(state.z).all() & mx.isfinite(state.clean).all()
            if not finite.item():
                raise NonFiniteError(number)
        to_pixels(state.z, *plan.grid)
        return time.perf_counter() - started

    run(few, min(coarse, few - 1))
    taken = [run(steps, coarse)]
    while len(taken) < PICTURES and sum(taken) < PATIENCE:
        taken.append(run(steps, coarse))
    return Picture(bits, size, steps, coarse, tuple(taken))


def _about(model: Model, bits: int, size: Size) -> str:
    return f"{bits} bits, {size[0]}x{size[1]}, {str(model.dtype).removeprefix('mlx.core.')}"


def _plan(
    model: Model, config: TextConfig, size: Size, recipe: Recipe = RECIPE, coarse_steps: int = 0
) -> Plan:
    target = grid(*size)
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
    plan = Plan(grid=target, recipe=recipe, branches=(branch,), times=times, references=None)
    return plan.with_coarse(coarse_steps, config)
