"""A checkpoint's geometry, from its config.json. Unknown keys are ignored; nothing is assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelkiln.worker.engines.checkpoints.files import read_json
from pixelkiln.worker.engines.engine import CheckpointError

PATCH = 32  # pixels: the side of the square that one generated token stands for
CHANNELS = 3
PATCH_VALUES = CHANNELS * PATCH * PATCH


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The decoder's sizes."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    mrope_section: tuple[int, int, int]  # rotary frequencies that follow t, h and w


@dataclass(frozen=True, slots=True)
class Config:
    """What config.json says of the model. `vision` is kept as read: the tower brings its own record."""

    text: TextConfig
    vision: Mapping[str, Any]
    image_token_id: int
    vision_start_token_id: int
    vision_end_token_id: int

    @classmethod
    def read(cls, folder: Path) -> Config:
        """Read `folder`/config.json. Raises CheckpointError that names the missing file or key."""
        path = folder / "config.json"
        data = read_json(path)
        try:
            return cls(
                text=_text(data["text_config"]),
                vision=data.get("vision_config", {}),
                image_token_id=int(data["image_token_id"]),
                vision_start_token_id=int(data["vision_start_token_id"]),
                vision_end_token_id=int(data["vision_end_token_id"]),
            )
        except KeyError as error:
            raise CheckpointError(f"{path} has no {error.args[0]!r}") from error
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from error


def _text(data: Mapping[str, Any]) -> TextConfig:
    # transformers 5 moved `rope_scaling` and `rope_theta` into `rope_parameters`.
    rope = data.get("rope_parameters") or data["rope_scaling"]
    heads = int(data["num_attention_heads"])
    config = TextConfig(
        hidden_size=int(data["hidden_size"]),
        intermediate_size=int(data["intermediate_size"]),
        num_hidden_layers=int(data["num_hidden_layers"]),
        num_attention_heads=heads,
        num_key_value_heads=int(data["num_key_value_heads"]),
        head_dim=int(data.get("head_dim") or data["hidden_size"] // heads),
        vocab_size=int(data["vocab_size"]),
        rms_norm_eps=float(data["rms_norm_eps"]),
        rope_theta=float(rope.get("rope_theta") or data["rope_theta"]),
        mrope_section=_section(rope["mrope_section"]),
    )
    if sum(config.mrope_section) * 2 != config.head_dim:
        raise ValueError(f"mrope_section {list(config.mrope_section)} must add up to {config.head_dim // 2}")
    if heads % config.num_key_value_heads:
        raise ValueError(f"{heads} attention heads cannot share {config.num_key_value_heads} key-value heads")
    if data.get("hidden_act", "silu") != "silu":
        raise ValueError(f"hidden_act is {data['hidden_act']!r}, expected 'silu'")
    return config


def _section(values: Any) -> tuple[int, int, int]:
    t, h, w = (int(value) for value in values)
    return t, h, w
