"""Which of HiDream-O1's weights are quantised.

Only the decoder's linear layers are: heads, embeddings, norms and the vision tower stay in bfloat16. Mixed
widths favour what the picture is most sensitive to: every value and down projection, and all linear layers of
the first and the last decoder layer.
"""

from __future__ import annotations

import re

from pixelkiln.worker.engines.checkpoints.quantize import Widths

_LINEAR = re.compile(
    r"model\.language_model\.layers\.(\d+)\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)\.weight"
)
_SENSITIVE = (".v_proj.weight", ".down_proj.weight")


def widths(bits: int, layers: int, group_size: int = 64, mixed: bool = False) -> Widths:
    """The rule for a decoder of so many layers. Raises CheckpointError, see Widths."""

    def sensitive(name: str) -> bool:
        found = _LINEAR.fullmatch(name)
        return found is not None and (int(found[1]) in (0, layers - 1) or name.endswith(_SENSITIVE))

    return Widths(bits, lambda name: _LINEAR.fullmatch(name) is not None, sensitive, group_size, mixed)
