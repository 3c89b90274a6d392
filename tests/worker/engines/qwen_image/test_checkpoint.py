from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from pixelkiln.worker.engines.checkpoints.manifest import digest
from pixelkiln.worker.engines.checkpoints.stored import Stored
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.families import family_in
from pixelkiln.worker.engines.qwen_image.checkpoint import PARTS, checked, tensors, weight_files
from pixelkiln.worker.engines.qwen_image.config import Config
from pixelkiln.worker.engines.qwen_image.convert import convert
from pixelkiln.worker.engines.qwen_image.engine import QwenImageEngine
from pixelkiln.worker.engines.qwen_image.family import QwenImage
from pixelkiln.worker.engines.qwen_image.tokens import Prompts
from tests.worker.engines.qwen_image.synthetic import (
    DRAW,
    EDIT,
    LORA,
    OLDER,
    TINY,
    changed,
    described,
    released,
)

Weights = dict[str, mx.array]
FILES = {
    "transformer": "transformer/diffusion_pytorch_model-00001-of-00003.safetensors",
    "text_encoder": "text_encoder/model-00001-of-00003.safetensors",
    "vae": "vae/diffusion_pytorch_model.safetensors",
}
QUERIES = "transformer_blocks.0.attn.to_q"
NAMES = {
    "transformer": "transformer_blocks.0.txt_mod.1.weight",
    "text_encoder": "visual.blocks.0.mlp.down_proj.weight",
    "vae": "decoder.conv_in.weight",
}


def rewritten(folder: Path, part: str, change: Callable[[Weights], object]) -> None:
    weights = mx.load(str(folder / FILES[part]))
    assert isinstance(weights, dict)
    mx.eval(list(weights.values()))
    change(weights)
    mx.save_safetensors(str(folder / FILES[part]), weights)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda weights, name: weights.pop(name), "has no tensor"),
        (lambda weights, name: weights.update(extra=weights[name]), "extra is not part of this model"),
        (lambda weights, name: weights.update({name: weights[name][:-1]}), "has shape"),
        (lambda weights, name: weights.update({name: weights[name].astype(mx.int8)}), "is I8, expected a"),
    ],
)
def test_every_tensor_is_accounted_for(
    tmp_path: Path, part: str, change: Callable[[Weights, str], object], says: str
) -> None:
    folder = described(tmp_path / "tiny")
    rewritten(folder, part, lambda weights: change(weights, NAMES[part]))
    with pytest.raises(CheckpointError, match=says):
        QwenImageEngine.load(folder)


def test_a_tensor_in_two_files_is_refused_and_foreign_files_harm_nothing(tmp_path: Path) -> None:
    folder = described(tmp_path / "tiny")
    before = digest(folder, weight_files(folder))
    mx.save_safetensors(str(folder / "transformer/foreign.safetensors"), {"x": mx.zeros(1)})
    mx.save_safetensors(str(folder / "whole.safetensors"), {"x": mx.zeros(1)})
    (folder / "vae/._diffusion_pytorch_model.safetensors").write_bytes(b"foreign")
    assert digest(folder, weight_files(folder)) == before
    checked(folder, EDIT)
    rewritten(folder, "transformer", lambda weights: weights.update({"proj_out.bias": mx.zeros(64)}))
    with pytest.raises(CheckpointError, match=r"proj_out\.bias is in .*: move the file"):
        checked(folder)


def test_weights_of_another_model_are_told(tmp_path: Path) -> None:
    for number, (found, said) in enumerate(((OLDER, EDIT), (EDIT, OLDER), (DRAW, EDIT))):
        folder = released(tmp_path / str(number), found)
        assert isinstance(family_in(folder), QwenImage)
        with pytest.raises(CheckpointError, match=f"its configs are of {found}, not of {said}"):
            convert(folder, tmp_path / "new", 16, model=said)
    changed(folder / "model_index.json", _class_name="QwenImageEditPipeline")
    with pytest.raises(CheckpointError, match=r"the first Qwen-Image-Edit, .*: pull qwen-image-edit-2511"):
        family_in(folder).convert(
            folder, tmp_path / "new", 16, group_size=64, mixed=False, model=EDIT, progress=None
        )


def test_a_recipe_that_is_not_qwen_s_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"recipe: 'turbo'; there are edit, draw, lightning-4"):
        QwenImageEngine.load(described(tmp_path / "tiny", recipe="turbo"))


def test_vocabulary_and_merges_make_the_same_tokenizer(tmp_path: Path) -> None:
    drawn = released(tmp_path / "draw", DRAW)
    one, other = (Prompts(folder, Config.read(folder)) for folder in (TINY, drawn))
    for prompt in ("a lighthouse, café „Köln“ 灯塔 🦊", "\n two  lines\n\n it's 1234 "):
        assert one.encode(prompt, False).ids == other.encode(prompt, False).ids
    assert len(one.encode("word " * 4000, False).ids) == one.encode("x", False).dropped + 1024
    assert len(one.encode("word " * 4000, True).ids) > 4000


@pytest.mark.parametrize("bits", [8, 6, 5, 4])
def test_only_layers_and_blocks_are_quantised(tmp_path: Path, bits: int) -> None:
    convert(TINY, tmp_path / "few", bits, model=EDIT)
    for part, count in (("transformer", 3 * 14), ("text_encoder", 3 * 7), ("vae", 0)):
        stored = tensors(tmp_path / "few", part)
        names = [name for name in stored if name.endswith(".scales")]
        assert len(names) == count
        assert not any(name.startswith(("visual", "lm_head", "img_in", "txt_in")) for name in names)
        assert not any(".time_conv." in name or name.startswith("lm_head") for name in stored)
    assert QwenImageEngine.load(tmp_path / "few", dtype=mx.float32)
    assert (tmp_path / "few/model_index.json").exists()
    assert (tmp_path / "few/processor/tokenizer.json").exists()
    with pytest.raises(CheckpointError, match="is quantised, and a LoRA belongs before that"):
        convert(tmp_path / "few", tmp_path / "new", bits, lora=LORA)


def test_a_lora_is_fused_before_rounding(tmp_path: Path) -> None:
    convert(TINY, tmp_path / "plain", 16, model=EDIT)
    made = convert(TINY, tmp_path / "fused", 16, model=EDIT, lora=LORA)
    assert made.recipe == "lightning-4"
    lora = mx.load(str(LORA))
    assert isinstance(lora, dict)
    stem = "transformer_blocks.1.img_mlp.net.2"
    parts = ("lora_down.weight", "lora_up.weight", "alpha")
    down, up, alpha = (lora[f"{stem}.{one}"].astype(mx.float32) for one in parts)
    folders = [tensors(tmp_path / one, "transformer") for one in ("plain", "fused")]
    plain, fused = (read(stored[f"{stem}.weight"]) for stored in folders)
    wanted = (plain.astype(mx.float32) + alpha / len(down) * (up @ down)).astype(mx.bfloat16)
    assert mx.array_equal(fused, wanted)
    assert not mx.array_equal(fused, plain)
    mod = "transformer_blocks.1.img_mod.1.weight"
    assert mx.array_equal(*(read(stored[mod]) for stored in folders))
    with pytest.raises(CheckpointError, match=r"has tiny-lightning-4steps.* in it already"):
        convert(tmp_path / "fused", tmp_path / "new", 6, lora=LORA)


def read(stored: Stored) -> mx.array:
    array = mx.load(str(stored.file))
    assert isinstance(array, dict)
    return array[stored.name]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda weights: weights.pop("transformer_blocks.0.attn.to_q.lora_down.weight"), "has no tensor"),
        (
            lambda weights: weights.update({"transformer_blocks.9.attn.to_q.alpha": mx.zeros(())}),
            "changes nothing",
        ),
        (
            lambda weights: weights.update(
                {"transformer_blocks.0.attn.to_q.lora_up.weight": mx.zeros((9, 4))}
            ),
            "has shape",
        ),
    ],
)
def test_a_lora_of_another_model_is_refused(
    tmp_path: Path, change: Callable[[Weights], object], says: str
) -> None:
    weights = mx.load(str(LORA))
    assert isinstance(weights, dict)
    mx.eval(list(weights.values()))
    change(weights)
    mx.save_safetensors(str(tmp_path / LORA.name), weights)
    with pytest.raises(CheckpointError, match=says):
        convert(TINY, tmp_path / "new", 16, model=EDIT, lora=tmp_path / LORA.name)
    shutil.copy(LORA, tmp_path / "style.safetensors")
    with pytest.raises(CheckpointError, match="does not say lightning and 4steps or 8steps"):
        convert(TINY, tmp_path / "new", 16, model=EDIT, lora=tmp_path / "style.safetensors")


def test_a_worker_of_another_family_imports_none_of_this() -> None:
    code = (
        "import sys, pixelkiln.worker.engines.hidream.engine;"
        " print(sorted(name for name in sys.modules if 'qwen_image' in name or 'qwen2_5' in name))"
    )
    found = subprocess.check_output([sys.executable, "-c", code], text=True)
    names = ["pixelkiln.worker.engines.qwen_image", "pixelkiln.worker.engines.qwen_image.family"]
    assert found == f"{names}\n"
