"""From conditions to latents: a render's constants once, then each denoising step.

Arrays are yielded unevaluated: the caller evaluates, measures, reports and, by closing the generator,
cancels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mlx.core as mx

from pixelkiln.worker.engines.mlx.rotary import Pairs
from pixelkiln.worker.engines.qwen_image.modulation import Table
from pixelkiln.worker.engines.qwen_image.packing import Grid
from pixelkiln.worker.engines.qwen_image.positions import rotation
from pixelkiln.worker.engines.qwen_image.transformer import Transformer


@dataclass(frozen=True, slots=True)
class Branch:
    """One prompt's side of a step."""

    text: mx.array  # (tokens, width)
    rotation: Pairs


@dataclass(frozen=True, slots=True)
class Plan:
    """A render's constants."""

    grid: Grid  # the target's rows and columns of tokens
    sigmas: tuple[float, ...]  # one more than steps
    guidance: float
    branches: tuple[Branch, ...]  # the prompt's, then the negative one's where there is guidance
    references: mx.array | None  # (reference tokens, width)
    table: Table


@dataclass(frozen=True, slots=True)
class State:
    """After a step: the state `z` and the prediction `clean` (x̂0) behind it, (tokens, 64) float32."""

    z: mx.array
    clean: mx.array


def prepare(
    model: Transformer,
    features: Sequence[mx.array],
    grid: Grid,
    references: Sequence[tuple[mx.array, Grid]],
    sigmas: tuple[float, ...],
    guidance: float,
    table: Table,
) -> Plan:
    """All that no step changes.

    `features` are of the prompt, and of the negative one for a second branch; `references` packed latents.
    """
    grids = [grid, *(one for _, one in references)]
    branches = tuple(Branch(model.context(one), rotation(model.config, len(one), grids)) for one in features)
    tokens = mx.concatenate([model.tokens(latents) for latents, _ in references]) if references else None
    return Plan(grid, sigmas, guidance, branches, tokens, table)


def predict(model: Transformer, plan: Plan, branch: Branch, z: mx.array, i: int) -> mx.array:
    """The velocity at step i (from 0), (tokens, 64)."""
    return model.predict(model.tokens(z), plan.references, branch.text, branch.rotation, plan.table.at(i))


def guided(conditional: mx.array, unconditional: mx.array, scale: float) -> mx.array:
    """Guidance with each token's length brought back to the prompt's own."""
    moved = unconditional + scale * (conditional - unconditional)
    lengths = (mx.linalg.norm(one, axis=-1, keepdims=True) for one in (conditional, moved))
    wanted, found = lengths
    return moved * (wanted / found)


def denoise(model: Transformer, plan: Plan, z: mx.array) -> Iterator[State]:
    """Yield the state after every step, from packed noise. Outside the model all is float32."""
    for i, (sigma, following) in enumerate(zip(plan.sigmas, plan.sigmas[1:], strict=False)):
        velocities = [predict(model, plan, branch, z, i) for branch in plan.branches]
        velocity = velocities[0]
        if len(velocities) > 1:
            velocity = guided(velocity, velocities[1], plan.guidance)
        clean = z - sigma * velocity
        z = z + (following - sigma) * velocity
        yield State(z, clean)
