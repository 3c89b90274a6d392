"""What lies in a checkpoint folder: what is loaded of it, what is refused, and what changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker import engines
from pixelkiln.worker.engines.checkpoints import digests
from pixelkiln.worker.engines.checkpoints.installed import installed, left_out
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.families import family_in

SPEC = RenderSpec(prompt="x", width=64, height=64, seed=1)
Tensors = dict[str, tuple[str, list[int], bytes]]  # dtype, shape, contents
NORM = "model.language_model.norm.weight"
HEADS = "model.final_layer2.linear.weight"
TOWER = "model.visual.patch_embed.proj.weight"


def read(path: Path) -> Tensors:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    held = {}
    for name, one in header.items():
        first, last = (8 + length + at for at in one["data_offsets"])
        held[name] = (one["dtype"], one["shape"], data[first:last])
    return held


def write(path: Path, tensors: Tensors) -> None:
    header, body = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        offsets = [len(body), len(body) + len(content)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        body += content
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def zeroed(tensors: Tensors) -> Tensors:
    return {name: (dtype, shape, bytes(len(body))) for name, (dtype, shape, body) in tensors.items()}


def uses(folder: Path, target: Path) -> dict[str, Callable[[], object]]:
    return {
        "estimate": lambda: engines.estimate(folder).bytes_needed(SPEC),
        "load": lambda: engines.load(folder).close(),
        "convert": lambda: family_in(folder).convert(
            folder, target, 16, group_size=64, mixed=False, model=None, progress=None
        ),
    }


# --- types


def typed(folder: Path, name: str, dtype: str, width: int) -> None:
    """The tensor's values as another type of so many bytes."""
    tensors = read(folder / "model.safetensors")
    _, shape, _ = tensors[name]
    count = 1
    for side in shape:
        count *= side
    tensors[name] = (dtype, shape, bytes(count * width))
    write(folder / "model.safetensors", tensors)


@pytest.mark.parametrize(
    ("dtype", "width"),
    [("F8_E4M3", 1), ("F8_E5M2", 1), ("I8", 1), ("U8", 1), ("BOOL", 1), ("I16", 2), ("I32", 4), ("F64", 8)],
)
@pytest.mark.parametrize("name", [NORM, HEADS, TOWER])
def test_types_that_nothing_computes_are_refused(
    copied: Path, tmp_path: Path, name: str, dtype: str, width: int
) -> None:
    typed(copied, name, dtype, width)
    for use in uses(copied, tmp_path / "out").values():
        with pytest.raises(
            CheckpointError, match=rf"tensor {name} is {dtype}, expected a float .*pull the 16-bit"
        ):
            use()


@pytest.mark.parametrize("dtype", ["F8_E8M0", "F4", "F6_E2M3", "C64", "NF4"])
def test_types_that_nobody_knows_are_refused(copied: Path, tmp_path: Path, dtype: str) -> None:
    typed(copied, NORM, dtype, 1)
    for use in uses(copied, tmp_path / "out").values():
        with pytest.raises(CheckpointError, match=rf'tensor {NORM} is "{dtype}", a type that is not read'):
            use()


@pytest.mark.parametrize(("dtype", "width"), [("F32", 4), ("F16", 2), ("BF16", 2)])
def test_floats_are_loaded(copied: Path, tmp_path: Path, dtype: str, width: int) -> None:
    typed(copied, NORM, dtype, width)
    for use in uses(copied, tmp_path / "out").values():
        use()


def test_integers_without_scales_are_refused(copied: Path) -> None:
    typed(copied, HEADS, "U32", 4)
    with pytest.raises(CheckpointError, match=f"tensor {HEADS} is U32, expected a float"):
        engines.load(copied)


# --- the same tensor twice


@pytest.mark.parametrize("other", ["old.safetensors", "a copy.safetensors", "model.fp16.safetensors"])
@pytest.mark.parametrize("part", ["all", "one", "the other layout's name"])
def test_a_tensor_in_two_files_is_refused(copied: Path, tmp_path: Path, other: str, part: str) -> None:
    tensors = read(copied / "model.safetensors")
    if part == "one":
        tensors = {NORM: tensors[NORM]}
    elif part != "all":
        tensors = {"final_layer2.linear.weight": tensors[HEADS]}
    write(copied / other, zeroed(tensors))
    for use in uses(copied, tmp_path / "out").values():
        with pytest.raises(CheckpointError, match=r"tensor .* is in .*model\.safetensors.*: move the file"):
            use()


def test_a_tensor_in_two_files_of_an_index_is_refused(copied: Path) -> None:
    tensors = read(copied / "model.safetensors")
    write(copied / "more.safetensors", {NORM: tensors[NORM]})
    index = {"weight_map": dict.fromkeys(tensors, "model.safetensors") | {NORM: "more.safetensors"}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"is in model\.safetensors and more\.safetensors"):
        engines.load(copied)


# --- what lies about


def foreign(folder: Path) -> dict[str, Callable[[], object]]:
    """Each puts something beside the weights that does not belong to them."""
    tensors = zeroed(read(folder / "model.safetensors"))
    double = b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(4000)
    index = {"weight_map": dict.fromkeys(tensors, "model.safetensors")}

    def indexed() -> None:
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        write(folder / "old.safetensors", tensors)

    return {
        ".DS_Store": lambda: (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1"),
        "AppleDouble weights": lambda: (folder / "._model.safetensors").write_bytes(double),
        "AppleDouble json": lambda: [
            (folder / f"._{name}").write_bytes(double)
            for name in ("kiln.json", "config.json", "tokenizer.json")
        ],
        "hidden weights": lambda: write(folder / ".old.safetensors", tensors),
        "a folder of weights": lambda: write(folder / "old" / "model.safetensors", tensors),
        "a hidden folder of weights": lambda: write(folder / ".cache" / "model.safetensors", tensors),
        "an index of another name": lambda: (folder / "old.safetensors.index.json").write_text(
            '{"weight_map": 7}'
        ),
        "weights that no index names": indexed,
        "parts of a download": lambda: (folder / "model.safetensors.incomplete").write_bytes(bytes(900)),
        "other formats": lambda: [
            (folder / f"model.{end}").write_bytes(bytes(9)) for end in ("bin", "gguf", "pt")
        ],
        "a README": lambda: (folder / "README.md").write_text("# A model"),
        "extras of another's": lambda: write(folder / "extras" / "lora.safetensors", tensors),
    }


NAMES = sorted(foreign(Path(__file__).parents[3] / "golden" / "tiny-hidream-o1"))


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_about_changes_nothing(copied: Path, tmp_path: Path, name: str) -> None:
    def told() -> tuple[Any, ...]:
        engine = engines.load(copied)
        pixels = [step.pixels for step in engine.render(SPEC)][-1]
        engine.close()
        assert pixels is not None
        target = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        made = family_in(copied).convert(
            copied, target, 16, group_size=64, mixed=False, model=None, progress=None
        )
        written = sorted(path.name for path in target.iterdir() if path.name != "old.safetensors.index.json")
        needed = engines.estimate(copied).bytes_needed(SPEC)
        kinds = {kind for kind, one in installed(copied.parent).items() if one.folder == copied}
        return pixels.tobytes(), needed, engines.digest(copied, None), made.digest, written, kinds

    before = told()
    assert engines.check_digest(copied) == before[2]
    foreign(copied)[name]()
    assert told() == before
    assert engines.check_digest(copied) == before[2]


# --- the digest of what is loaded


def test_the_digest_is_read_once_and_again_after_a_change(
    copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []
    real = digests.digest
    monkeypatch.setattr(digests, "digest", lambda folder, files: looked.append(folder) or real(folder, files))
    cache, weights = tmp_path / "cache", copied / "model.safetensors"
    said = json.loads((copied / "kiln.json").read_bytes())["digest"]
    assert engines.digest(copied, cache) == engines.digest(copied, cache) == said
    assert len(looked) == 1
    write(tmp_path / "new", zeroed(read(weights)))
    shutil.copystat(weights, tmp_path / "new")  # as old as the other, and as large
    (tmp_path / "new").replace(weights)
    changed = engines.digest(copied, cache)
    assert changed == engines.digest(copied, None) != said
    for spoiled in (b"", b"[]", b'{"files": []}', b"\xff"):
        next(cache.glob("weights-*.json")).write_bytes(spoiled)
        assert engines.digest(copied, cache) == changed
    (tmp_path / "file").write_bytes(b"")
    assert engines.digest(copied, tmp_path / "file" / "cache") == changed  # nowhere to keep it


def test_weights_that_change_while_they_are_read_are_told(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = digests.digest

    def slow(folder: Path, files: list[Path]) -> str:
        found = real(folder, files)
        (folder / "model.safetensors").touch()
        return found

    monkeypatch.setattr(digests, "digest", slow)
    with pytest.raises(CheckpointError, match="its weights changed while they were read"):
        engines.digest(copied, None)


# --- folders


def test_a_mark_before_json_is_no_matter(copied: Path) -> None:
    for path in copied.glob("*.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    engines.load(copied).close()
    assert "hidream-o1-dev:bf16" in installed(copied.parent)
    assert left_out(copied.parent) == {}


@pytest.mark.parametrize("use", ["load", "estimate", "convert"])
def test_a_folder_that_is_not_there_is_told(tmp_path: Path, use: str) -> None:
    with pytest.raises(CheckpointError, match="nowhere is not there: name the folder that holds the weights"):
        uses(tmp_path / "nowhere", tmp_path / "out")[use]()
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is no folder: name the folder"):
        uses(tmp_path / "model.safetensors", tmp_path / "out")[use]()


def test_what_is_not_served_is_named_with_the_way_out(copied: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    good = Path(shutil.copytree(copied, models / "good"))
    assert left_out(models) == {}
    assert left_out(tmp_path / "nowhere") == {}
    assert list(left_out(good)) == [good]
    assert "is a checkpoint itself: set KILN_MODELS_DIR" in left_out(good)[good]
    assert "is no folder: set KILN_MODELS_DIR" in left_out(good / "kiln.json")[good / "kiln.json"]

    def wrong(name: str, change: Callable[[Path], object]) -> str:
        folder = models / name
        change(Path(shutil.copytree(copied, folder)))
        told = left_out(models)
        shutil.rmtree(folder)
        return told.pop(folder, "") if len(told) == 1 else ""

    def saying(**fields: Any) -> Callable[[Path], object]:
        known = json.loads((copied / "kiln.json").read_bytes())
        return lambda folder: (folder / "kiln.json").write_text(json.dumps(known | fields))

    def deeper(folder: Path) -> None:
        (folder / "inner").mkdir()
        for path in folder.iterdir():
            if path.is_file():
                path.rename(folder / "inner" / path.name)

    def snapshot(folder: Path) -> None:
        shutil.copytree(copied, folder / "snapshots" / "1")
        emptied(folder)

    def emptied(folder: Path) -> None:
        for path in folder.iterdir():
            if path.is_file():
                path.unlink()

    missing = wrong("bare", lambda folder: (folder / "kiln.json").unlink())
    assert "kiln.json is missing, so nothing says which recipe" in missing
    assert f"run 'kiln models convert {models / 'bare'} <new folder> --bits 16 --model NAME'" in missing
    assert "kiln.json cannot be read" in wrong("torn", lambda folder: (folder / "kiln.json").write_text("{"))
    assert "bits: " in wrong("odd", saying(bits=7))
    assert "model: there are hidream-o1-dev, " in wrong("unknown", saying(model="dall-e"))
    assert f"is hidream-o1-dev:bf16, as is {good}, which is served" in wrong("second", lambda folder: None)
    assert f"inner is looked for in {models}: move it there" in wrong("deep", deeper)
    assert f"{models / 'cache' / 'snapshots' / '1'} is looked for" in wrong("cache", snapshot)
    assert "holds no checkpoint: remove it" in wrong("nothing", emptied)
    (models / ".good.partial").mkdir()
    shutil.copy(good / "kiln.json", models / ".good.partial")
    assert left_out(models) == {}
    assert installed(models)["hidream-o1-dev:bf16"].folder == good


def test_a_pointer_of_git_lfs_is_told(copied: Path) -> None:
    (copied / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    with pytest.raises(CheckpointError, match="it is a pointer of Git LFS, `git lfs pull`"):
        engines.load(copied)
