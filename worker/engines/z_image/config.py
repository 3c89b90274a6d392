"""A checkpoint's geometry, from the config.json of each part. Nothing is assumed; MLX is not needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelkiln.worker.engines.checkpoints.configs import (
    MOST_HEADS,
    MOST_LAYERS,
    MOST_WIDE,
    AutoencoderConfig,
    Qwen3Config,
    expect,
    read_config,
)
from pixelkiln.worker.engines.checkpoints.files import real, shown, whole
from pixelkiln.worker.engines.engine import CheckpointError

TRANSFORMER, TEXT, VAE = "transformer", "text_encoder", "vae"  # folders of weights
TOKENIZER, SCHEDULER = "tokenizer", "scheduler"
INNER = 1024  # of the time embedding, whatever its outer width
MOST_TIME = 256  # of that width


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """The transformer's sizes."""

    dim: int
    heads: int
    layers: int
    refiners: int  # layers of each of the two
    text: int  # width of the features it is given
    channels: int  # of the latents
    patch: int  # latents along a patch's side
    axes: tuple[int, ...]  # numbers of a head that follow each of t, row, column
    lengths: tuple[int, ...]  # positions of each axis
    theta: float
    t_scale: float
    eps: float

    @property
    def inner(self) -> int:
        """Width of a feed-forward's inside."""
        return int(self.dim / 3 * 8)

    @property
    def time(self) -> int:
        """Width of the time embedding."""
        return min(self.dim, MOST_TIME)

    @property
    def values(self) -> int:
        """Numbers of a patch."""
        return self.patch**2 * self.channels

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> TransformerConfig:
        """See read_config."""
        expect(data, all_f_patch_size=[1], qk_norm=True, n_kv_heads=data["n_heads"])
        if not isinstance(data["all_patch_size"], list) or len(data["all_patch_size"]) != 1:
            raise ValueError(f"all_patch_size is {shown(data['all_patch_size'])}, expected one number")
        axes = tuple(whole({"axes_dims": one}, "axes_dims", MOST_WIDE, 2) for one in data["axes_dims"])
        lengths = tuple(whole({"axes_lens": one}, "axes_lens", MOST_WIDE) for one in data["axes_lens"])
        config = cls(
            dim=whole(data, "dim", MOST_WIDE),
            heads=whole(data, "n_heads", MOST_HEADS),
            layers=whole(data, "n_layers", MOST_LAYERS),
            refiners=whole(data, "n_refiner_layers", MOST_LAYERS, 0),
            text=whole(data, "cap_feat_dim", MOST_WIDE),
            channels=whole(data, "in_channels", MOST_WIDE),
            patch=whole({"all_patch_size": data["all_patch_size"][0]}, "all_patch_size", 64),
            axes=axes,
            lengths=lengths,
            theta=real(data, "rope_theta", 1e12),
            t_scale=real(data, "t_scale", 1e6),
            eps=real(data, "norm_eps", 1.0),
        )
        if len(axes) != 3 or len(lengths) != 3 or any(one % 2 for one in axes):
            raise ValueError(f"axes_dims is {list(axes)}, expected three even numbers")
        if sum(axes) * config.heads != config.dim:
            raise ValueError(f"axes_dims {list(axes)} of {config.heads} heads do not add up to {config.dim}")
        return config


@dataclass(frozen=True, slots=True)
class Config:
    """What a checkpoint folder's configs say."""

    transformer: TransformerConfig
    text: Qwen3Config
    vae: AutoencoderConfig
    scaling: float  # latents are (encoded - shifting) · scaling
    shifting: float
    shift: float  # of the schedule: the only thing that tells Turbo's release from the base model's

    @property
    def text_layers(self) -> int:
        """How many of the encoder's layers run: features are the last but one's."""
        return self.text.num_hidden_layers - 1

    @property
    def grid(self) -> int:
        """Pixels along a patch's side."""
        return self.vae.scale * self.transformer.patch

    @classmethod
    def read(cls, folder: Path) -> Config:
        """Read a checkpoint folder. Raises CheckpointError that names file and key."""
        transformer = read_config(folder / TRANSFORMER, TransformerConfig.parse)
        text = read_config(folder / TEXT, Qwen3Config.parse)
        vae = read_config(folder / VAE, AutoencoderConfig.parse)
        scaling, shifting = read_config(folder / VAE, _scale)
        shift = read_config(folder / SCHEDULER, _shift, "scheduler_config.json")
        if text.hidden_size != transformer.text or text.num_hidden_layers < 2:
            raise CheckpointError(
                f"{folder}: the text encoder's hidden_size is {text.hidden_size}, "
                f"the transformer's cap_feat_dim {transformer.text}"
            )
        if vae.latents != transformer.channels:
            raise CheckpointError(
                f"{folder}: the VAE's latent_channels are {vae.latents}, "
                f"the transformer's in_channels {transformer.channels}"
            )
        return cls(transformer, text, vae, scaling, shifting, shift)


def _scale(data: Mapping[str, Any]) -> tuple[float, float]:
    return real(data, "scaling_factor", 1e6), float(data["shift_factor"])


def _shift(data: Mapping[str, Any]) -> float:
    expect(data, num_train_timesteps=1000, use_dynamic_shifting=False)
    return real(data, "shift", 1e3)
