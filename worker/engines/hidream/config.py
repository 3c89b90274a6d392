"""A checkpoint's geometry, from its config.json. Unknown keys are ignored; nothing is assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelkiln.worker.engines.checkpoints.configs import (
    MOST_HEADS,
    MOST_LAYERS,
    MOST_TOKENS,
    MOST_WIDE,
    Qwen3Config,
    read_config,
)
from pixelkiln.worker.engines.checkpoints.files import real, shown, whole

PATCH = 32  # pixels: the side of the square that one generated token stands for
CHANNELS = 3

_VISION = {  # of what mlx-vlm's tower takes
    "depth": MOST_LAYERS,
    "hidden_size": MOST_WIDE,
    "intermediate_size": MOST_WIDE,
    "out_hidden_size": MOST_WIDE,
    "num_heads": MOST_HEADS,
    "in_channels": 16,
    "patch_size": 64,
    "temporal_patch_size": 8,
    "spatial_merge_size": 8,
    "num_position_embeddings": MOST_TOKENS,
}
PATCH_VALUES = CHANNELS * PATCH * PATCH


@dataclass(frozen=True, slots=True)
class TextConfig(Qwen3Config):
    """The decoder's sizes."""

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
        return read_config(folder, cls._parsed)

    @classmethod
    def _parsed(cls, data: Mapping[str, Any]) -> Config:
        text = _text(data["text_config"])
        last = text.vocab_size - 1
        return cls(
            text=text,
            vision=_vision(data.get("vision_config") or {}),
            image_token_id=whole(data, "image_token_id", last, 0),
            vision_start_token_id=whole(data, "vision_start_token_id", last, 0),
            vision_end_token_id=whole(data, "vision_end_token_id", last, 0),
        )


def _text(data: Mapping[str, Any]) -> TextConfig:
    # transformers 5 moved `rope_scaling` and `rope_theta` into `rope_parameters`.
    rope = data.get("rope_parameters") or data["rope_scaling"]
    heads, hidden = whole(data, "num_attention_heads", MOST_HEADS), whole(data, "hidden_size", MOST_WIDE)
    config = TextConfig(
        hidden_size=hidden,
        intermediate_size=whole(data, "intermediate_size", MOST_WIDE),
        num_hidden_layers=whole(data, "num_hidden_layers", MOST_LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=whole(data, "num_key_value_heads", heads),
        head_dim=whole(data, "head_dim", MOST_WIDE) if data.get("head_dim") else hidden // heads,
        vocab_size=whole(data, "vocab_size", MOST_TOKENS),
        rms_norm_eps=real(data, "rms_norm_eps", 1),
        rope_theta=real(rope if rope.get("rope_theta") else data, "rope_theta", 1e12),
        mrope_section=_section(rope["mrope_section"]),
    )
    if sum(config.mrope_section) * 2 != config.head_dim:
        raise ValueError(f"mrope_section {list(config.mrope_section)} must add up to {config.head_dim // 2}")
    if heads % config.num_key_value_heads:
        raise ValueError(f"{heads} attention heads cannot share {config.num_key_value_heads} key-value heads")
    if data.get("hidden_act", "silu") != "silu":
        raise ValueError(f"hidden_act is {shown(data['hidden_act'])}, expected 'silu'")
    return config


def _section(values: Any) -> tuple[int, int, int]:
    t, h, w = (whole({"mrope_section": value}, "mrope_section", MOST_WIDE, 0) for value in values)
    return t, h, w


def _vision(data: Mapping[str, Any]) -> Mapping[str, Any]:
    for key, most in _VISION.items():
        if data:
            whole(data, key, most)
    for layer in data.get("deepstack_visual_indexes", ()):
        whole({"deepstack_visual_indexes": layer}, "deepstack_visual_indexes", data["depth"] - 1, 0)
    return data
