"""Which of FLUX.2's weights are quantised.

Only the linear layers of blocks are, the transformer's and the text encoder's. What tells every block the
time and the text stays in bfloat16, as do tables, norms and the VAE: 0.39 GB of the transformer, with which
the first prediction is off by a quarter of what it is with all quantised. Mixed widths favour values and what
an MLP writes.
"""

from __future__ import annotations

import re

from pixelkiln.worker.engines.checkpoints.quantize import Widths

_TRANSFORMER = re.compile(
    r"(?:single_)?transformer_blocks\.(\d+)\.(?:attn|ff|ff_context)\.(?!norm)[\w.]+\.weight"
)
_TEXT = re.compile(r"model\.layers\.(\d+)\.(?:self_attn\.[qkvo]_proj|mlp\.(?:gate|up|down)_proj)\.weight")
_SENSITIVE = (
    *(".to_v.weight", ".add_v_proj.weight", ".linear_out.weight", ".attn.to_out.weight"),
    *(".v_proj.weight", ".down_proj.weight"),
)


def widths(bits: int, group_size: int = 64, mixed: bool = False) -> Widths:
    """The rule for both parts. Raises CheckpointError, see Widths."""
    return Widths(bits, _linear, _sensitive, group_size, mixed)


def _linear(name: str) -> bool:
    return any(pattern.fullmatch(name) for pattern in (_TRANSFORMER, _TEXT))


def _sensitive(name: str) -> bool:
    return _linear(name) and name.endswith(_SENSITIVE)
