"""Z-Image as a family."""

from __future__ import annotations

from pixelkiln.worker.engines.packaged import Packaged


class ZImage(Packaged):
    """See worker.engines.family."""

    package = "z_image"
    engine = "ZImageEngine"
    configs = ("release", "small")
    pipelines = ("ZImagePipeline",)
