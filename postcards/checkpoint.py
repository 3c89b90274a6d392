"""A small HiDream-O1: its geometry, first weights and checkpoint folder, in the release's layout."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pixelkiln.worker.engines.checkpoints.manifest import NAME
from pixelkiln.worker.engines.hidream.checkpoint import digest
from pixelkiln.worker.engines.hidream.config import PATCH_VALUES, Config
from pixelkiln.worker.engines.mlx.timesteps import FREQUENCIES
from postcards import tokenizer as words

Parameters = dict[str, mx.array]  # by released name, float32 while training
SPARE = 8  # hidden channels that start with neither pixels in nor out
FRAME = (  # a checkpoint's files beside its weights
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)
SHARD = 15 * 2**20  # bytes: a checkpoint's files stay below this


@dataclass(frozen=True, slots=True)
class Geometry:
    """The sizes that may differ; all else follows or is fixed."""

    hidden: int = 384
    inner: int = 512
    layers: int = 8
    heads: int = 6
    groups: int = 2  # key-value heads
    head: int = 64

    def config(self) -> dict[str, Any]:
        """config.json."""
        half = self.head // 2
        section = [half - 2 * (half // 3), half // 3, half // 3]
        return {
            "architectures": ["Qwen3VLForConditionalGeneration"],
            "model_type": "qwen3_vl",
            "dtype": "bfloat16",
            "tie_word_embeddings": False,
            "image_token_id": words.control_id("<|image_pad|>"),
            "video_token_id": words.control_id("<|video_pad|>"),
            "vision_start_token_id": words.control_id("<|vision_start|>"),
            "vision_end_token_id": words.control_id("<|vision_end|>"),
            "text_config": {
                "model_type": "qwen3_vl_text",
                "hidden_size": self.hidden,
                "intermediate_size": self.inner,
                "num_hidden_layers": self.layers,
                "num_attention_heads": self.heads,
                "num_key_value_heads": self.groups,
                "head_dim": self.head,
                "hidden_act": "silu",
                "rms_norm_eps": 1e-6,
                "vocab_size": words.ROWS,
                "max_position_embeddings": 8192,
                # Pictures here are some ten patches wide, so turns are faster than the release's 5e6.
                "rope_theta": 100.0,
                "rope_scaling": {
                    "mrope_interleaved": True,
                    "mrope_section": section,
                    "rope_type": "default",
                },
            },
        }

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Every tensor's released name and shape."""
        hidden, wide, narrow = self.hidden, self.heads * self.head, self.groups * self.head
        stem = "model.language_model"
        yield f"{stem}.embed_tokens.weight", (words.ROWS, hidden)
        for i in range(self.layers):
            layer = f"{stem}.layers.{i}"
            yield f"{layer}.input_layernorm.weight", (hidden,)
            yield f"{layer}.self_attn.q_proj.weight", (wide, hidden)
            yield f"{layer}.self_attn.k_proj.weight", (narrow, hidden)
            yield f"{layer}.self_attn.v_proj.weight", (narrow, hidden)
            yield f"{layer}.self_attn.o_proj.weight", (hidden, wide)
            yield f"{layer}.self_attn.q_norm.weight", (self.head,)
            yield f"{layer}.self_attn.k_norm.weight", (self.head,)
            yield f"{layer}.post_attention_layernorm.weight", (hidden,)
            yield f"{layer}.mlp.gate_proj.weight", (self.inner, hidden)
            yield f"{layer}.mlp.up_proj.weight", (self.inner, hidden)
            yield f"{layer}.mlp.down_proj.weight", (hidden, self.inner)
        yield f"{stem}.norm.weight", (hidden,)
        yield "model.t_embedder1.mlp.0.weight", (hidden, 2 * FREQUENCIES)
        yield "model.t_embedder1.mlp.0.bias", (hidden,)
        yield "model.t_embedder1.mlp.2.weight", (hidden, hidden)
        yield "model.t_embedder1.mlp.2.bias", (hidden,)
        yield "model.x_embedder.proj1.weight", (hidden // 4, PATCH_VALUES)
        yield "model.x_embedder.proj2.weight", (hidden, hidden // 4)
        yield "model.x_embedder.proj2.bias", (hidden,)
        yield "model.final_layer2.linear.weight", (PATCH_VALUES, hidden)
        yield "model.final_layer2.linear.bias", (PATCH_VALUES,)


@dataclass(frozen=True, slots=True)
class Components:
    """Principal components of patches in −1 … 1: where pixels come in and go out, training starts there."""

    mean: NDArray[np.float32]  # (3072,)
    axes: NDArray[np.float32]  # (3072, n) orthonormal, the largest first
    deviation: NDArray[np.float32]  # (n,) of the patches along each axis


def components(patches: NDArray[np.float32], count: int, seed: int = 0) -> Components:
    """The first `count` components of (n, 3072) patches, by subspace iteration (Halko et al., 2011)."""
    mean = patches.mean(0)
    centred = patches - mean
    covariance = centred.T @ centred / np.float32(len(centred))
    rng = np.random.default_rng(seed)
    axes = rng.standard_normal((PATCH_VALUES, count + 32), np.float32)
    for _ in range(6):
        axes, _ = np.linalg.qr(covariance @ axes)
    values, turn = np.linalg.eigh(axes.T @ covariance @ axes)
    order = np.argsort(-values)[:count]
    deviation = np.sqrt(np.maximum(values[order], 1e-8)).astype(np.float32)
    return Components(mean, (axes @ turn[:, order]).astype(np.float32), deviation)


def initial(geometry: Geometry, start: Components | None, seed: int = 0) -> Parameters:
    """First weights: each matrix by its inputs, the last of a residual branch smaller, heads from `start`."""
    rng = np.random.default_rng(seed)
    parameters: dict[str, NDArray[np.float32]] = {}
    for name, shape in geometry.shapes():
        if name.endswith("norm.weight"):
            value = np.ones(shape, np.float32)
        elif name.endswith(".bias"):
            value = np.zeros(shape, np.float32)
        else:
            scale = 0.1 if "embed_tokens" in name else 1 / sqrt(shape[1])
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                scale /= sqrt(2 * geometry.layers)
            if name.endswith("final_layer2.linear.weight"):
                scale *= 0.2
            value = rng.standard_normal(shape, np.float32) * np.float32(scale)
        parameters[name] = value
    if start is not None:
        _fit_heads(parameters, geometry, start)
    return {name: mx.array(value) for name, value in parameters.items()}


def _fit_heads(parameters: dict[str, NDArray[np.float32]], geometry: Geometry, start: Components) -> None:
    """Let pixels come in and go out along their principal components, through channels of their own.

    The first channels lead to pixels, and at first only the layers write to them: what comes in, into the
    channels behind, is mostly noise. The final norm fixes a token's length, though patches differ in theirs:
    the last channels start large, lead nowhere and take what is left over.
    """
    inside = geometry.hidden // 4
    outside = geometry.hidden - inside - SPARE
    gain = 1 / np.sqrt(np.square(start.deviation[:inside]) + 4)
    parameters["model.x_embedder.proj1.weight"] = (start.axes[:, :inside] * gain).T.copy()
    into = parameters["model.x_embedder.proj2.weight"]
    into[:], into[outside : outside + inside] = 0, np.eye(inside, dtype=np.float32)
    parameters["model.x_embedder.proj2.bias"][-SPARE:] = 8
    norm = parameters["model.language_model.norm.weight"]
    norm[:outside] = start.deviation[:outside] + 1
    last = parameters["model.final_layer2.linear.weight"]
    last[:, :outside], last[:, outside:] = start.axes[:, :outside], 0
    parameters["model.final_layer2.linear.bias"] = start.mean


def write_frame(folder: Path, geometry: Geometry, tokenizer: Tokenizer) -> Config:
    """Write config and tokenizer, all that a checkpoint has beside weights, and read the config back."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(geometry.config(), indent=2) + "\n")
    words.write(tokenizer, folder)
    return Config.read(folder)


def read_weights(folder: Path, geometry: Geometry) -> Parameters:
    """A checkpoint's weights as float32. Raises ValueError for one of another geometry."""
    shapes, found = dict(geometry.shapes()), dict[str, mx.array]()
    for file in sorted(folder.glob("*.safetensors")):
        loaded = mx.load(str(file))
        assert isinstance(loaded, dict)
        found |= {name: value.astype(mx.float32) for name, value in loaded.items()}
    if {name: value.shape for name, value in found.items()} != shapes:
        raise ValueError(f"{folder} holds a model of another geometry")
    return {name: found[name] for name in shapes}


def write_weights(folder: Path, parameters: Mapping[str, mx.array], revision: str) -> None:
    """Write weights in bfloat16, in shards with an index, and the manifest that the engine asks for."""
    shards: list[Parameters] = [{}]
    for name, value in parameters.items():
        half = value.astype(mx.bfloat16)
        if sum(one.nbytes for one in shards[-1].values()) + half.nbytes > SHARD:
            shards.append({})
        shards[-1][name] = half
    for old in folder.glob("*.safetensors"):
        old.unlink()
    index: dict[str, str] = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        mx.save_safetensors(str(folder / file), shard, {"format": "mlx"})
        index |= dict.fromkeys(shard, file)
    size = sum(one.nbytes for shard in shards for one in shard.values())
    listing = {"metadata": {"total_size": size}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(listing, indent=2) + "\n")
    manifest = {
        "schema": 1,
        "model": "demo",
        "recipe": "dev",
        "bits": 16,
        "source": "postcards",
        "revision": revision,
        "digest": digest(folder),
    }
    (folder / NAME).write_text(json.dumps(manifest, indent=2) + "\n")
