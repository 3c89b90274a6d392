"""What lies in a checkpoint folder: what is refused, and what changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker import engines
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.checkpoints.stored import tensors, weight_files
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.families import family_in
from pixelkiln.worker.engines.z_image.checkpoint import checked
from pixelkiln.worker.engines.z_image.convert import convert
from pixelkiln.worker.engines.z_image.family import ZImage

Change = Callable[[dict[str, mx.array]], None]
PAD = "x_pad_token"
SPEC = RenderSpec(prompt="x", model="z-image-turbo", width=64, height=64, seed=1)


def rewrite(folder: Path, part: str, name: str, change: Change) -> None:
    """Change the file of a part that holds a tensor."""
    file = tensors(weight_files(folder / part))[name].file
    held = mx.load(str(file))
    assert isinstance(held, dict)
    change(held)
    mx.eval(held)
    mx.save_safetensors(str(file), held)


@pytest.mark.parametrize(
    ("part", "name", "change", "line"),
    [
        ("transformer", PAD, lambda held: held.pop(PAD), "has no tensor x_pad_token"),
        ("transformer", PAD, lambda held: held.update(more=held[PAD]), "more is not part of this model"),
        (
            "transformer",
            PAD,
            lambda held: held.update({PAD: held[PAD].T}),
            r"x_pad_token has shape \[96, 1\]",
        ),
        (
            "transformer",
            PAD,
            lambda held: held.update({PAD: mx.zeros((1, 96), mx.int32)}),
            "x_pad_token is I32, expected a float",
        ),
        (
            "vae",
            "encoder.conv_in.bias",
            lambda held: held.pop("encoder.conv_in.bias"),
            r"no tensor encoder\.conv_in",
        ),
        (
            "text_encoder",
            "model.layers.1.mlp.up_proj.weight",
            lambda held: held.pop("model.layers.1.mlp.up_proj.weight"),
            r"no tensor model\.layers\.1\.mlp\.up_proj",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(
    copied: Path, part: str, name: str, change: Change, line: str
) -> None:
    rewrite(copied, part, name, change)
    with pytest.raises(CheckpointError, match=line):
        checked(copied)


def test_one_tensor_in_two_files_is_refused_and_foreign_files_harm_nothing(copied: Path) -> None:
    (copied / "vae" / "._diffusion_pytorch_model.safetensors").write_bytes(b"what macOS keeps")
    (copied / "transformer" / "other.safetensors").write_bytes(b"named by no index")
    (copied / "notes.safetensors").write_bytes(b"beside the parts")
    engines.load(copied).close()
    shutil.copy(copied / "vae" / "diffusion_pytorch_model.safetensors", copied / "vae" / "copy.safetensors")
    with pytest.raises(CheckpointError, match=r"is in copy\.safetensors and diffusion_pytorch_model"):
        engines.load(copied)


def test_the_base_model_is_refused_by_its_shift(copied: Path, tmp_path: Path) -> None:
    path = copied / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "shift": 6.0}))
    line = r"scheduler_config\.json: shift is 6, Z-Image's \(base\), and Z-Image-Turbo's is 3"
    for use in (
        lambda: engines.estimate(copied),
        lambda: engines.load(copied),
        lambda: convert(copied, tmp_path / "new", 16),
    ):
        with pytest.raises(CheckpointError, match=line):
            use()


def test_a_released_folder_is_recognised(tiny: Path) -> None:
    assert isinstance(family_in(tiny), ZImage)


@pytest.mark.parametrize("bits", [4, 5, 6, 8, 16])
def test_a_conversion_keeps_what_renders_use(tiny: Path, tmp_path: Path, bits: int) -> None:
    target = tmp_path / "new"
    made = convert(tiny, target, bits, model="z-image-turbo")
    assert made == Manifest.read(target)
    assert (made.bits, made.recipe, made.digest) == (bits, "turbo", engines.check_digest(target))
    assert checked(target).widths == (set() if bits == 16 else {bits})
    text = tensors(weight_files(target / "text_encoder"))
    assert not [name for name in text if name.startswith(("model.layers.2.", "model.norm."))]
    stored = tensors(weight_files(target / "transformer"))
    for name, one in tensors(weight_files(tiny / "transformer")).items():
        linear = ".attention.to_" in name or ".feed_forward." in name
        assert (stored[name].dtype == "U32") == (linear and bits != 16)
        if not linear:
            assert (stored[name].dtype, stored[name].shape) == ("BF16", one.shape)
    for beside in ("model_index.json", "tokenizer/tokenizer.json", "scheduler/scheduler_config.json"):
        assert (target / beside).read_bytes() == (tiny / beside).read_bytes()
    engine = engines.load(target)
    *_, last = engine.render(SPEC)
    assert last.facts is not None
    assert last.facts.bits == bits
    assert engine.bytes_needed(SPEC) >= engines.estimate(target).bytes_needed(SPEC)
    engine.close()
