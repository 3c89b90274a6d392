from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.layout import parse_boxes
from pixelkiln.worker.engines.hidream.references import arrange, vision_copies
from pixelkiln.worker.engines.hidream.vision import Preprocessing, VisionTower

CASES = {"dev_edit_flow_match": None, "dev_refs2": None, "dev_layout": "layout_bboxes"}


@pytest.mark.parametrize("name", CASES)
def test_recorded_features(tiny: Path, golden: Path, name: str) -> None:
    case = next(case for case in json.loads((golden / "cases.json").read_bytes()) if case["name"] == name)
    record = mx.load(str(golden / f"{name}.safetensors"))
    assert isinstance(record, dict)
    boxes = parse_boxes(json.loads(case.get("layout_bboxes", "[]")))
    references = [Image.open(golden / file) for file in case["refs"]]
    copies = vision_copies(arrange(references, (case["width"], case["height"]), boxes).pictures)
    tower = VisionTower(tiny, Config.read(tiny), mx.float32)
    if "pixel_values_u8" in record:
        pixels, grid = tower.preprocessing(copies[0])
        assert [1, *grid] == record["image_grid_thw"][0].tolist()
        np.testing.assert_allclose(pixels, np.array(record["pixel_values_u8"]) / 127.5 - 1, atol=1e-6)
    features = tower(copies)
    np.testing.assert_allclose(features.embeds, record["image_embeds"], atol=1e-5)
    recorded = [record[f"deepstack.{i}"] for i in range(2) if f"deepstack.{i}" in record]
    assert len(features.deepstack) == 2
    for ours, theirs in zip(features.deepstack, recorded, strict=False):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_small_copies_are_enlarged_to_the_smallest_area() -> None:
    patches, grid = Preprocessing()(Image.new("RGB", (192, 192), "white"))
    assert grid == (16, 16)
    assert patches.shape == (256, 1536)
    assert patches.min() == patches.max() == 1.0
    assert Preprocessing().size(96, 288) == (160, 448)
    assert Preprocessing(largest=65_536).size(1024, 1024) == (256, 256)


def test_patches_of_one_merged_square_stand_together() -> None:
    picture = Image.new("RGB", (512, 256))
    picture.paste((255, 0, 0), (32, 0, 64, 32))  # the second merged square of the first row
    patches, _ = Preprocessing()(picture)
    red = patches[:, 0] == 1.0
    assert np.flatnonzero(red).tolist() == [4, 5, 6, 7]


def test_preprocessing_reads_what_is_stated(tmp_path: Path) -> None:
    assert Preprocessing.read(tmp_path) == Preprocessing()
    stated = {"patch_size": 14, "size": {"shortest_edge": 1024}, "image_mean": [0.1, 0.2, 0.3]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    assert Preprocessing.read(tmp_path) == Preprocessing(patch=14, smallest=1024, mean=(0.1, 0.2, 0.3))


def test_a_missing_tower_is_named(copied: Path) -> None:
    weights = mx.load(str(copied / "model.safetensors"))
    assert isinstance(weights, dict)
    kept = {name: array for name, array in weights.items() if not name.startswith("model.visual.")}
    mx.save_safetensors(str(copied / "model.safetensors"), kept)
    with pytest.raises(CheckpointError, match=r"has no tensor model\.visual\."):
        VisionTower(copied, Config.read(copied), mx.float32)([Image.new("RGB", (384, 384))])


def test_other_geometry(random_checkpoint: Callable[..., Path]) -> None:
    vision = {
        "depth": 4,
        "deepstack_visual_indexes": [0, 1, 3],
        "num_heads": 4,
        "num_position_embeddings": 25,
    }
    folder = random_checkpoint(vision=vision, hidden_size=48, intermediate_size=64)
    tower = VisionTower(folder, Config.read(folder), mx.float32)
    features = tower([Image.new("RGB", (384, 384)), Image.new("RGB", (512, 256))])
    assert [tower.preprocessing.pads(*size) for size in ((384, 384), (512, 256))] == [(12, 12), (8, 16)]
    assert [one.shape for one in (features.embeds, *features.deepstack)] == [(272, 48)] * 4


def test_a_tower_that_was_loaded_often_leaves_nothing_behind(tiny: Path) -> None:
    def waiting() -> int:
        graph = io.StringIO()
        mx.export_to_dot(graph, *mx.random.state)
        return len(graph.getvalue())

    tower = VisionTower(tiny, Config.read(tiny), mx.float32)
    tower._load()
    once = waiting()
    for _ in range(3):
        tower._load()
    assert waiting() == once
