"""What a step costs in floating-point operations."""

from __future__ import annotations

from pixelkiln.worker.engines.flux2.config import TransformerConfig


def step_flops(config: TransformerConfig, prompt: int, target: int, references: int = 0) -> int:
    """Floating-point operations of one branch's step, a product and a sum being two.

    With n = prompt + target + references tokens and d = width: a block of either kind has 4 · d² + 3 · d ·
    inner weights for each token, and 4 · n² · d for attention. What enters and leaves adds its matrices over
    the target; what is embedded once is not counted.
    """
    n, width = prompt + target + references, config.width
    block = 2 * n * width * (4 * width + 3 * config.inner) + 4 * n * n * width
    ends = 2 * width * config.channels * 2 * target
    return (config.double_layers + config.single_layers) * block + ends
