"""What reference pictures add to a render: their latents, as they stand."""

from __future__ import annotations

from collections.abc import Sequence

import mlx.core as mx
from PIL import Image

from pixelkiln.worker.engines.flux2.latents import Vae
from pixelkiln.worker.engines.flux2.pipeline import References


def encoded(vae: Vae, pictures: Sequence[Image.Image]) -> References:
    """Encode prepared references, one after another."""
    latents, grids = zip(*(vae.encode(picture) for picture in pictures), strict=True)
    return References(mx.concatenate(list(latents)), tuple(grids))
