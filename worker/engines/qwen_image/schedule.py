"""The noise levels of a render, all float32 as the reference computes them."""

from __future__ import annotations

import math

import numpy as np

from pixelkiln.jobs.errors import SpecError
from pixelkiln.worker.engines.qwen_image.config import ScheduleConfig

LEAST_STEPS = 2  # stretching one level to the last divides zero by zero

# The Lightning files' own schedule: a constant shift of 3, and the last level is as it falls.
LIGHTNING_SHIFT = math.log(3)


def lightning(config: ScheduleConfig) -> ScheduleConfig:
    """The schedule that Lightning's LoRAs were trained on."""
    return ScheduleConfig(LIGHTNING_SHIFT, LIGHTNING_SHIFT, config.base_tokens, config.max_tokens, None)


def sigmas(config: ScheduleConfig, steps: int, tokens: int) -> tuple[float, ...]:
    """Noise levels from 1 down, one for each step, and a 0 behind them; `tokens` are the target's.

    Levels 1 … 1/N are shifted by e^μ / (e^μ + 1/σ − 1) with μ on a line through the config's two lengths,
    and stretched so that the last is `terminal`. Raises SpecError for fewer than two steps.
    """
    if steps < LEAST_STEPS:
        raise SpecError("steps", f"must be at least {LEAST_STEPS}, got {steps}")
    slope = (config.max_shift - config.base_shift) / (config.max_tokens - config.base_tokens)
    shift = math.exp(tokens * slope + (config.base_shift - slope * config.base_tokens))
    levels = np.linspace(1.0, 1 / steps, steps).astype(np.float32)
    levels = (shift / (shift + (1 / levels - 1))).astype(np.float32)
    if config.terminal is not None:
        rest = 1 - levels
        levels = (1 - rest / (rest[-1] / (1 - config.terminal))).astype(np.float32)
    return (*map(float, levels), 0.0)
