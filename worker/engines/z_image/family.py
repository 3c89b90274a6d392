"""Z-Image as a family."""

from __future__ import annotations

from pixelkiln.worker.engines.packaged import Packaged
from pixelkiln.worker.engines.z_image.configs import CONFIGS


class ZImage(Packaged):
    """See worker.engines.family."""

    package = "z_image"
    engine = "ZImageEngine"
    configs = tuple(CONFIGS)
    pipelines = ("ZImagePipeline",)
