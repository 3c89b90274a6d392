"""FLUX.2-klein as a family."""

from __future__ import annotations

from pixelkiln.worker.engines.packaged import Packaged


class Flux2(Packaged):
    """See worker.engines.family."""

    package = "flux2"
    engine = "Flux2Engine"
    configs = ("release", "small")
    pipelines = ("Flux2KleinPipeline",)
