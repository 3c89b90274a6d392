from __future__ import annotations

import shutil
from pathlib import Path

import mlx.core as mx
import pytest

from pixelkiln.worker.engines.family import GoldenError
from pixelkiln.worker.engines.flux2.convert import convert
from pixelkiln.worker.engines.flux2.golden import replay
from pixelkiln.worker.engines.flux2.model import Config, Model
from pixelkiln.worker.engines.flux2.pipeline import prepare, velocities
from pixelkiln.worker.engines.flux2.recipes import RECIPES
from pixelkiln.worker.engines.flux2.schedule import TOKEN
from pixelkiln.worker.engines.flux2.text import features
from pixelkiln.worker.engines.flux2.tokens import Prompts
from pixelkiln.worker.engines.mlx.goldens import read_cases, read_record

CASES = ["t2i_wide", "t2i_tall", "t2i_long", "t2i_steps7", "edit_one", "edit_two", "base_guided"]


@pytest.mark.parametrize("name", CASES)
def test_every_case_agrees_with_the_recording(tiny: Path, golden: Path, name: str) -> None:
    (result,) = replay(tiny, golden, [name])
    assert result.ok, result
    assert ("references" in result.errors) == name.startswith("edit")
    assert result.errors["prediction"] < 2e-5  # the arithmetic is the same but for its order


def test_every_case_agrees_from_a_conversion_to_16_bits(tiny: Path, golden: Path, tmp_path: Path) -> None:
    convert(tiny, tmp_path / "same", 16, model="flux2-klein-4b")
    assert replay(tmp_path / "same", golden) == replay(tiny, golden)


def predicted(folder: Path, golden: Path, dtype: mx.Dtype = mx.float32) -> tuple[mx.array, mx.array]:
    """The first prediction of `t2i_wide`, and what was recorded."""
    (case,), record = read_cases(golden, ["t2i_wide"]), read_record(golden / "t2i_wide.safetensors")
    config = Config.read(folder)
    model = Model(folder, config, dtype)
    tokens = Prompts(folder / "tokenizer", config.text.vocab_size).encode(case["prompt"])
    grid = (case["height"] // TOKEN, case["width"] // TOKEN)
    plan = prepare(model.transformer, RECIPES["distilled"], grid, [features(model.text, tokens)])
    (found,) = velocities(model.transformer, plan, record["init_noise"].astype(mx.float32).flatten(1).T, 0)
    return found, record["velocity0"]


@pytest.mark.parametrize(("bits", "spent"), [(8, 0.009), (6, 0.035), (4, 0.139)])
def test_few_bits_are_no_further_off_than_was_measured(
    tiny: Path, golden: Path, tmp_path: Path, bits: int, spent: float
) -> None:
    """`spent` is what the reference loses with the transformer quantised; ours loses text too."""
    convert(tiny, tmp_path / "few", bits, model="flux2-klein-4b")
    found, recorded = predicted(tmp_path / "few", golden)
    off = float(mx.sqrt(((found - recorded) ** 2).mean() / (recorded**2).mean()).item())
    assert 0 < off <= 1.1 * spent


def test_bfloat16_is_as_close_as_it_can_be(tiny: Path, golden: Path) -> None:
    found, recorded = predicted(tiny, golden, mx.bfloat16)
    assert float(mx.abs(found - recorded).max().item()) < 0.05


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
