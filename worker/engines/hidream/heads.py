"""What HiDream-O1 adds to the decoder: the timestep's embedding, pixels in and pixels out."""

from __future__ import annotations

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.hidream.config import PATCH_VALUES
from pixelkiln.worker.engines.mlx.timesteps import FREQUENCIES, sinusoid


class TimestepEmbedder:
    """Embeds t = 1 − timestep / 1000."""

    def __init__(self, weights: Weights, hidden: int, name: str = "model.t_embedder1.mlp") -> None:
        self.first = weights.linear(f"{name}.0", 2 * FREQUENCIES, hidden, bias=True)
        self.second = weights.linear(f"{name}.2", hidden, hidden, bias=True)
        self.dtype = weights.dtype

    def __call__(self, timesteps: mx.array) -> mx.array:
        """(n,) timesteps in 0 … 1000 to (n, hidden)."""
        t = 1.0 - timesteps.astype(mx.float32) / 1000.0
        x = self.first(sinusoid(t * 1000.0).astype(self.dtype))
        return self.second(x * mx.sigmoid(x))


class PixelsIn:
    """Embeds patches through a bottleneck of a quarter of the hidden size."""

    def __init__(self, weights: Weights, hidden: int, name: str = "model.x_embedder") -> None:
        self.proj1 = weights.linear(f"{name}.proj1", PATCH_VALUES, hidden // 4)
        self.proj2 = weights.linear(f"{name}.proj2", hidden // 4, hidden, bias=True)
        self.dtype = weights.dtype

    def __call__(self, patches: mx.array) -> mx.array:
        """(n, 3072) to (n, hidden)."""
        return self.proj2(self.proj1(patches.astype(self.dtype)))


class PixelsOut:
    """Reads clean patches off the decoder's normalised hidden states."""

    def __init__(self, weights: Weights, hidden: int, name: str = "model.final_layer2.linear") -> None:
        self.linear = weights.linear(name, hidden, PATCH_VALUES, bias=True)

    def __call__(self, x: mx.array) -> mx.array:
        """(n, hidden) to (n, 3072) float32."""
        return self.linear(x).astype(mx.float32)
