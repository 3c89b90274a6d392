from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from pixelkiln.worker.engines.hidream.schedulers import Flash, UniPC, euler_schedule, unipc_schedule
from pixelkiln.worker.engines.mlx.schedulers import FlowMatch, shifted


def test_recorded_unipc_schedule(golden: Path) -> None:
    record = mx.load(str(golden / "full_t2i.safetensors"))
    assert isinstance(record, dict)
    schedule = unipc_schedule(50, 3.0)
    assert list(schedule.timesteps) == record["timesteps"].tolist()
    np.testing.assert_allclose(schedule.sigmas, record["sigmas"], atol=1e-7)


@pytest.mark.parametrize("steps", [3, 9, 27, 37])
def test_whole_timesteps_are_not_cut_by_rounding(steps: int) -> None:
    assert unipc_schedule(steps, 1.0).timesteps == tuple(999 * (steps - i) // steps for i in range(steps))


def test_euler_runs_from_one_to_the_smallest_sigma() -> None:
    plain, shift = euler_schedule(5, 1.0), euler_schedule(5, 3.0)
    np.testing.assert_allclose(plain.sigmas, [1.0, 0.75025, 0.5005, 0.25075, 0.001, 0.0])
    assert plain.timesteps[1] == pytest.approx(750.25)
    assert shift.sigmas[0] == 1.0
    assert shift.sigmas[-2] == pytest.approx(shifted(shifted(0.001, 3.0), 3.0))


def test_flash_clips_by_the_noise_s_own_spread() -> None:
    noise = mx.concatenate([mx.zeros((1, 99)), mx.full((1, 1), 10.0)], axis=1)
    output, z = mx.zeros((1, 100)), mx.ones((1, 100))
    flash = Flash((0.9, 0.5, 0.0), (2.0, 3.0), clip=2.5)
    spread = float(np.std(np.array(noise), ddof=1))
    stepped = np.array(flash.step(0, output, z, noise))
    assert stepped[0, 0] == pytest.approx(0.5)
    assert stepped[0, -1] == pytest.approx(0.5 * 2.0 * 2.5 * spread + 0.5)
    unclipped = Flash((0.9, 0.5, 0.0), (2.0, 3.0), clip=0.0).step(0, output, z, noise)
    assert np.array(unclipped)[0, -1] == pytest.approx(0.5 * 2.0 * 10 + 0.5)


def worst(steps: int, order_one: bool = False) -> float:
    """The error at σ = 0.05 of integrating an exact velocity field, x̂0(σ) = cos 3σ."""
    sigmas = (*np.linspace(0.95, 0.05, steps + 1).tolist(), 0.0)
    fine = (*np.linspace(0.95, 0.05, 4001).tolist(), 0.0)

    def run(grid: tuple[float, ...]) -> float:
        sampler: UniPC | FlowMatch = FlowMatch(grid) if order_one else UniPC(grid)
        z = mx.full((1,), 3.0)
        for i, sigma in enumerate(grid[:-2]):
            z = sampler.step(i, (z - np.cos(3 * sigma)) / sigma, z, None)
        return float(np.array(z)[0])

    return abs(run(sigmas) - run(fine))


def test_unipc_is_of_higher_order_than_euler() -> None:
    assert worst(40) < worst(40, order_one=True) / 5
    assert worst(40) < worst(20) / 3  # halving the step quarters the error
