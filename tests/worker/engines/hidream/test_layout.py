from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.worker.engines.hidream.layout import COLOURS, drawn, parse_boxes
from pixelkiln.worker.engines.hidream.references import arrange

BOXES = [(0.2, 0.44, 0.48, 0.75), (0.57, 0.8, 0.08, 0.34)]


def test_recorded_pictures(golden: Path) -> None:
    recorded = [Image.open(golden / f"dev_layout.conditioned{i}.png") for i in range(3)]
    references = [Image.open(golden / f"dev_layout.ref{i}.png") for i in range(2)]
    arranged = arrange(references, (128, 128), BOXES)
    layout, _ = drawn(BOXES, (128, 128))
    for ours, theirs in zip([*arranged.pictures[:2], layout], recorded, strict=True):
        assert ours.size == theirs.size
        assert ours.tobytes() == theirs.convert("RGB").tobytes()
    assert arranged.pictures[2].size == (64, 64)


def test_every_form_of_box_is_one() -> None:
    lists = [list(box) for box in BOXES]
    assert parse_boxes(lists) == BOXES
    assert parse_boxes([{"bbox": box, "text": "a friend"} for box in lists]) == BOXES
    assert parse_boxes({"bboxes": lists}) == BOXES
    percents = parse_boxes([[100 * side for side in box] for box in lists])
    assert drawn(percents, (128, 128))[0].tobytes() == drawn(BOXES, (128, 128))[0].tobytes()


@pytest.mark.parametrize("boxes", [None, [[1, 2, 3]], ["abcd"], [{"text": "x"}], {"bbox": []}])
def test_boxes_that_are_none(boxes: object) -> None:
    with pytest.raises(SpecError, match="layout"):
        parse_boxes(boxes)


def test_an_empty_box_is_refused() -> None:
    with pytest.raises(SpecError, match="is empty in a picture of 64×64"):
        drawn([(0.5, 0.501, 0.1, 0.9)], (64, 64))


def test_the_largest_boxes_come_first_and_five_are_drawn() -> None:
    boxes = [(0.0, 0.1 * i, 0.0, 0.1 * i) for i in (1, 2, 3, 4, 5, 6, 7)]
    picture, colours = drawn(boxes, (640, 640))
    assert [colours[i] for i in (6, 5, 4, 3, 2)] == list(COLOURS[:5])
    assert (colours[0], colours[1]) == (COLOURS[0], COLOURS[1])  # undrawn: by place
    found = picture.getcolors()
    assert found is not None
    assert {colour for _, colour in found} == {(0, 0, 0), *COLOURS[:5]}


def test_outlines_thin_by_fifths_down_to_five_pixels() -> None:
    picture, _ = drawn([(0.0, 1.0, 0.0, 1.0), (0.2, 0.8, 0.2, 0.8)], (640, 640))
    column = [picture.getpixel((320, y)) for y in range(320)]
    assert column.count(COLOURS[0]) == 32
    assert column.count(COLOURS[1]) == 26
    small, _ = drawn([(0.0, 1.0, 0.0, 1.0)], (64, 64))
    assert [small.getpixel((32, y)) for y in range(32)].count(COLOURS[0]) == 5
