"""A checkpoint of several folders, as other families release theirs."""

from __future__ import annotations

import json
from pathlib import Path

import mlx.core as mx
import pytest

from pixelkiln.worker.engines.checkpoints.convert import Part, convert
from pixelkiln.worker.engines.checkpoints.manifest import Manifest, digest
from pixelkiln.worker.engines.checkpoints.quantize import Widths
from pixelkiln.worker.engines.checkpoints.stored import tensors, weight_files
from pixelkiln.worker.engines.checkpoints.weights import Weights
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.mlx.layers import Quantized

INDEX = "diffusion_pytorch_model.safetensors.index.json"
ABOUT = Manifest(model="demo", recipe="any", bits=6, source="test", revision="1", digest="sha256:" + "0" * 64)


def rule(bits: int) -> Widths:
    return Widths(bits, linear=lambda name: name.startswith("blocks."), sensitive=lambda name: False)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two folders with weights, one of them in shards under another index, and one without."""
    folder = tmp_path / "source"
    for name in ("transformer", "vae", "tokenizer"):
        (folder / name).mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    keys = iter(mx.random.split(mx.random.key(0), 9))
    where = {}
    for shard in "ab":
        made = {f"blocks.{shard}.weight": mx.random.normal((64, 128), key=next(keys)).astype(mx.bfloat16)}
        made[f"norm.{shard}.weight"] = mx.ones((64,), mx.bfloat16)
        mx.save_safetensors(str(folder / "transformer" / f"{shard}.safetensors"), made)
        where |= dict.fromkeys(made, f"{shard}.safetensors")
    (folder / "transformer" / INDEX).write_text(json.dumps({"weight_map": where}))
    (folder / "transformer" / "config.json").write_text(json.dumps({"layers": 2}))
    conv = mx.random.normal((8, 4, 3, 3), key=next(keys))
    mx.save_safetensors(str(folder / "vae" / "diffusion_pytorch_model.safetensors"), {"conv.weight": conv})
    (folder / "vae" / "config.json").write_text("{}")
    return folder


def parts(source: Path, bits: int) -> list[Part]:
    transformer = tensors(weight_files(source / "transformer"))
    vae = tensors(weight_files(source / "vae"))
    return [
        Part({}),
        Part(vae, name="vae"),
        Part({}, name="tokenizer"),
        Part(transformer, rule(bits), name="transformer"),
    ]


def all_weights(folder: Path) -> list[Path]:
    return [file for name in ("transformer", "vae") for file in weight_files(folder / name)]


def test_each_folder_is_converted_by_its_own_rule(source: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    made = convert(
        source, tmp_path / "six", ABOUT, parts(source, 6), lambda *one: seen.append(one), shard_bytes=8000
    )
    target = tmp_path / "six"
    assert Manifest.read(target) == made
    assert made.digest == digest(target, all_weights(target))
    assert seen[-1][1] == seen[-1][2] > 0
    names = {path.relative_to(target).as_posix() for path in target.rglob("*.json")}
    index = "transformer/model.safetensors.index.json"
    configs = {"transformer/config.json", "vae/config.json", "tokenizer/tokenizer.json", "model_index.json"}
    assert names == {*configs, index, "kiln.json"}
    config = json.loads((target / "transformer" / "config.json").read_bytes())
    assert config == {"layers": 2, "quantization": {"group_size": 64, "bits": 6, "mode": "affine"}}
    assert json.loads((target / "vae" / "config.json").read_bytes()) == {}

    stored = tensors(weight_files(target / "transformer"))
    weights = Weights(target, stored, mx.float32)
    linear = weights.linear("blocks.a", 128, 64)
    assert isinstance(linear.weight, Quantized)
    assert linear.weight.bits == 6
    weights.norm("norm.a", 64, 1e-6)
    with pytest.raises(CheckpointError, match=r"tensor blocks\.b\.biases is not part of this model"):
        weights.finish(ignore=())
    assert [one.dtype for one in tensors(weight_files(target / "vae")).values()] == ["BF16"]


def test_a_quantised_folder_is_copied_or_refused(source: Path, tmp_path: Path) -> None:
    first = convert(source, tmp_path / "six", ABOUT, parts(source, 6))

    def again(bits: int) -> list[Part]:
        stored = tensors(weight_files(tmp_path / "six" / "transformer"))
        vae = Part(tensors(weight_files(tmp_path / "six" / "vae")), name="vae")
        return [vae, Part(stored, rule(bits), frozenset({6}), "transformer")]

    assert convert(tmp_path / "six", tmp_path / "same", ABOUT, again(6)).digest == first.digest
    with pytest.raises(CheckpointError, match="quantised to 6 bits, which cannot be undone"):
        convert(tmp_path / "six", tmp_path / "four", ABOUT, again(4))
    assert not (tmp_path / "four").exists()
