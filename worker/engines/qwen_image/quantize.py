"""Which of Qwen-Image's weights are quantised.

The transformer's blocks and the language model's layers are; what goes in and comes out, norms, the token
table, the vision tower and the autoencoder stay in bfloat16.
"""

from __future__ import annotations

import re

from pixelkiln.worker.engines.checkpoints.quantize import Widths

LINEAR = re.compile(
    r"transformer_blocks\.(\d+)\.(?:attn\.(?:to_[qkv]|to_out\.0|add_[qkv]_proj|to_add_out)"
    r"|(?:img|txt)_(?:mlp\.net\.(?:0\.proj|2)|mod\.1))\.weight"
)
TEXT_LINEAR = re.compile(
    r"model\.layers\.(\d+)\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)\.weight"
)


def widths(
    linear: re.Pattern[str], bits: int, layers: int, group_size: int = 64, mixed: bool = False
) -> Widths:
    """The rule for a part of so many blocks or layers: `mixed` widens the first and the last.

    Raises CheckpointError, see Widths.
    """

    def sensitive(name: str) -> bool:
        found = linear.fullmatch(name)
        return found is not None and int(found[1]) in (0, layers - 1)

    return Widths(
        bits, lambda name: linear.fullmatch(name) is not None, sensitive, group_size, mixed, narrower=True
    )
