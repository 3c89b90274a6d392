"""Which of Z-Image's weights are quantised.

The linear layers of blocks are, and those of the text encoder's layers. Modulation, time, caption and final
layers, norms, pads, the token table and the VAE stay in bfloat16: quantised they broke pictures, and cost
little. Mixed widths favour every value and down projection, and the first and the last layer.
"""

from __future__ import annotations

import re

from pixelkiln.worker.engines.checkpoints.quantize import Widths
from pixelkiln.worker.engines.z_image.config import TEXT, TRANSFORMER, Config

_LINEAR = {
    TRANSFORMER: re.compile(
        r"(layers|noise_refiner|context_refiner)\.(\d+)\."
        r"(?:attention\.to_(?:[qkv]|out\.0)|feed_forward\.w[123])\.weight"
    ),
    TEXT: re.compile(
        r"model\.(layers)\.(\d+)\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)\.weight"
    ),
}
_SENSITIVE = (".to_v.weight", ".w2.weight", ".v_proj.weight", ".down_proj.weight")


def widths(part: str, config: Config, bits: int, group_size: int = 64, mixed: bool = False) -> Widths:
    """The rule for one part. Raises CheckpointError, see Widths."""
    pattern = _LINEAR[part]
    last = (config.text_layers if part == TEXT else config.transformer.layers) - 1

    def sensitive(name: str) -> bool:
        found = pattern.fullmatch(name)
        if found is None:
            return False
        return name.endswith(_SENSITIVE) or (found[1] == "layers" and int(found[2]) in (0, last))

    return Widths(
        bits, lambda name: pattern.fullmatch(name) is not None, sensitive, group_size, mixed, narrower=True
    )
