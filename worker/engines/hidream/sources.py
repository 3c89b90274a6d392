"""Where HiDream-O1's weights are published, at a revision that is known to be what it says."""

from __future__ import annotations

from pixelkiln.worker.engines.checkpoints.sources import Source

# The authors' own releases, as the model's README names them.
SOURCES: dict[str, Source] = {
    "hidream-o1-dev": Source(
        "HiDream-ai/HiDream-O1-Image-Dev", "c0bada0e15c54a9f96a6d1ecc35575b32bc21544", "dev"
    ),
    "hidream-o1-dev-2604": Source(
        "HiDream-ai/HiDream-O1-Image-Dev-2604", "b6acc2fe452b3120430620dc4354fa442ee081ea", "dev-2604"
    ),
    "hidream-o1-full": Source(
        "HiDream-ai/HiDream-O1-Image", "0b0901d99f200389e138c61946af1185f5f49a13", "full"
    ),
}
