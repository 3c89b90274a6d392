"""Keys and values of prompts that ran already, within a bound in bytes."""

from __future__ import annotations

from pixelkiln.worker.engines.mlx.features import Recent
from pixelkiln.worker.engines.mlx.qwen3 import KeysValues

Prefix = list[KeysValues]
PrefixCache = Recent[Prefix]
