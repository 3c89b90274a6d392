from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.checkpoints.manifest import Manifest
from pixelkiln.worker.engines.checkpoints.quantize import quantize
from pixelkiln.worker.engines.checkpoints.staging import staged
from pixelkiln.worker.engines.checkpoints.stored import INDEX, Stored
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.hidream.checkpoint import digest, tensors, weight_files
from pixelkiln.worker.engines.hidream.convert import convert
from pixelkiln.worker.engines.hidream.engine import HiDreamEngine


def picture(folder: Path, *references: Image.Image) -> bytes:
    engine = HiDreamEngine.load(folder, dtype=mx.float32)
    spec = RenderSpec(
        model="hidream-o1-full",
        prompt="a red fox",
        width=64,
        height=64,
        seed=0,
        steps=4,
        references=["0" * 64] * len(references),
    )
    *_, step = engine.render(spec, references)
    assert step.pixels is not None
    return step.pixels.tobytes()


def community(folder: Path) -> Path:
    """Rewrite a checkpoint of the released layout as the MLX community's."""
    renamed = {
        "model.language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
        "model.visual.": "vision_tower.",
        "model.t_embedder1.mlp.0.": "t_embedder1.fc1.",
        "model.t_embedder1.mlp.2.": "t_embedder1.fc2.",
        "model.x_embedder.": "x_embedder.",
        "model.final_layer2.": "final_layer2.",
    }
    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    mx.eval(list(weights.values()))
    backbone, heads = {}, {}
    for name, array in weights.items():
        old, new = next((old, new) for old, new in renamed.items() if name.startswith(old))
        if array.ndim == 5:  # MLX keeps a convolution's channels last
            array = mx.contiguous(array.transpose(0, 2, 3, 4, 1))
        into = heads if new.startswith(("t_embedder1", "x_embedder", "final_layer2")) else backbone
        into[new + name.removeprefix(old)] = array
    (folder / "extras").mkdir()
    mx.save_safetensors(str(folder / "model.safetensors"), backbone)
    mx.save_safetensors(str(folder / "extras" / "custom_heads.safetensors"), heads)
    return folder


def stored(folder: Path) -> dict[str, Stored]:
    return tensors(folder)


def test_sixteen_bits_keep_every_picture(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    source, reference = checkpoint("full"), Image.new("RGB", (64, 64), "red")
    convert(source, tmp_path / "same", 16)
    for references in ([], [reference]):
        assert picture(tmp_path / "same", *references) == picture(source, *references)
    assert not any(name.startswith("lm_head") for name in stored(tmp_path / "same"))


def test_the_community_layout_loads_and_converts(
    checkpoint: Callable[[str], Path], copied: Path, tmp_path: Path
) -> None:
    source, reference = checkpoint("full"), Image.new("RGB", (64, 64), "red")
    shutil.copy(source / "kiln.json", community(copied))
    convert(copied, tmp_path / "same", 16)
    for references in ([], [reference]):
        same = picture(source, *references)
        assert picture(copied, *references) == same
        assert picture(tmp_path / "same", *references) == same
    assert {Path(one.file).name for one in stored(tmp_path / "same").values()} == {"model.safetensors"}


@pytest.mark.parametrize("bits", [8, 6, 5, 4])
def test_every_width_loads_and_renders(checkpoint: Callable[[str], Path], tmp_path: Path, bits: int) -> None:
    made = convert(checkpoint("full"), tmp_path / "few", bits)
    assert made.bits == bits
    few = np.frombuffer(picture(tmp_path / "few"), np.uint8).astype(int)
    full = np.frombuffer(picture(checkpoint("full")), np.uint8).astype(int)
    assert 0 < np.abs(few - full).mean() < {8: 3, 6: 8, 5: 16, 4: 32}[bits]
    config = json.loads((tmp_path / "few" / "config.json").read_bytes())
    assert config["quantization"] == {"group_size": 64, "bits": bits, "mode": "affine"}


def test_only_the_decoders_matrices_are_quantised(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    convert(checkpoint("full"), tmp_path / "few", 6)
    quantised = {name.removesuffix(".scales") for name in stored(tmp_path / "few") if name.endswith("scales")}
    assert len(quantised) == 4 * 7
    assert all("_proj" in name and name.startswith("model.language_model.layers.") for name in quantised)


def test_mixed_widths_follow_their_rule(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    made = convert(checkpoint("full"), tmp_path / "mixed", 4, mixed=True, group_size=32)
    assert made.mixed
    layers = HiDreamEngine.load(tmp_path / "mixed", dtype=mx.float32)
    assert layers.facts(RenderSpec(prompt="a red fox")).bits == 4
    words = {name: one.shape[-1] for name, one in stored(tmp_path / "mixed").items() if one.dtype == "U32"}
    assert words["model.language_model.layers.0.self_attn.q_proj.weight"] == 64 * 5 // 32
    assert words["model.language_model.layers.1.self_attn.q_proj.weight"] == 64 * 4 // 32
    assert words["model.language_model.layers.1.self_attn.v_proj.weight"] == 64 * 5 // 32
    assert words["model.language_model.layers.1.mlp.down_proj.weight"] == 192 * 5 // 32
    assert words["model.language_model.layers.3.mlp.gate_proj.weight"] == 64 * 5 // 32
    config = json.loads((tmp_path / "mixed" / "config.json").read_bytes())
    assert config["quantization"]["model.language_model.layers.2.mlp.down_proj"]["bits"] == 5
    assert picture(tmp_path / "mixed") != picture(checkpoint("full"))


def test_eight_bits_choose_their_integers_for_the_scales_as_stored() -> None:
    weight = mx.random.normal((64, 512), key=mx.random.key(3)).astype(mx.bfloat16)

    def error(packed: mx.array, scales: mx.array, biases: mx.array) -> float:
        back = mx.dequantize(packed, *(one.astype(mx.float32) for one in (scales, biases)), 64, 8)
        return float(mx.sqrt(mx.mean((back - weight.astype(mx.float32)) ** 2)).item())

    assert error(*quantize(weight, 64, 8)) < 0.75 * error(*mx.quantize(weight, 64, 8))
    flat = mx.full((2, 64), 0.5, mx.bfloat16)
    assert mx.array_equal(mx.dequantize(*quantize(flat, 64, 8), 64, 8), flat)


def test_shards_are_indexed_and_the_digest_is_the_folders(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    seen: list[tuple[str, int, int]] = []
    source = checkpoint("full")
    made = convert(source, tmp_path / "many", 6, shard_bytes=200_000, progress=lambda *one: seen.append(one))
    assert len(weight_files(tmp_path / "many")) > 2
    index = json.loads((tmp_path / "many" / INDEX).read_bytes())
    assert index["metadata"]["total_size"] == seen[-1][1] == seen[-1][2]
    assert made.digest == digest(tmp_path / "many")
    assert Manifest.read(tmp_path / "many") == made
    assert (made.source, made.revision) == ("test", "0")
    convert(source, tmp_path / "one", 6)
    assert picture(tmp_path / "many") == picture(tmp_path / "one")
    assert convert(tmp_path / "many", tmp_path / "again", 6).digest == digest(tmp_path / "one")


def test_float32_becomes_bfloat16(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    source = checkpoint("full")
    convert(source, tmp_path / "want", 6)
    weights = mx.load(str(source / "model.safetensors"))
    assert isinstance(weights, dict)
    mx.save_safetensors(
        str(source / "model.safetensors"), {name: one.astype(mx.float32) for name, one in weights.items()}
    )
    assert convert(source, tmp_path / "got", 6).digest == digest(tmp_path / "want")


def test_a_source_without_kiln_json_needs_a_model(copied: Path, tmp_path: Path) -> None:
    (copied / "kiln.json").unlink()
    with pytest.raises(CheckpointError, match=r"name one of hidream-o1-dev, "):
        convert(copied, tmp_path / "new", 16)
    made = convert(copied, tmp_path / "new", 16, model="hidream-o1-full", revision="abc")
    assert (made.recipe, made.source, made.revision) == ("full", "HiDream-ai/HiDream-O1-Image", "abc")
    with pytest.raises(CheckpointError, match="says hidream-o1-full, not hidream-o1-dev"):
        convert(tmp_path / "new", tmp_path / "other", 16, model="hidream-o1-dev")


def test_what_cannot_be_converted_says_why(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    source = checkpoint("full")
    convert(source, tmp_path / "six", 6)
    for bits, group_size, mixed, says in (
        (7, 64, False, "7 bits: use one of"),
        (6, 48, False, "groups of 48"),
        (8, 64, True, "mixed widths need"),
        (6, 128, False, r"tensor model\.language_model\..* columns, no multiple of 128"),
    ):
        with pytest.raises(CheckpointError, match=says):
            convert(source, tmp_path / "new", bits, group_size=group_size, mixed=mixed)
    with pytest.raises(CheckpointError, match="quantised to 6 bits, which cannot be undone"):
        convert(tmp_path / "six", tmp_path / "new", 8)
    with pytest.raises(CheckpointError, match="six exists: choose another folder"):
        convert(source, tmp_path / "six", 6)
    weights = mx.load(str(source / "model.safetensors"))
    assert isinstance(weights, dict)
    del weights["model.x_embedder.proj1.weight"]
    mx.save_safetensors(str(source / "model.safetensors"), weights)
    with pytest.raises(CheckpointError, match=r"has no tensor model\.x_embedder\.proj1\.weight"):
        convert(source, tmp_path / "new", 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["six"]


def test_a_full_disk_is_told_before_anything_is_written(
    checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2, 1, 1))  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match=r"its disk has 0\.0 GB free"):
        convert(checkpoint("full"), tmp_path / "new", 6)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint("full"), tmp_path / "new", 6, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_two_conversions_to_one_folder_do_not_mix(tmp_path: Path) -> None:
    with staged(tmp_path / "new") as folder:
        (folder / "mine").touch()
        with (
            pytest.raises(CheckpointError, match="is being written by another process"),
            staged(tmp_path / "new"),
        ):
            pass
        assert (folder / "mine").exists()
    assert (tmp_path / "new" / "mine").exists()


KILLED = """
import os, signal, sys
from pathlib import Path

def attempt(at):
    # Imported behind the fork: a process that has MLX in it must not fork on macOS.
    from pixelkiln.worker.engines.checkpoints import convert
    from pixelkiln.worker.engines.hidream import convert as hidream

    write_json = convert.write_json
    count = 0

    def here(*_):
        nonlocal count
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def late(*args):  # config.json and kiln.json are the last things written
        here()
        write_json(*args)

    convert.write_json = late
    hidream.convert(Path(sys.argv[1]), Path(sys.argv[2]), 6, shard_bytes=200_000, progress=here)

for at in map(int, sys.argv[3:]):
    child = os.fork()
    if not child:
        attempt(at)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, at
    assert not list(Path(sys.argv[2]).parent.rglob("kiln.json")), at
"""


def test_killing_a_conversion_leaves_no_folder_that_loads(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    source, target = checkpoint("full"), tmp_path / "new"
    written: list[str] = []
    convert(source, tmp_path / "whole", 6, progress=lambda name, *_: written.append(name))
    shutil.rmtree(tmp_path / "whole")
    last = len(written)
    points = [str(at) for at in (1, last // 2, last, last + 1, last + 2)]
    subprocess.run([sys.executable, "-c", KILLED, source, target, *points], check=True)
    with pytest.raises(CheckpointError):
        HiDreamEngine.load(target)
    assert convert(source, target, 6).digest == digest(target)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


MEASURED = """
import resource, sys
from pathlib import Path
from pixelkiln.worker.engines.hidream.convert import convert
import mlx.core as mx
mx.eval(mx.zeros(1))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_checkpoint(tiny: Path, tmp_path: Path) -> None:
    synthetic = Path(__file__).with_name("synthetic.py")
    source = tmp_path / "release"
    sizes = ["hidden_size=1024", "intermediate_size=6144", "vocab_size=40000"]
    subprocess.run([sys.executable, synthetic, tiny, source, *sizes], check=True)
    size = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    command = [sys.executable, "-c", MEASURED, source, tmp_path / "new", "6"]
    kilobytes = int(subprocess.check_output(command)) / (1024 if sys.platform == "darwin" else 1)
    assert size > 200e6
    assert kilobytes * 1024 < size / 2
