"""What can be told of a finished picture without looking at it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelkiln.jobs.sidecar import Checks
from pixelkiln.worker.engines.engine import Pixels

Luma = NDArray[np.floating[Any]]  # (height, width), 0 to 255

BLACK = 4.0  # luma mean below which a picture is as good as black
FLAT = 2.0  # luma spread below which it shows nothing
DARK = 40.0  # luma mean below which it is worth a look


def check(pixels: Pixels, grid: int) -> Checks:
    """Luma statistics of `pixels`, (height, width, 3), their seam score on the model's grid, and warnings."""
    luma: Luma = pixels.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32)  # Rec. 709
    mean, spread = float(luma.mean()), float(luma.std())
    warnings = []
    if mean < BLACK:
        warnings.append(f"black: mean luma {mean:.1f} of 255")
    elif mean < DARK:
        warnings.append(f"dark: mean luma {mean:.1f} of 255")
    if spread < FLAT:
        warnings.append(f"flat: luma spread {spread:.1f} of 255")
    return Checks(
        luma_mean=round(mean, 3),
        luma_spread=round(spread, 3),
        seam_score=round(seam_score(luma, grid), 4),
        warnings=warnings,
    )


def seam_score(luma: Luma, grid: int) -> float:
    """Mean luma step across every `grid`-th pixel over the mean step beside them; 1 where no seam shows."""
    across, beside = [], []
    for axis in (0, 1):
        steps = np.abs(np.diff(luma, axis=axis)).mean(axis=1 - axis)
        seams = np.arange(grid - 1, steps.size, grid)
        across.append(steps[seams])
        beside += [steps[seams - 1], steps[np.minimum(seams + 1, steps.size - 1)]]
    jumps, others = np.concatenate(across), np.concatenate(beside)
    quiet = float(others.mean()) if jumps.size else 0.0  # no jumps: one cell of the grid is the whole picture
    return float(jumps.mean()) / quiet if quiet else 1.0
