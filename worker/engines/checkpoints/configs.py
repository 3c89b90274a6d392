"""Geometry of parts that several families have, from their config.json. Nothing is assumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pixelkiln.worker.engines.checkpoints.files import read_json, real, shown, whole
from pixelkiln.worker.engines.engine import CheckpointError

T = TypeVar("T")

# What no model comes near; beyond it numbers overflow, or take hours and all memory before anything is read.
MOST_WIDE, MOST_LAYERS, MOST_HEADS, MOST_TOKENS = 2**17, 512, 1024, 2**22
MOST_STAGES = 8


def read_config(folder: Path, parse: Callable[[Mapping[str, Any]], T], name: str = "config.json") -> T:
    """What `parse` makes of `folder`/config.json; its KeyError and ValueError become a CheckpointError."""
    path = folder / name
    data = read_json(path)
    try:
        return parse(data)
    except KeyError as error:
        raise CheckpointError(f"{path} has no {error.args[0]!r}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def expect(data: Mapping[str, Any], **wanted: Any) -> None:
    """Raise ValueError where a key that is there has another value than the one that is computed."""
    for key, value in wanted.items():
        if data.get(key, value) != value:
            raise ValueError(f"{key} is {shown(data[key])}, expected {shown(value)}")


@dataclass(frozen=True, slots=True)
class Qwen3Config:
    """A Qwen3 decoder's sizes."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Qwen3Config:
        """See read_config."""
        expect(data, hidden_act="silu", attention_bias=False, rope_scaling=None, use_sliding_window=False)
        # transformers 5 moved `rope_theta` into `rope_parameters`.
        rope = data.get("rope_parameters") or data
        expect(rope, rope_type="default")
        config = cls(
            hidden_size=whole(data, "hidden_size", MOST_WIDE),
            intermediate_size=whole(data, "intermediate_size", MOST_WIDE),
            num_hidden_layers=whole(data, "num_hidden_layers", MOST_LAYERS),
            num_attention_heads=whole(data, "num_attention_heads", MOST_HEADS),
            num_key_value_heads=whole(data, "num_key_value_heads", MOST_HEADS),
            head_dim=whole(data, "head_dim", MOST_WIDE),
            vocab_size=whole(data, "vocab_size", MOST_TOKENS),
            rms_norm_eps=real(data, "rms_norm_eps", 1.0),
            rope_theta=real(rope, "rope_theta", 1e12),
        )
        if config.num_attention_heads % config.num_key_value_heads or config.head_dim % 2:
            raise ValueError(
                f"{config.num_attention_heads} heads of {config.head_dim} cannot share "
                f"{config.num_key_value_heads} key-value heads"
            )
        return config


@dataclass(frozen=True, slots=True)
class AutoencoderConfig:
    """The sizes of a KL autoencoder as FLUX has it: each stage but the last halves a picture's sides."""

    channels: tuple[int, ...]  # of each stage, the picture's side first
    layers: int  # resnets of a stage of the encoder; the decoder has one more
    groups: int  # of each norm
    latents: int  # channels
    quant: bool  # whether a 1 × 1 convolution follows the encoder
    post_quant: bool  # whether one goes before the decoder

    @property
    def scale(self) -> int:
        """Pixels along a side of one latent."""
        return int(2 ** (len(self.channels) - 1))

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> AutoencoderConfig:
        """See read_config."""
        expect(data, act_fn="silu", mid_block_add_attention=True, in_channels=3, out_channels=3)
        given = data["block_out_channels"]
        if not isinstance(given, list) or not 1 <= len(given) <= MOST_STAGES:
            raise ValueError(f"block_out_channels is {shown(given)}, expected 1 to {MOST_STAGES} numbers")
        channels = tuple(whole({"block_out_channels": one}, "block_out_channels", MOST_WIDE) for one in given)
        groups = whole(data, "norm_num_groups", MOST_WIDE)
        if any(one % groups for one in channels):
            raise ValueError(f"{groups} groups do not divide block_out_channels {list(channels)}")
        return cls(
            channels=channels,
            layers=whole(data, "layers_per_block", MOST_LAYERS),
            groups=groups,
            latents=whole(data, "latent_channels", MOST_WIDE),
            quant=bool(data.get("use_quant_conv", True)),
            post_quant=bool(data.get("use_post_quant_conv", True)),
        )
