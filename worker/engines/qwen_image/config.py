"""A checkpoint's geometry, from the configs in its folders. Unknown keys are ignored; nothing is assumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pixelkiln.worker.engines.checkpoints.files import read_json, real, shown, whole
from pixelkiln.worker.engines.engine import CheckpointError

LATENT = 8  # pixels: the side of the square that one latent value stands for
PATCH = 2  # latents: the side of the square that one token stands for

# What no model comes near; beyond it numbers overflow, or take hours and all memory before anything is read.
MOST_WIDE, MOST_LAYERS, MOST_HEADS, MOST_TOKENS = 2**17, 512, 1024, 2**22

INDEX = "model_index.json"
PIPELINES = {"QwenImageEditPlusPipeline": True, "QwenImagePipeline": False}  # whether it edits pictures
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TransformerConfig:
    """The denoiser's sizes."""

    layers: int
    heads: int
    head_dim: int
    channels: int  # values of a token: 2 × 2 latents of so many
    context: int  # width of the text features
    axes: tuple[int, int, int]  # head values that turn by picture, row and column
    zero_cond_t: bool  # whether reference tokens are modulated as at time 0

    @property
    def width(self) -> int:
        """Values of a token inside."""
        return self.heads * self.head_dim


@dataclass(frozen=True, slots=True)
class TextConfig:
    """The language model's sizes."""

    hidden: int
    inner: int  # of the MLP
    layers: int
    heads: int
    key_heads: int
    vocabulary: int
    eps: float
    theta: float
    sections: tuple[int, int, int]  # rotary frequencies that follow t, h and w

    @property
    def head_dim(self) -> int:
        """Values of a head."""
        return self.hidden // self.heads


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The vision tower's sizes."""

    depth: int
    hidden: int
    inner: int
    heads: int
    patch: int  # pixels
    merge: int  # patches on a side that become one token
    frames: int
    window: int  # pixels on a side that attend to each other
    full: tuple[int, ...]  # layers that attend to the whole picture
    out: int


@dataclass(frozen=True, slots=True)
class VaeConfig:
    """The autoencoder's sizes."""

    base: int
    channels: int  # of a latent
    multiples: tuple[int, ...]
    blocks: int  # residual blocks of a stage
    mean: tuple[float, ...]
    std: tuple[float, ...]
    timed: tuple[bool, ...]  # stages with a convolution in time, which one picture does not need


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """How the noise levels are spaced."""

    base_shift: float
    max_shift: float
    base_tokens: int
    max_tokens: int
    terminal: float | None  # the last level, to which the others are stretched


@dataclass(frozen=True, slots=True)
class Config:
    """What the folder's configs say of the model."""

    edits: bool  # whether its recipe takes reference pictures
    transformer: TransformerConfig
    text: TextConfig
    vision: VisionConfig
    vae: VaeConfig
    schedule: ScheduleConfig

    @classmethod
    def read(cls, folder: Path) -> Config:
        """Read the configs below `folder`. Raises CheckpointError that names the missing file or key."""
        encoder = folder / "text_encoder/config.json"
        config = cls(
            edits=_edits(folder / INDEX),
            transformer=_read(folder / "transformer/config.json", _transformer),
            text=_read(encoder, _text),
            vision=_read(encoder, _vision),
            vae=_read(folder / "vae/config.json", _vae),
            schedule=_read(folder / "scheduler/scheduler_config.json", _schedule),
        )
        for what, one, other in (
            ("vision tower's out_hidden_size", config.vision.out, config.text.hidden),
            ("transformer's joint_attention_dim", config.transformer.context, config.text.hidden),
            ("transformer's in_channels", config.transformer.channels, config.vae.channels * PATCH**2),
        ):
            if one != other:
                raise CheckpointError(f"{folder}: the {what} is {one}, the other parts' {other}")
        return config


def _edits(path: Path) -> bool:
    name = read_json(path).get("_class_name")
    if name == "QwenImageEditPipeline":
        raise CheckpointError(
            f"{path}: this is the first Qwen-Image-Edit, sampled in another way: "
            "pull qwen-image-edit-2511 or qwen-image-edit-2509"
        )
    if name not in PIPELINES:
        raise CheckpointError(f"{path}: _class_name is {shown(name)}; there are {', '.join(PIPELINES)}")
    return PIPELINES[name]


def _read(path: Path, parse: Callable[[Mapping[str, Any]], T]) -> T:
    try:
        return parse(read_json(path))
    except KeyError as error:
        raise CheckpointError(f"{path} has no {error.args[0]!r}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _same(data: Mapping[str, Any], **expected: object) -> None:
    for key, value in expected.items():
        if data.get(key, value) != value:
            raise ValueError(f"{key} is {shown(data[key])}, expected {shown(value)}")


def _three(data: Mapping[str, Any], key: str) -> tuple[int, int, int]:
    first, second, third = (whole({key: one}, key, MOST_WIDE, 0) for one in data[key])
    return first, second, third


def _transformer(data: Mapping[str, Any]) -> TransformerConfig:
    _same(data, patch_size=PATCH, guidance_embeds=False, use_additional_t_cond=False, use_layer3d_rope=False)
    found = TransformerConfig(
        layers=whole(data, "num_layers", MOST_LAYERS),
        heads=whole(data, "num_attention_heads", MOST_HEADS),
        head_dim=whole(data, "attention_head_dim", MOST_WIDE),
        channels=whole(data, "in_channels", MOST_WIDE),
        context=whole(data, "joint_attention_dim", MOST_WIDE),
        axes=_three(data, "axes_dims_rope"),
        zero_cond_t=data.get("zero_cond_t", False) is True,
    )
    if sum(found.axes) != found.head_dim or any(one % 2 for one in found.axes):
        raise ValueError(f"axes_dims_rope {list(found.axes)} must be even and add up to {found.head_dim}")
    if whole(data, "out_channels", MOST_WIDE) * PATCH**2 != found.channels:
        raise ValueError(f"in_channels is {found.channels}, expected {PATCH**2} × out_channels")
    return found


def _text(data: Mapping[str, Any]) -> TextConfig:
    data = {**data, **(data.get("text_config") or {})}  # older releases have all at the top
    # transformers 5 moved `rope_scaling` and `rope_theta` into `rope_parameters`.
    rope = data.get("rope_parameters") or data["rope_scaling"]
    heads = whole(data, "num_attention_heads", MOST_HEADS)
    _same(data, hidden_act="silu", use_sliding_window=False)
    config = TextConfig(
        hidden=whole(data, "hidden_size", MOST_WIDE),
        inner=whole(data, "intermediate_size", MOST_WIDE),
        layers=whole(data, "num_hidden_layers", MOST_LAYERS),
        heads=heads,
        key_heads=whole(data, "num_key_value_heads", heads),
        vocabulary=whole(data, "vocab_size", MOST_TOKENS),
        eps=real(data, "rms_norm_eps", 1),
        theta=real(rope if rope.get("rope_theta") else data, "rope_theta", 1e12),
        sections=_three(rope, "mrope_section"),
    )
    if config.hidden % heads or heads % config.key_heads:
        raise ValueError(f"{heads} heads divide no hidden_size of {config.hidden}, or share no key heads")
    if sum(config.sections) * 2 != config.head_dim:
        raise ValueError(f"mrope_section {list(config.sections)} must add up to {config.head_dim // 2}")
    return config


def _vision(whole_config: Mapping[str, Any]) -> VisionConfig:
    data = whole_config["vision_config"]
    depth = whole(data, "depth", MOST_LAYERS)
    _same(data, hidden_act="silu", in_channels=3)
    config = VisionConfig(
        depth=depth,
        hidden=whole(data, "hidden_size", MOST_WIDE),
        inner=whole(data, "intermediate_size", MOST_WIDE),
        heads=whole(data, "num_heads", MOST_HEADS),
        patch=whole(data, "patch_size", 64),
        merge=whole(data, "spatial_merge_size", 8),
        frames=whole(data, "temporal_patch_size", 8),
        window=whole(data, "window_size", 4096),
        full=tuple(
            whole({"fullatt_block_indexes": one}, "fullatt_block_indexes", depth - 1, 0)
            for one in data["fullatt_block_indexes"]
        ),
        out=whole(data, "out_hidden_size", MOST_WIDE),
    )
    if config.hidden % (4 * config.heads):
        raise ValueError(f"hidden_size {config.hidden} is no multiple of four times {config.heads} heads")
    if config.window % (config.patch * config.merge):
        raise ValueError(f"window_size {config.window} is no multiple of {config.patch * config.merge}")
    return config


def _vae(data: Mapping[str, Any]) -> VaeConfig:
    _same(data, attn_scales=[], input_channels=3)
    multiples = tuple(whole({"dim_mult": one}, "dim_mult", 64) for one in data["dim_mult"])
    timed = tuple(data["temperal_downsample"])
    channels = whole(data, "z_dim", 1024)
    if 2 ** (len(multiples) - 1) != LATENT:
        raise ValueError(f"dim_mult has {len(multiples)} stages, expected 4")
    if len(timed) != len(multiples) - 1 or not all(type(one) is bool for one in timed):
        raise ValueError(
            f"temperal_downsample is {shown(list(timed))}, expected {len(multiples) - 1} of them"
        )
    mean = tuple(float(one) for one in data["latents_mean"])
    std = tuple(real({"latents_std": one}, "latents_std", 1e6) for one in data["latents_std"])
    if not len(mean) == len(std) == channels or not all(abs(one) < 1e6 for one in mean):
        raise ValueError(f"latents_mean and latents_std must have {channels} numbers each")
    return VaeConfig(
        base=whole(data, "base_dim", MOST_WIDE),
        channels=channels,
        multiples=multiples,
        blocks=whole(data, "num_res_blocks", 64),
        mean=mean,
        std=std,
        timed=timed,
    )


def _schedule(data: Mapping[str, Any]) -> ScheduleConfig:
    _same(data, use_dynamic_shifting=True, time_shift_type="exponential", num_train_timesteps=1000)
    base, most = (whole(data, key, MOST_TOKENS) for key in ("base_image_seq_len", "max_image_seq_len"))
    if base >= most:
        raise ValueError(f"base_image_seq_len {base} is not below max_image_seq_len {most}")
    stretched = data.get("shift_terminal") is not None
    return ScheduleConfig(
        base_shift=real(data, "base_shift", 100),
        max_shift=real(data, "max_shift", 100),
        base_tokens=base,
        max_tokens=most,
        terminal=real(data, "shift_terminal", 0.99) if stretched else None,
    )
