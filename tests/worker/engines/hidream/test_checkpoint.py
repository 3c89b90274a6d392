from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.engine import HiDreamEngine
from pixelkiln.worker.engines.hidream.model import Model
from pixelkiln.worker.engines.mlx.layers import Quantized


def load(folder: Path) -> Model:
    return Model(folder, Config.read(folder), mx.float32)


def edit(folder: Path, change: Callable[[dict[str, mx.array]], object]) -> None:
    file = str(folder / "model.safetensors")
    weights = mx.load(file)
    assert isinstance(weights, dict)
    change(weights)
    mx.save_safetensors(file, weights)


def shard(folder: Path) -> None:
    """The same tensors in two files with an index."""
    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    names = sorted(weights)
    where = {}
    for file, part in (("a.safetensors", names[::2]), ("b.safetensors", names[1::2])):
        mx.save_safetensors(str(folder / file), {name: weights[name] for name in part})
        where |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


def test_shards_load_as_one_file_does(copied: Path, tiny_model: Model) -> None:
    shard(copied)
    ours, whole = load(copied).decoder.layers[1], tiny_model.decoder.layers[1]
    assert mx.array_equal(ours.down_proj.weight, whole.down_proj.weight)


def test_a_missing_shard_is_named(copied: Path) -> None:
    shard(copied)
    (copied / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"b\.safetensors is missing"):
        load(copied)


def test_a_folder_without_weights(copied: Path) -> None:
    (copied / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no \*\.safetensors"):
        load(copied)


def test_a_missing_tensor_is_named(copied: Path) -> None:
    edit(copied, lambda weights: weights.pop("model.language_model.layers.2.mlp.up_proj.weight"))
    with pytest.raises(
        CheckpointError, match=r"has no tensor model\.language_model\.layers\.2\.mlp\.up_proj"
    ):
        load(copied)


def test_a_wrong_shape_says_what_was_expected(copied: Path) -> None:
    edit(copied, lambda weights: weights.update({"model.x_embedder.proj2.bias": mx.zeros((63,))}))
    with pytest.raises(CheckpointError, match=r"proj2\.bias has shape \[63\], config\.json expects \[64\]"):
        load(copied)


def test_a_tensor_too_many_is_named(copied: Path) -> None:
    edit(copied, lambda weights: weights.update({"model.extra.weight": mx.zeros((1,))}))
    with pytest.raises(CheckpointError, match=r"model\.extra\.weight is not part of this model"):
        load(copied)


@pytest.mark.parametrize(
    ("keep", "says"), [(-1, "its header says"), (4, "not a safetensors file"), (0, "not a safetensors file")]
)
def test_a_cut_file_is_told_before_anything_is_read(copied: Path, keep: int, says: str) -> None:
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=says):
        load(copied)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mrope_section": [4, 2, 1]}, "must add up to 8"),
        ({"hidden_act": "gelu"}, "expected 'silu'"),
        ({"num_key_value_heads": 3}, "cannot share 3"),
    ],
)
def test_a_config_that_cannot_be(copied: Path, change: dict[str, object], says: str) -> None:
    path = copied / "config.json"
    config = json.loads(path.read_bytes())
    section = change.pop("mrope_section", None)
    if section:
        config["text_config"]["rope_scaling"]["mrope_section"] = section
    config["text_config"] |= change
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=says):
        load(copied)


def test_a_config_without_a_key(copied: Path) -> None:
    (copied / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json has no 'text_config'"):
        load(copied)


def community(folder: Path, bits: int | None) -> None:
    """Rewrite a folder in the MLX community's layout, the decoder quantised to `bits`."""
    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    main, heads = {}, {}
    for name, array in weights.items():
        inner = name.removeprefix("model.")
        if name.startswith("model.language_model."):
            main["language_model.model." + inner.removeprefix("language_model.")] = array
        elif name == "model.visual.patch_embed.proj.weight":
            main["vision_tower.patch_embed.proj.weight"] = array.transpose(0, 2, 3, 4, 1)
        elif name.startswith("model.visual."):
            main["vision_tower." + inner.removeprefix("visual.")] = array
        elif name == "lm_head.weight":
            main["language_model.lm_head.weight"] = array
        else:
            heads[inner.replace("mlp.0.", "fc1.").replace("mlp.2.", "fc2.")] = array
    if bits is not None:
        for name in [name for name in main if name.endswith(("_proj.weight", "embed_tokens.weight"))]:
            stem = name.removesuffix(".weight")
            main[name], main[f"{stem}.scales"], main[f"{stem}.biases"] = mx.quantize(
                main[name], group_size=32, bits=bits
            )
    (folder / "extras").mkdir()
    mx.save_safetensors(str(folder / "extras" / "custom_heads.safetensors"), heads)
    mx.save_safetensors(str(folder / "model.safetensors"), main)


def picture(folder: Path) -> NDArray[np.uint8]:
    """A render with a reference, so that every part of the checkpoint takes part."""
    spec = RenderSpec(prompt="a hen", width=64, height=64, seed=1, steps=3, references=["0" * 64])
    *_, step = HiDreamEngine.load(folder, dtype=mx.float32).render(spec, [Image.new("RGB", (80, 70), "teal")])
    assert step.pixels is not None
    return step.pixels


def test_the_community_layout_draws_the_same_picture(copied: Path) -> None:
    released = picture(copied)
    community(copied, bits=None)
    assert np.array_equal(picture(copied), released)


@pytest.mark.parametrize(("bits", "far"), [(8, 0.01), (6, 0.03), (4, 0.2)])
def test_stored_scales_decide_what_is_quantised(copied: Path, bits: int, far: float) -> None:
    released = picture(copied).astype(float)
    community(copied, bits)
    layer = load(copied).decoder.layers[0]
    assert isinstance(layer.down_proj.weight, Quantized)
    assert (layer.down_proj.weight.bits, layer.down_proj.weight.group_size) == (bits, 32)
    error = np.abs(picture(copied) - released).mean() / 255
    assert 0 < error < far


def test_scales_that_fit_no_width_are_told(copied: Path) -> None:
    community(copied, bits=4)
    name = "language_model.model.layers.0.mlp.up_proj.scales"
    edit(copied, lambda weights: weights.update({name: mx.zeros((192, 5))}))
    with pytest.raises(CheckpointError, match=r"up_proj\.weight has shape \[192, 8\] with scales \[192, 5\]"):
        load(copied)


def test_bfloat16_draws_nearly_the_same(copied: Path) -> None:
    exact = picture(copied).astype(float)
    *_, step = HiDreamEngine.load(copied, dtype=mx.bfloat16).render(
        RenderSpec(prompt="a hen", width=64, height=64, seed=1, steps=3, references=["0" * 64]),
        [Image.new("RGB", (80, 70), "teal")],
    )
    assert step.pixels is not None
    assert 0 < np.abs(step.pixels - exact).mean() < 3
