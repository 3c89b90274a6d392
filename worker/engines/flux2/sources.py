"""Where FLUX.2-klein's weights are published."""

from __future__ import annotations

from pixelkiln.worker.engines.checkpoints.sources import Source

# The authors' own releases; a pull pins the commit that `main` stands for on that day.
SOURCES: dict[str, Source] = {
    "flux2-klein-4b": Source("black-forest-labs/FLUX.2-klein-4B", "main", "distilled"),
    "flux2-klein-base-4b": Source("black-forest-labs/FLUX.2-klein-base-4B", "main", "base"),
}
