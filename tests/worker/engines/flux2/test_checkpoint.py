"""Every name, shape and type of a folder is accounted for, and what is written of one is what was read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from pixelkiln.worker.engines.checkpoints.manifest import Manifest, digest
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.families import family_in
from pixelkiln.worker.engines.flux2.checkpoint import PARTS, TEXT, TRANSFORMER, VAE, tensors, weight_files
from pixelkiln.worker.engines.flux2.convert import convert
from pixelkiln.worker.engines.flux2.engine import Flux2Engine
from pixelkiln.worker.engines.flux2.family import Flux2
from tests.worker.engines.flux2.folders import last, spec

WEIGHTS = "diffusion_pytorch_model.safetensors"


def edit(file: Path, change: Callable[[dict[str, mx.array]], object]) -> None:
    weights = mx.load(str(file))
    assert isinstance(weights, dict)
    mx.eval(list(weights.values()))
    change(weights)
    mx.save_safetensors(str(file), weights)


def picture(folder: Path) -> bytes:
    job = spec(references=["0" * 64])
    made = last(Flux2Engine.load(folder, dtype=mx.float32), job, [Image.new("RGB", (80, 64), "red")]).pixels
    assert made is not None
    return made.tobytes()


@pytest.mark.parametrize(
    ("file", "name"),
    [
        (f"{TRANSFORMER}/{WEIGHTS}", "transformer_blocks.1.attn.to_add_out.weight"),
        (f"{TRANSFORMER}/{WEIGHTS}", "single_transformer_blocks.2.attn.norm_q.weight"),
        (f"{VAE}/{WEIGHTS}", "bn.running_var"),
        (f"{VAE}/{WEIGHTS}", "encoder.quant_conv.weight"),
        (f"{TEXT}/model-00001-of-00002.safetensors", "model.layers.3.mlp.up_proj.weight"),
    ],
)
def test_what_is_missing_misshapen_or_of_another_type_is_named(copied: Path, file: str, name: str) -> None:
    name = name.replace("encoder.quant", "quant")
    pattern = name.replace(".", r"\.")
    edit(copied / file, lambda weights: weights.update({name: weights[name][..., :-1]}))
    with pytest.raises(CheckpointError, match=rf"tensor {pattern} has shape .*config\.json expects"):
        Flux2Engine.load(copied)
    edit(copied / file, lambda weights: weights.update({name: mx.zeros((2, 2), mx.uint32)}))
    with pytest.raises(CheckpointError, match=pattern):
        Flux2Engine.load(copied)
    edit(copied / file, lambda weights: weights.update({name: mx.zeros((2, 2), mx.uint8)}))
    with pytest.raises(CheckpointError, match=rf"tensor {pattern} is U8, expected a float"):
        Flux2Engine.load(copied)
    edit(copied / file, lambda weights: weights.pop(name))
    with pytest.raises(CheckpointError, match=rf"has no tensor {pattern}"):
        Flux2Engine.load(copied)


@pytest.mark.parametrize("part", [TRANSFORMER, VAE])
def test_what_is_no_part_of_the_model_is_named(copied: Path, part: str) -> None:
    edit(copied / part / WEIGHTS, lambda weights: weights.update(extra=mx.zeros(1, mx.bfloat16)))
    with pytest.raises(CheckpointError, match="tensor extra is not part of this model"):
        Flux2Engine.load(copied)


def test_a_tensor_in_two_files_is_refused(copied: Path) -> None:
    shutil.copy(copied / TRANSFORMER / WEIGHTS, copied / TRANSFORMER / "more.safetensors")
    with pytest.raises(CheckpointError, match=r"is in .* and .*: move the file that does not belong there"):
        Flux2Engine.load(copied)


def test_foreign_files_harm_nothing(copied: Path) -> None:
    before = picture(copied)
    edit_me = copied / "flux-2-klein-4b.safetensors"
    shutil.copy(copied / VAE / WEIGHTS, edit_me)
    (copied / TRANSFORMER / f"._{WEIGHTS}").write_bytes(b"\0")
    (copied / TEXT / "foreign.safetensors").write_bytes(b"no weights")  # the index does not name it
    assert picture(copied) == before
    assert not {edit_me.name, "foreign.safetensors"} & {file.name for file in weight_files(copied)}


def test_a_shard_that_is_missing_is_named(copied: Path) -> None:
    (copied / TEXT / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors is missing"):
        Flux2Engine.load(copied)


def test_16_bits_keep_every_picture_and_leave_what_is_not_used(copied: Path, tmp_path: Path) -> None:
    made = convert(copied, tmp_path / "same", 16, shard_bytes=400_000)
    assert picture(tmp_path / "same") == picture(copied)
    assert made == Manifest.read(tmp_path / "same")
    assert made.digest == digest(tmp_path / "same", weight_files(tmp_path / "same"))
    left = {part: tensors(copied, part).keys() - tensors(tmp_path / "same", part).keys() for part in PARTS}
    assert left[TRANSFORMER] == set()
    assert left[VAE] == {"bn.num_batches_tracked"}
    assert {name.split(".")[1] for name in left[TEXT]} == {"norm", "layers"}
    assert all(name.startswith(("model.norm.", "model.layers.27.")) for name in left[TEXT])
    assert (tmp_path / "same" / "tokenizer" / "tokenizer.json").exists()
    assert json.loads((tmp_path / "same" / "model_index.json").read_bytes())["is_distilled"] is True


@pytest.mark.parametrize("bits", [8, 6, 5, 4])
def test_every_width_quantises_blocks_alone(copied: Path, tmp_path: Path, bits: int) -> None:
    convert(copied, tmp_path / "few", bits)
    quantised = {
        part: {name.removesuffix(".scales") for name in tensors(tmp_path / "few", part) if ".scales" in name}
        for part in PARTS
    }
    assert quantised[VAE] == set()
    assert len(quantised[TEXT]) == 27 * 7
    assert len(quantised[TRANSFORMER]) == 2 * 12 + 3 * 2
    assert all("transformer_blocks." in name for name in quantised[TRANSFORMER])
    few = np.frombuffer(picture(tmp_path / "few"), np.uint8).astype(int)
    full = np.frombuffer(picture(copied), np.uint8).astype(int)
    assert 0 < np.abs(few - full).mean() < 40
    with pytest.raises(CheckpointError, match="which cannot be undone"):
        convert(tmp_path / "few", tmp_path / "other", 6 if bits == 8 else 8)


def test_the_layout_tells_the_family_and_the_index_the_recipe(tiny: Path, tmp_path: Path) -> None:
    assert isinstance(family_in(tiny), Flux2)
    with pytest.raises(CheckpointError, match="these are another model's weights"):
        convert(tiny, tmp_path / "base", 16, model="flux2-klein-base-4b")
    assert convert(tiny, tmp_path / "klein", 16, model="flux2-klein-4b").recipe == "distilled"
