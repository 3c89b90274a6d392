"""What counting a render's memory needs to know of MLX and its devices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.stored import FLOATS, Stored


@dataclass(frozen=True, slots=True)
class Backend:
    """What the device adds: an unfused attention's score matrix, and buffers not yet given back.

    A GPU frees an operation's buffers when its command buffer ends: as many as were measured may wait.
    """

    fused: bool
    waiting: int  # widest buffers that may be waiting

    @classmethod
    def current(cls) -> Backend:
        """Of MLX's default device."""
        return cls(True, 16) if mx.default_device() == mx.Device(mx.gpu) else cls(False, 4)


def weight_bytes(stored: Iterable[Stored], itemsize: int) -> int:
    """Bytes of tensors once in memory, floating-point ones at `itemsize`."""
    return sum(prod(one.shape) * itemsize if one.dtype in FLOATS else one.size for one in stored)
