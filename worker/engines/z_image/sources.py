"""Where Z-Image's weights are published."""

from __future__ import annotations

from pixelkiln.worker.engines.checkpoints.sources import Source

SOURCES: dict[str, Source] = {
    "z-image-turbo": Source("Tongyi-MAI/Z-Image-Turbo", "main", "turbo"),
}
