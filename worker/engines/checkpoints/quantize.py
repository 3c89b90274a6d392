"""Which weights are quantised, to how many bits, and how."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import mlx.core as mx

from pixelkiln.worker.engines.checkpoints.stored import Stored
from pixelkiln.worker.engines.engine import CheckpointError

WIDTHS = (4, 5, 6, 8)
GROUP_SIZES = (32, 64, 128)

_WIDER = {4: 5, 5: 6, 6: 8}


@dataclass(frozen=True, slots=True)
class Widths:
    """A rule: the bits of each tensor by its released name. What is not `linear` stays in bfloat16."""

    bits: int  # 16 quantises nothing
    linear: Callable[[str], bool]  # whether a tensor of that name is quantised
    sensitive: Callable[[str], bool]  # whether `mixed` gives it the next wider width
    group_size: int = 64
    mixed: bool = False
    narrower: bool = False  # whether a matrix that groups of `group_size` do not divide has smaller ones

    def __post_init__(self) -> None:
        """Raise CheckpointError for a width or a group size that is none of MLX's."""
        if self.bits not in (*WIDTHS, 16):
            raise CheckpointError(f"{self.bits} bits: use one of 4, 5, 6, 8, 16")
        if self.group_size not in GROUP_SIZES:
            raise CheckpointError(f"groups of {self.group_size}: use one of 32, 64, 128")
        if self.mixed and self.bits not in _WIDER:
            raise CheckpointError(f"mixed widths need 4, 5 or 6 bits, not {self.bits}")

    def of(self, name: str) -> int | None:
        """The bits of one tensor; None: it stays as it is."""
        if self.bits == 16 or not self.linear(name):
            return None
        return _WIDER[self.bits] if self.mixed and self.sensitive(name) else self.bits

    def group(self, columns: int) -> int | None:
        """How many of so many columns share a scale; None where no size divides them."""
        sizes = [one for one in GROUP_SIZES if one <= self.group_size] if self.narrower else [self.group_size]
        return max((one for one in sizes if columns % one == 0), default=None)

    def described(self, stored: Mapping[str, Stored]) -> dict[str, object]:
        """What config.json's `quantization` says of these tensors, as mlx-lm writes it."""
        general: dict[str, object] = {"group_size": self.group_size, "bits": self.bits, "mode": "affine"}
        others = {}
        for name, one in sorted(stored.items()):
            bits = self.of(name)
            own = {**general, "bits": bits, "group_size": bits and self.group(one.shape[-1])}
            if bits is not None and own != general:
                others[name.removesuffix(".weight")] = own
        return general | others


def quantize(weight: mx.array, group_size: int, bits: int) -> tuple[mx.array, mx.array, mx.array]:
    """Packed (rows, columns · bits / 32) uint32, and scales and biases (rows, columns / group_size).

    At 8 bits, the rounding of scales and biases to bfloat16 is as large as the quantisation's own: there the
    integers are chosen anew for the scales and biases as stored, which takes 38% off the error. Below 8 bits
    it would take off 4% or less.
    """
    packed, scales, biases = mx.quantize(weight, group_size, bits)
    if bits != 8:
        return packed, scales, biases
    groups = weight.astype(mx.float32).reshape(*scales.shape, group_size)
    step, zero = (one.astype(mx.float32)[..., None] for one in (scales, biases))
    # A group of equal values has no step.
    levels = mx.round((groups - zero) / mx.where(step == 0, 1.0, step))
    return mx.clip(levels, 0, 255).astype(mx.uint8).reshape(weight.shape).view(mx.uint32), scales, biases
