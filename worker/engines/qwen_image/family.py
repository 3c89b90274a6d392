"""Qwen-Image as a family."""

from __future__ import annotations

from pixelkiln.worker.engines.packaged import Packaged


class QwenImage(Packaged):
    """See worker.engines.family."""

    package = "qwen_image"
    engine = "QwenImageEngine"
    configs = ("release", "small")
    pipelines = (
        "QwenImageEditPlusPipeline",
        "QwenImagePipeline",
        "QwenImageEditPipeline",  # to be refused
    )
    fuses = True
