"""Checkpoint folders bent at random or on purpose: each loads, or one line says what is wrong with it."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker import engines
from pixelkiln.worker.engines import check_digest
from pixelkiln.worker.engines.checkpoints.installed import installed
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.families import family_in
from tests.tiny import TINY

GOLDEN = Path(__file__).parents[1] / "golden"
EDIT = RenderSpec(prompt="x", width=64, height=64, seed=1, references=["0" * 64])
ABSURD: list[Any] = [
    *(0, -1, 1, 7, 2**31, 2**63, 10**30, -(2**63), 1e30, 0.5, float("nan"), float("inf"), 1e-320),
    *(True, None, "", "x", "\x1b[31m\n", "../" * 9 + "etc/passwd", [], [[]], {}, [10**9] * 3, {"a": {}}),
]
SMALL = ["config.json", "kiln.json", "preprocessor_config.json", "tokenizer.json"]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a JSON value with each of its keys."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from places(value[key])


def bend_json(draw: random.Random, text: bytes) -> bytes:
    """A value replaced or left out, or the text cut, or nested deeper than any parser goes."""
    if draw.random() < 0.1:
        return draw.choice(
            [text[: draw.randrange(len(text))], b"[" * 100_000, b"\xff\xfe", b"[]", b"null", b""]
        )
    data = json.loads(text)
    for _ in range(draw.randint(1, 2)):
        found = list(places(data))
        # Few of a tokenizer's thousand places are not words.
        where, key = draw.choice(found[:200] if draw.random() < 0.5 else found)
        if isinstance(where, dict) and draw.random() < 0.2:
            del where[key]
        else:
            where[key] = deepcopy(draw.choice(ABSURD))
    return json.dumps(data).encode()


def bend_weights(draw: random.Random, data: bytes) -> bytes:
    """A header whose entries say something else."""
    length = int.from_bytes(data[:8], "little")
    header = bend_json(draw, data[8 : 8 + length])
    length = draw.choice([len(header)] * 8 + [0, 2**63, len(data)])
    return length.to_bytes(8, "little") + header + data[8 + int.from_bytes(data[:8], "little") :]


def uses(folder: Path, target: Path) -> dict[str, Callable[[], object]]:
    """All that is done with a folder."""
    return {
        "estimate": lambda: engines.estimate(folder).bytes_needed(EDIT),
        "load": lambda: engines.load(folder).close(),
        "convert": lambda: family_in(folder).convert(
            folder, target, 4, group_size=32, mixed=False, model=None, progress=None
        ),
        "digest": lambda: check_digest(folder),
        "verify": lambda: engines.verify(folder, GOLDEN, ["dev_t2i"]),
    }


def judge(folder: Path, target: Path, names: list[str]) -> int:
    """How many of these uses were refused; each in one line."""
    refused = 0
    for name in names:
        try:
            uses(folder, target)[name]()
        except CheckpointError as error:
            refused += 1
            told = str(error)
            assert told.isprintable(), (name, told)
            assert len(told) < 500, (name, told)
        shutil.rmtree(target, ignore_errors=True)
    assert "demo:bf16" in installed(folder.parent)
    return refused


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TINY, tmp_path / "models" / "tiny"))


@pytest.mark.parametrize("seed", range(4))
def test_any_small_file_is_read_or_told_in_one_line(copied: Path, seed: int, tmp_path: Path) -> None:
    draw, refused = random.Random(seed), 0
    for turn in range(60):
        name = SMALL[turn % len(SMALL)]
        whole = (TINY / name).read_bytes()
        (copied / name).write_bytes(bend_json(draw, whole))
        refused += judge(copied, tmp_path / "out", ["estimate", "load", "convert"])
        (copied / name).write_bytes(whole)
    assert refused > 60


@pytest.mark.parametrize("seed", range(2))
def test_any_weight_file_is_read_or_told_in_one_line(copied: Path, seed: int, tmp_path: Path) -> None:
    draw, whole, refused = random.Random(seed), (TINY / "model.safetensors").read_bytes(), 0
    for _ in range(40):
        (copied / "model.safetensors").write_bytes(bend_weights(draw, whole))
        refused += judge(copied, tmp_path / "out", ["estimate", "load", "convert", "digest"])
    assert refused > 80


# --- what a folder must not do, one by one


def told(folder: Path, target: Path, use: str = "convert") -> str:
    with pytest.raises(CheckpointError) as caught:
        uses(folder, target)[use]()
    assert not target.exists()
    return str(caught.value)


def change(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_bytes()) | fields))


@pytest.mark.parametrize("use", ["estimate", "load", "convert", "digest"])
@pytest.mark.parametrize("name", ["../other/model.safetensors", "/etc/passwd", "..", "config.json", 7, None])
def test_an_index_names_weight_files_of_its_folder_alone(
    copied: Path, tmp_path: Path, use: str, name: Any
) -> None:
    shutil.copytree(TINY, copied.parent / "other")
    index = {"weight_map": {"a": "model.safetensors", "b": name}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "which is no weight file of this folder" in told(copied, tmp_path / "out", use)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "LICENSE", "notes.txt", "config.json"])
def test_a_link_out_of_the_folder_is_not_copied(copied: Path, tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret.json"
    secret.write_bytes((TINY / "config.json").read_bytes())
    (copied / name).unlink(missing_ok=True)
    (copied / name).symlink_to(secret)
    assert f"{name} is a link out of its folder" in told(copied, tmp_path / "out")
    (copied / name).unlink()
    (copied / name).symlink_to("/dev/zero")
    told(copied, tmp_path / "out")


def test_a_hub_cache_of_links_is_read_and_converted(tmp_path: Path) -> None:
    home = tmp_path / "hub" / "models--who--what"
    snapshot, blobs = home / "snapshots" / "0123", home / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(TINY.iterdir())):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    target, umask = tmp_path / "out", os.umask(0o027)
    try:
        uses(snapshot, target)["convert"]()
    finally:
        os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in target.iterdir()} == {0o640}
    assert not any(path.is_symlink() for path in target.iterdir())
    assert (target / "tokenizer.json").read_bytes() == (TINY / "tokenizer.json").read_bytes()
    for use in ("load", "estimate", "digest"):
        uses(snapshot, tmp_path)[use]()
    (blobs / "secret").write_text("{}")
    foreign = home.parent / "models--who--else" / "blobs"
    foreign.mkdir(parents=True)
    (foreign / "1").write_text("{}")
    (snapshot / "notes.json").symlink_to(foreign / "1")
    assert "is a link out of its folder" in told(snapshot, tmp_path / "again")


def test_pipes_folders_and_huge_files_are_not_read(copied: Path, tmp_path: Path) -> None:
    for name in SMALL[:2] + SMALL[3:]:
        path, whole = copied / name, (copied / name).read_bytes()
        for make in (os.mkfifo, os.mkdir):
            path.unlink()
            make(path)
            assert f"{name} is no file" in told(copied, tmp_path / "out", "load")
            assert "demo:bf16" in installed(copied.parent)
            path.rmdir() if path.is_dir() else path.unlink()
            path.write_bytes(whole)
        os.truncate(path, 2**33)  # sparse
        assert f"{name} has 8,589,934,592 bytes" in told(copied, tmp_path / "out", "load")
        path.write_bytes(whole)
    (copied / "model.safetensors").unlink()
    os.mkfifo(copied / "model.safetensors")
    told(copied, tmp_path / "out", "load")


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("text_config", "num_hidden_layers", 10**9),
        ("text_config", "hidden_size", -64),
        ("text_config", "num_attention_heads", 0),
        ("text_config", "vocab_size", 2**63),
        ("text_config", "intermediate_size", 1e30),
        ("text_config", "rms_norm_eps", float("nan")),
        ("vision_config", "depth", 10**9),
        ("vision_config", "num_position_embeddings", 2**62),
        ("vision_config", "hidden_size", float("inf")),
    ],
)
def test_numbers_of_no_model_are_refused_before_they_are_used(
    copied: Path, tmp_path: Path, part: str, key: str, value: Any
) -> None:
    config = json.loads((copied / "config.json").read_bytes())
    change(copied / "config.json", **{part: {**config[part], key: value}})
    for use in ("estimate", "load", "convert"):
        assert f"config.json: {key} is {json.dumps(value)}, expected a" in told(copied, tmp_path / "out", use)


def test_tokens_beyond_the_table_are_refused(copied: Path, tmp_path: Path) -> None:
    change(copied / "config.json", image_token_id=10**6)
    assert "image_token_id is 1000000, expected" in told(copied, tmp_path / "out", "load")
    shutil.copy(TINY / "config.json", copied)
    tokenizer = json.loads((TINY / "tokenizer.json").read_bytes())
    tokenizer["model"]["vocab"]["zz"] = 10**6
    (copied / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "has a token 1000000" in told(copied, tmp_path / "out", "load")


def weights(path: Path, **entries: Any) -> None:
    """Rewrite some entries of a file's header; None drops one."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    for name, fields in entries.items():
        header[name] = {**header[name], **fields}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"data_offsets": [0, 128]}, "does not begin where"),  # another's bytes
        ({"data_offsets": [0, 2**62]}, "expected a whole number"),
        ({"data_offsets": [128, 0]}, "has -128 bytes"),
        ({"shape": [2**40]}, "expected a whole number"),
        ({"shape": [32]}, "of shape [32] has 128 bytes"),
        ({"shape": [-64]}, "expected a whole number"),
        ({"dtype": "F4"}, 'is "F4"'),
        ({"dtype": ["F32"]}, "is not a safetensors file"),
    ],
)
def test_a_header_says_what_the_file_holds(
    copied: Path, tmp_path: Path, fields: dict[str, Any], says: str
) -> None:
    path = copied / "model.safetensors"
    weights(path, **{"model.language_model.norm.weight": fields})
    for use in ("estimate", "load", "convert"):
        assert says in told(copied, tmp_path / "out", use)
    for header in (b"[" * 10**6, b'{"a\nb": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}'):
        path.write_bytes(len(header).to_bytes(8, "little") + header)
        assert told(copied, tmp_path / "out", "load").isprintable()


def test_quantised_weights_are_of_widths_that_there_are(copied: Path, tmp_path: Path) -> None:
    name = "model.language_model.layers.0.mlp.up_proj"
    path = str(copied / "model.safetensors")
    for columns, groups in ((64, 2), (14, 2), (16, 64), (16, 1)):
        held = mx.load(str(TINY / "model.safetensors"))
        assert isinstance(held, dict)
        rows = held[f"{name}.weight"].shape[0]
        held[f"{name}.weight"] = mx.zeros((rows, columns), mx.uint32)
        held |= {f"{name}.{one}": mx.zeros((rows, groups), mx.bfloat16) for one in ("scales", "biases")}
        mx.save_safetensors(path, held)
        if (columns, groups) == (16, 1):
            engines.load(copied).close()  # 8 bits in groups of 64
        else:
            assert "which is no quantised" in told(copied, tmp_path / "out", "load")
