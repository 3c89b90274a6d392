from __future__ import annotations

import shutil
from pathlib import Path

import mlx.core as mx
import pytest

from pixelkiln.worker.engines.family import Case, GoldenError
from pixelkiln.worker.engines.flux2.checkpoint import TRANSFORMER, tensors
from pixelkiln.worker.engines.flux2.convert import convert
from pixelkiln.worker.engines.flux2.golden import replay
from pixelkiln.worker.engines.flux2.model import Config, Model
from pixelkiln.worker.engines.flux2.pipeline import prepare, velocities
from pixelkiln.worker.engines.flux2.recipes import RECIPES
from pixelkiln.worker.engines.flux2.schedule import TOKEN
from pixelkiln.worker.engines.flux2.text import features
from pixelkiln.worker.engines.flux2.tokens import Prompts
from pixelkiln.worker.engines.flux2.transformer import Transformer
from pixelkiln.worker.engines.mlx.goldens import read_cases, read_record
from pixelkiln.worker.engines.mlx.qwen3 import TextEncoder
from tests.worker.engines.rounded import Rounded

CASES = ["t2i_wide", "t2i_tall", "t2i_long", "t2i_steps7", "edit_one", "edit_two", "base_guided"]


@pytest.fixture(scope="module")
def replayed(tiny: Path, golden: Path) -> dict[str, Case]:
    return {case.name: case for case in replay(tiny, golden)}


def test_no_case_is_left_out(replayed: dict[str, Case]) -> None:
    assert list(replayed) == CASES


@pytest.mark.parametrize("name", CASES)
def test_every_case_agrees_with_the_recording(replayed: dict[str, Case], name: str) -> None:
    result = replayed[name]
    assert result.ok, result
    assert ("references" in result.errors) == name.startswith("edit")
    assert result.errors["prediction"] < 2e-5  # the arithmetic is the same but for its order


def test_every_case_agrees_from_a_conversion_to_16_bits(
    tiny: Path, golden: Path, replayed: dict[str, Case], tmp_path: Path
) -> None:
    convert(tiny, tmp_path / "same", 16, model="flux2-klein-4b")
    assert replay(tmp_path / "same", golden) == list(replayed.values())


# What `velocity0` of `t2i_wide` loses in relative rms with the transformer quantised, as specified.
SPECIFIED = {8: 0.009, 6: 0.035, 4: 0.139}


def predicted(text: TextEncoder, transformer: Transformer, folder: Path, golden: Path) -> tuple[float, float]:
    """How far the first prediction of `t2i_wide` is off: in relative rms, and at most."""
    (case,), record = read_cases(golden, ["t2i_wide"]), read_record(golden / "t2i_wide.safetensors")
    tokens = Prompts(folder / "tokenizer", Config.read(folder).text.vocab_size).encode(case["prompt"])
    grid = (case["height"] // TOKEN, case["width"] // TOKEN)
    plan = prepare(transformer, RECIPES["distilled"], grid, [features(text, tokens)])
    (found,) = velocities(transformer, plan, record["init_noise"].astype(mx.float32).flatten(1).T, 0)
    off, recorded = found - record["velocity0"], record["velocity0"]
    return float(mx.sqrt((off**2).mean() / (recorded**2).mean()).item()), float(mx.abs(off).max().item())


@pytest.mark.parametrize("bits", SPECIFIED)
def test_few_bits_lose_what_was_specified_and_our_conversion_no_more(
    model: Model, tiny: Path, golden: Path, tmp_path: Path, bits: int
) -> None:
    """Specified is all of the transformer quantised; ours leaves more of it alone, and quantises the text."""
    rounded = Rounded(tiny / TRANSFORMER, tensors(tiny, TRANSFORMER), bits, 64)
    all_of_it = Transformer(rounded, model.config.transformer)
    assert predicted(model.text, all_of_it, tiny, golden)[0] == pytest.approx(SPECIFIED[bits], rel=0.1)
    convert(tiny, tmp_path / "few", bits, model="flux2-klein-4b")
    few = Model(tmp_path / "few", model.config, mx.float32)
    assert 0 < predicted(few.text, few.transformer, tiny, golden)[0] <= 1.1 * SPECIFIED[bits]


def test_bfloat16_is_as_close_as_it_can_be(tiny: Path, golden: Path) -> None:
    halved = Model(tiny, Config.read(tiny), mx.bfloat16)
    assert predicted(halved.text, halved.transformer, tiny, golden)[1] < 0.05


def test_an_unknown_case_is_named(tiny: Path, golden: Path) -> None:
    with pytest.raises(GoldenError, match="no case 'nope'"):
        replay(tiny, golden, ["nope"])


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("img_ids", "img_ids differs from what was recorded, first at "),
        ("input_ids", "input_ids differs from what was recorded, first at "),
        ("sigmas", "sigmas are off by "),
    ],
)
def test_a_changed_recording_is_told(tiny: Path, golden: Path, tmp_path: Path, key: str, says: str) -> None:
    shutil.copy(golden / "cases.json", tmp_path)
    record = dict(read_record(golden / "t2i_tall.safetensors"))
    record[key] = record[key] * 2
    mx.save_safetensors(str(tmp_path / "t2i_tall.safetensors"), record)
    (result,) = replay(tiny, tmp_path, ["t2i_tall"])
    assert not result.ok
    assert str(result.fault).startswith(says)


def test_a_picture_that_differs_widely_is_told(tiny: Path, golden: Path, tmp_path: Path) -> None:
    shutil.copy(golden / "cases.json", tmp_path)
    record = dict(read_record(golden / "base_guided.safetensors"))
    record["image"] = mx.where(record["image"] < 255, record["image"] + 1, record["image"])
    mx.save_safetensors(str(tmp_path / "base_guided.safetensors"), record)
    (result,) = replay(tiny, tmp_path, ["base_guided"])
    assert not result.ok
    assert "of its values differ" in str(result.fault)
