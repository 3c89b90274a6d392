"""How long a step takes here, and how near that is to what the chip's matrix multiplication allows.

Steps run as in a render: cached prefix, sampler and finiteness check included.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

import mlx.core as mx
import numpy as np

from pixelkiln.worker.engines.checkpoints.calibrate import Calibration, choose, measured
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.checkpoints.quantize import Widths
from pixelkiln.worker.engines.checkpoints.random_weights import CONFIGS, RandomWeights
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.engine import NonFiniteError
from pixelkiln.worker.engines.hidream.config import PATCH_VALUES, Config, TextConfig
from pixelkiln.worker.engines.hidream.decoder import Layer
from pixelkiln.worker.engines.hidream.flops import CEILING_SIDE, ceiling, step_flops
from pixelkiln.worker.engines.hidream.model import Model, default_dtype
from pixelkiln.worker.engines.hidream.patches import grid
from pixelkiln.worker.engines.hidream.pipeline import Branch, Plan, denoise
from pixelkiln.worker.engines.hidream.positions import patch_positions, text_positions
from pixelkiln.worker.engines.hidream.recipes import FAMILIES
from pixelkiln.worker.engines.hidream.rope import rotation
from pixelkiln.worker.engines.mlx.noise import seeded

Size = tuple[int, int]  # width, height in pixels

PROMPT = 64  # tokens
WARM_UP = 2  # steps that are not counted
STEPS = 8


@dataclass(frozen=True, slots=True)
class Row:
    """The steps of one width and size."""

    bits: int
    linears: str  # how quantised weights were multiplied
    size: Size
    prompt: int  # tokens
    seconds: tuple[float, ...]  # of each step
    flops: int  # of one step, see step_flops
    ceiling: float  # FLOP/s of a large matrix product, in the same run
    weight_bytes: int  # held before the first step
    peak_bytes: int  # held at most in prefix and steps, weights included

    @property
    def step(self) -> float:
        """Median seconds of a step."""
        return median(self.seconds)

    @property
    def spread(self) -> float:
        """Slowest less fastest step, in parts of the median."""
        return (max(self.seconds) - min(self.seconds)) / self.step

    @property
    def achieved(self) -> float:
        """FLOP/s."""
        return self.flops / self.step

    @property
    def floor(self) -> float:
        """Seconds of a step at the ceiling."""
        return self.flops / self.ceiling

    @property
    def fraction(self) -> float:
        """Of the ceiling: floor over step."""
        return self.floor / self.step


@dataclass(frozen=True, slots=True)
class Bench:
    """One run on one machine."""

    device: str
    mlx: str
    arithmetic: str
    ceiling: float  # FLOP/s
    rows: tuple[Row, ...]

    def facts(self) -> dict[str, object]:
        """As JSON: seconds, bytes and FLOP/s."""
        derived = ("step", "spread", "achieved", "floor", "fraction")
        fields = Row.__dataclass_fields__
        rows = [{name: getattr(row, name) for name in (*fields, *derived)} for row in self.rows]
        return {
            "device": self.device,
            "mlx": self.mlx,
            "arithmetic": self.arithmetic,
            "ceiling": self.ceiling,
            "rows": rows,
        }


def bench(
    folder: Path,
    sizes: Sequence[Size],
    *,
    calibrations: Path | None = None,
    dtype: mx.Dtype | None = None,
    steps: int = STEPS,
    side: int = CEILING_SIDE,
) -> Bench:
    """Measure a checkpoint folder with its kiln.json; `calibrations` as for the engine.

    Raises CheckpointError.
    """
    config, manifest = Config.read(folder), Manifest.read(folder)
    dtype = dtype or default_dtype()
    top = ceiling(dtype, side)
    choice, said = choose(calibrations, folder, config, dtype, manifest.digest)
    model = Model(folder, config, dtype, Weights(folder, dtype, choice))
    rows = [measure(model, config.text, manifest.bits, said, size, top, steps) for size in sizes]
    return _bench(dtype, top, tuple(rows))


def bench_random(
    name: str,
    sizes: Sequence[Size],
    bits: Sequence[int],
    *,
    dtype: mx.Dtype | None = None,
    steps: int = STEPS,
    side: int = CEILING_SIDE,
) -> Bench:
    """Measure random weights of a config in `random_weights.CONFIGS`, one width after another."""
    config = CONFIGS[name]
    dtype = dtype or default_dtype()
    top = ceiling(dtype, side)
    rows: list[Row] = []
    for width in bits:
        widths = Widths(width, config.num_hidden_layers)
        choice = None if width == 16 else calibrate_random(config, widths, dtype)
        model = random_model(config, widths, dtype, choice.dequantize_from if choice else 0)
        said = choice.said if choice else "dense"
        rows += [measure(model, config, width, said, size, top, steps) for size in sizes]
        del model
        mx.clear_cache()
    return _bench(dtype, top, tuple(rows))


def random_model(config: TextConfig, widths: Widths, dtype: mx.Dtype, dequantize_from: int = 0) -> Model:
    """A model of random weights, without a vision tower."""
    whole = Config(config, {}, image_token_id=0, vision_start_token_id=1, vision_end_token_id=2)
    return Model(Path(), whole, dtype, RandomWeights(widths, dtype, dequantize_from))


def calibrate_random(config: TextConfig, widths: Widths, dtype: mx.Dtype) -> Calibration:
    """From how many rows on to dequantise, measured on one random layer."""

    def layer(dequantize_from: int) -> Layer:
        return Layer(RandomWeights(widths, dtype, dequantize_from), "model.language_model.layers.1", config)

    return measured(layer, config, dtype)


def measure(
    model: Model, config: TextConfig, bits: int, linears: str, size: Size, top: float, steps: int = STEPS
) -> Row:
    """Time `steps` steps of the dev recipe at `size` behind a prompt of PROMPT tokens."""
    mx.clear_cache()
    held = mx.get_active_memory()
    mx.reset_peak_memory()
    plan = _plan(model, config, size)
    states = denoise(model, plan, seeded(0, (plan.patches, PATCH_VALUES)))
    taken: list[float] = []
    for index in range(1, WARM_UP + steps + 1):
        started = time.perf_counter()
        state = next(states)
        finite = mx.isfinite(state.z).all() & mx.isfinite(state.clean).all()
        mx.eval(state.z, state.clean, finite)
        if not finite.item():
            raise NonFiniteError(index)
        taken.append(time.perf_counter() - started)
    peak = mx.get_peak_memory()
    flops = step_flops(config, PROMPT, plan.patches)
    return Row(bits, linears, size, PROMPT, tuple(taken[WARM_UP:]), flops, top, held, peak)


def _bench(dtype: mx.Dtype, top: float, rows: tuple[Row, ...]) -> Bench:
    device = str(mx.device_info()["device_name"])
    return Bench(device, version("mlx"), str(dtype).removeprefix("mlx.core."), top, rows)


def _plan(model: Model, config: TextConfig, size: Size) -> Plan:
    target, recipe = grid(*size), FAMILIES["dev"].text
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
