"""Where Qwen-Image's weights are published, at a revision that is known to be what it says."""

from __future__ import annotations

from pixelkiln.worker.engines.checkpoints.sources import Source

# The authors' own releases, as the model's README names them.
SOURCES: dict[str, Source] = {
    "qwen-image": Source("Qwen/Qwen-Image", "main", "draw"),
    "qwen-image-edit-2511": Source("Qwen/Qwen-Image-Edit-2511", "main", "edit"),
    "qwen-image-edit-2509": Source("Qwen/Qwen-Image-Edit-2509", "main", "edit"),
}
