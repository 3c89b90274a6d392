from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from pixelkiln.jobs import proportions
from pixelkiln.jobs.errors import SpecError
from pixelkiln.worker.engines.hidream.references import (
    arrange,
    budget,
    resized,
    vision_budget,
    vision_copies,
    vision_size,
)


def picture(width: int, height: int, colour: str = "red") -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def test_recorded_sizes(golden: Path) -> None:
    sizes = json.loads((golden / "sizes.json").read_bytes())
    for case in sizes["resize"]:
        found = resized(picture(case["width"], case["height"]), case["budget"]).size
        assert found == tuple(case["out"]), case
    for case in sizes["condition"]:
        found = vision_size((case["width"], case["height"]), case["condition"])
        assert found == tuple(case["out"]), case


def test_budgets_by_count() -> None:
    assert [budget(2048, count) for count in (1, 2, 3, 4, 5, 8, 9)] == [2048, 1536, 1024, 1024, 768, 768, 512]
    assert [vision_budget(count) for count in (1, 4, 5, 8, 9)] == [384, 384, 288, 288, 192]


@pytest.mark.parametrize("size", [(2, 4000), (9000, 3)])
def test_a_picture_too_narrow_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(SpecError, match="too narrow"):
        resized(picture(*size), 512)


def test_what_is_refused_at_submit_is_what_cannot_be_used() -> None:
    draw, found = random.Random(1), Counter[bool]()
    for _ in range(150):
        size = (draw.choice([2, 5, 20, 33, 64, 300]), draw.choice([64, 100, 700, 3000]))
        size = size if draw.random() < 0.5 else (size[1], size[0])
        count, target = draw.choice([1, 1, 2, 4, 8, 10]), (draw.choice([64, 256, 1024]), 64)
        boxes = [(0.1, 0.5, 0.1, 0.5)] if draw.random() < 0.3 else []
        keep = count == 1 and draw.random() < 0.3
        if proportions.are_too_many(target, count, bool(boxes), keep):
            size = (500, 500)  # as good as any
        try:
            vision_copies(arrange([picture(*size)] * count, target, boxes, keep).pictures)
            used = True
        except SpecError:
            used = False
        told = proportions.fault(target, count, bool(boxes), keep, size)
        assert (told == "") == used, (target, count, boxes, keep, size)
        assert used <= (not proportions.are_too_many(target, count, bool(boxes), keep))
        found[used] += 1
    assert min(found.values()) > 30


def test_the_crop_keeps_the_middle() -> None:
    bar = picture(100, 60, "black")
    bar.paste((255, 255, 255), (45, 0, 55, 60))
    out = resized(bar, 64).convert("L")
    width, height = out.size
    row = [out.getpixel((x, height // 2)) for x in range(width)]
    assert row.index(max(row)) in range(width // 2 - 4, width // 2 + 4)
    assert max(row[0], row[-1]) < 10


def test_a_layout_counts_as_a_picture() -> None:
    alone = arrange([picture(500, 500)], (256, 256))
    framed = arrange([picture(500, 500)], (256, 256), [(0.1, 0.5, 0.1, 0.5)])
    assert [one.size for one in alone.pictures] == [(256, 256)]
    assert [one.size for one in framed.pictures] == [(192, 192), (192, 192)]
    assert framed.size == (256, 256)


def test_a_kept_aspect_sets_the_size_and_drops_the_layout() -> None:
    kept = arrange([picture(300, 200)], (512, 512), [(0.1, 0.5, 0.1, 0.5)], keep_aspect=True)
    assert kept.size == kept.pictures[0].size == (2496, 1664)
    assert len(kept.pictures) == 1


def test_every_mode_becomes_rgb() -> None:
    modes = [Image.new(mode, (64, 64)) for mode in ("RGBA", "L", "P", "CMYK", "1")]
    assert {one.mode for one in arrange(modes, (128, 128)).pictures} == {"RGB"}


def test_vision_copies_have_the_area_of_their_count() -> None:
    assert [one.size for one in vision_copies([picture(128, 64)])] == [(512, 256)]
    assert [one.size for one in vision_copies([picture(128, 64)] * 5)] == [(384, 192)] * 5
