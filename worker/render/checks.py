"""What can be told of a finished picture without looking at it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelkiln.jobs.catalogue import GRID
from pixelkiln.jobs.sidecar import Checks
from pixelkiln.worker.engines.engine import Pixels

Luma = NDArray[np.floating[Any]]  # (height, width), 0 to 255

BLACK = 4.0  # luma mean below which a picture is as good as black
FLAT = 2.0  # luma spread below which it shows nothing
DARK = 40.0  # luma mean below which it is worth a look


def check(pixels: Pixels) -> Checks:
    """Luma statistics and the seam score of `pixels`, (height, width, 3), with warnings."""
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
        seam_score=round(seam_score(luma), 4),
        warnings=warnings,
    )


def seam_score(luma: Luma) -> float:
    """Mean luma step across patch boundaries over the mean step beside them; 1 where no seam shows."""
    across, beside = [], []
    for axis in (0, 1):
        steps = np.abs(np.diff(luma, axis=axis)).mean(axis=1 - axis)
        seams = np.arange(GRID - 1, steps.size, GRID)
        across.append(steps[seams])
        beside += [steps[seams - 1], steps[np.minimum(seams + 1, steps.size - 1)]]
    quiet = float(np.concatenate(beside).mean())
    return float(np.concatenate(across).mean()) / quiet if quiet else 1.0
