"""Checkpoints to test on: the golden one, and random ones of any geometry."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from pixelkiln.worker.engines.hidream.checkpoint import digest
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.engine import HiDreamEngine
from pixelkiln.worker.engines.hidream.model import Model
from pixelkiln.worker.engines.hidream.tokens import Prompts

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="session")
def golden() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def tiny() -> Path:
    return GOLDEN / "tiny-hidream-o1"


@pytest.fixture(scope="session")
def tiny_model(tiny: Path) -> Model:
    return Model(tiny, Config.read(tiny), mx.float32)


@pytest.fixture(scope="session")
def tiny_prompts(tiny: Path) -> Prompts:
    return Prompts(tiny, Config.read(tiny))


def describe(folder: Path, recipe: str = "dev") -> Path:
    """Write the kiln.json that an engine asks for."""
    facts = {
        "schema": 1,
        "model": "hidream-o1-dev",
        "recipe": recipe,
        "bits": 16,
        "source": "test",
        "revision": "0",
    }
    (folder / "kiln.json").write_text(json.dumps({**facts, "digest": digest(folder)}))
    return folder


@pytest.fixture
def copied(tiny: Path, tmp_path: Path) -> Path:
    """A copy of the golden checkpoint to break."""
    return describe(Path(shutil.copytree(tiny, tmp_path / "tiny")))


@pytest.fixture(scope="session")
def checkpoint(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The golden checkpoint as one of a family."""

    def make(recipe: str = "dev") -> Path:
        return describe(Path(shutil.copytree(tiny, tmp_path_factory.mktemp(recipe) / "tiny")), recipe)

    return make


@pytest.fixture(scope="module")
def engine(checkpoint: Callable[[str], Path]) -> HiDreamEngine:
    return HiDreamEngine.load(checkpoint("dev"), dtype=mx.float32)


@pytest.fixture
def random_checkpoint(tiny: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write a checkpoint of random weights, released layout; arguments replace text_config's entries."""

    def make(token_shift: int = 0, vision: dict[str, Any] | None = None, **text: Any) -> Path:
        folder = tmp_path / "random"
        folder.mkdir()
        shutil.copy(tiny / "preprocessor_config.json", folder)
        config = json.loads((tiny / "config.json").read_bytes())
        config["text_config"] |= text
        config["vision_config"] |= {"out_hidden_size": config["text_config"]["hidden_size"], **(vision or {})}
        tokenizer = json.loads((tiny / "tokenizer.json").read_bytes())
        for token in tokenizer["added_tokens"]:
            token["id"] += token_shift
        for key in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"):
            config[key] += token_shift
        config["text_config"]["vocab_size"] += token_shift
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        keys = iter(mx.random.split(mx.random.key(7), 1000))
        tensors = {}
        for name, shape in shapes(config).items():
            scale = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            spread = 0.1 if scale else min(0.5, (shape[-1] if len(shape) < 5 else 1536) ** -0.5)
            tensors[name] = (scale + spread * mx.random.normal(shape, key=next(keys))).astype(mx.bfloat16)
        mx.save_safetensors(str(folder / "model.safetensors"), tensors)
        return describe(folder)

    return make


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of the released layout, from a config.json."""
    text, vision = config["text_config"], config["vision_config"]
    hidden, inner, size = text["hidden_size"], text["intermediate_size"], text["head_dim"]
    queries, keys = text["num_attention_heads"] * size, text["num_key_value_heads"] * size
    found: dict[str, tuple[int, ...]] = {
        "lm_head.weight": (text["vocab_size"], hidden),
        "model.language_model.embed_tokens.weight": (text["vocab_size"], hidden),
        "model.language_model.norm.weight": (hidden,),
        "model.t_embedder1.mlp.0.weight": (hidden, 256),
        "model.t_embedder1.mlp.0.bias": (hidden,),
        "model.t_embedder1.mlp.2.weight": (hidden, hidden),
        "model.t_embedder1.mlp.2.bias": (hidden,),
        "model.x_embedder.proj1.weight": (hidden // 4, 3072),
        "model.x_embedder.proj2.weight": (hidden, hidden // 4),
        "model.x_embedder.proj2.bias": (hidden,),
        "model.final_layer2.linear.weight": (3072, hidden),
        "model.final_layer2.linear.bias": (3072,),
    }
    for i in range(text["num_hidden_layers"]):
        layer = f"model.language_model.layers.{i}"
        found |= {
            f"{layer}.input_layernorm.weight": (hidden,),
            f"{layer}.post_attention_layernorm.weight": (hidden,),
            f"{layer}.self_attn.q_proj.weight": (queries, hidden),
            f"{layer}.self_attn.k_proj.weight": (keys, hidden),
            f"{layer}.self_attn.v_proj.weight": (keys, hidden),
            f"{layer}.self_attn.o_proj.weight": (hidden, queries),
            f"{layer}.self_attn.q_norm.weight": (size,),
            f"{layer}.self_attn.k_norm.weight": (size,),
            f"{layer}.mlp.gate_proj.weight": (inner, hidden),
            f"{layer}.mlp.up_proj.weight": (inner, hidden),
            f"{layer}.mlp.down_proj.weight": (hidden, inner),
        }
    return found | _vision_shapes(vision)


def _vision_shapes(vision: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner, side = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    merged = width * vision["spatial_merge_size"] ** 2

    def linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}

    def norm(name: str, size: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (size,), f"{name}.bias": (size,)}

    def merger(name: str, normed: int) -> dict[str, tuple[int, ...]]:
        return (
            norm(f"{name}.norm", normed)
            | linear(f"{name}.linear_fc1", merged, merged)
            | linear(f"{name}.linear_fc2", vision["out_hidden_size"], merged)
        )

    patch = (width, vision["in_channels"], vision["temporal_patch_size"], side, side)
    found: dict[str, tuple[int, ...]] = {
        "model.visual.patch_embed.proj.weight": patch,
        "model.visual.patch_embed.proj.bias": (width,),
        "model.visual.pos_embed.weight": (vision["num_position_embeddings"], width),
    }
    for i in range(vision["depth"]):
        block = f"model.visual.blocks.{i}"
        found |= norm(f"{block}.norm1", width) | norm(f"{block}.norm2", width)
        found |= linear(f"{block}.attn.qkv", 3 * width, width) | linear(f"{block}.attn.proj", width, width)
        found |= linear(f"{block}.mlp.linear_fc1", inner, width) | linear(
            f"{block}.mlp.linear_fc2", width, inner
        )
    found |= merger("model.visual.merger", width)
    for i in range(len(vision["deepstack_visual_indexes"])):
        found |= merger(f"model.visual.deepstack_merger_list.{i}", merged)
    return found
