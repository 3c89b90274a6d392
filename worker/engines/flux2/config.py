"""A checkpoint's geometry, from its config files. Unknown keys are ignored; nothing is assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelkiln.worker.engines.checkpoints.configs import (
    MOST_HEADS,
    MOST_LAYERS,
    MOST_WIDE,
    expect,
    read_config,
)
from pixelkiln.worker.engines.checkpoints.files import read_json, real, shown, whole
from pixelkiln.worker.engines.engine import CheckpointError

INDEX = "model_index.json"
TIME_CHANNELS = 256  # cosines and sines of a timestep


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """The transformer's sizes."""

    heads: int
    head_size: int
    double_layers: int  # blocks of two streams, text and picture
    single_layers: int  # blocks of the two joined
    channels: int  # of a token of latents
    features: int  # of a text token
    inner: int  # values of an MLP between its two matrices
    axes: tuple[int, ...]  # values of a head that follow each of t, h, w, l
    theta: float
    eps: float

    @property
    def width(self) -> int:
        """Values of a token inside."""
        return self.heads * self.head_size

    @classmethod
    def read(cls, folder: Path) -> TransformerConfig:
        """Read `folder`/config.json. Raises CheckpointError that names the missing file or key."""
        return read_config(folder, _transformer)


def is_distilled(folder: Path) -> bool:
    """Whether a checkpoint's weights were distilled for few steps without guidance.

    Read of its model_index.json, which says nothing where they were not. Raises CheckpointError.
    """
    path = folder / INDEX
    told = read_json(path).get("is_distilled") or False
    if not isinstance(told, bool):
        raise CheckpointError(f"{path}: is_distilled is {shown(told)}, expected true or false")
    return told


def _transformer(data: Mapping[str, Any]) -> TransformerConfig:
    heads, size = whole(data, "num_attention_heads", MOST_HEADS), whole(data, "attention_head_dim", MOST_WIDE)
    channels = whole(data, "in_channels", MOST_WIDE)
    axes = tuple(whole({"axes_dims_rope": one}, "axes_dims_rope", size) for one in data["axes_dims_rope"])
    if len(axes) != 4 or sum(axes) != size or any(one % 2 for one in axes):
        raise ValueError(f"axes_dims_rope is {shown(axes)}, expected four even numbers that make {size}")
    inner = heads * size * real(data, "mlp_ratio", 64)
    if inner != int(inner):
        raise ValueError(
            f"mlp_ratio is {shown(data['mlp_ratio'])}: {heads * size} times it is no whole number"
        )
    if data.get("out_channels") not in (None, channels):
        raise ValueError(f"out_channels is {shown(data['out_channels'])}, expected {channels}")
    expect(data, patch_size=1, guidance_embeds=False, timestep_guidance_channels=TIME_CHANNELS)
    return TransformerConfig(
        heads=heads,
        head_size=size,
        double_layers=whole(data, "num_layers", MOST_LAYERS),
        single_layers=whole(data, "num_single_layers", MOST_LAYERS),
        channels=channels,
        features=whole(data, "joint_attention_dim", MOST_WIDE),
        inner=int(inner),
        axes=axes,
        theta=real(data, "rope_theta", 1e12),
        eps=real(data, "eps", 1),
    )
