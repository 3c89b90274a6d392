"""The renderer repeats, captions say what they list, the reader sees it in the renderer's own pictures."""

import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageFilter

from postcards.draw import draw
from postcards.facts import Fact
from postcards.grammar import COLOUR_WORDS, LAND_NAMES, LAND_WORDS, NOUNS, SIZE_WORDS, TIME_WORDS, captioned
from postcards.looks import sharpness
from postcards.palette import COLOURS
from postcards.reader import read
from postcards.scene import FORMATS, Scene, overlap, sample

COUNT = 500
PLACE_PATTERNS = {"centre": "(middle|centre|center)"}  # the rest are said as they are


@pytest.fixture(scope="module")
def rows():
    return [captioned(11, index) for index in range(COUNT)]


@pytest.fixture(scope="module")
def readings(rows):
    return [read(draw(scene)) for scene, _ in rows]


@pytest.mark.parametrize("size", FORMATS)
def test_equal_seeds_give_equal_postcards_of_the_asked_size(size):
    first, second = (draw(sample(5, 8, size)) for _ in range(2))
    assert first.shape == (size[1], size[0], 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, draw(sample(5, 9, size)))


@pytest.mark.parametrize("size", FORMATS)
def test_a_double_is_drawn_properly_and_shows_the_same(size):
    scene = sample(5, 8, size)
    single, double = draw(scene), draw(scene, 2)
    assert double.shape == (2 * size[1], 2 * size[0], 3)
    halved = np.asarray(Image.fromarray(double).reduce(2)).astype(int)
    assert np.abs(halved - single).mean() < 0.2
    enlarged = np.asarray(Image.fromarray(single).resize(double.shape[1::-1], Image.Resampling.BICUBIC))
    assert sharpness(double) > 1.05 * sharpness(enlarged)


def test_reader_sees_what_was_stated_at_twice_the_size(rows):
    held = stated = 0
    for scene, caption in rows[:60]:
        reading = read(draw(scene, 2), 2)
        held += sum(map(reading.holds, caption.facts))
        stated += len(caption.facts)
        assert (reading.width, reading.height) == (scene.width, scene.height)
    assert held / stated >= 0.99


def test_subjects_stand_inside_and_apart(rows):
    for scene, _ in rows:
        boxes = [member.box for group in scene.groups for member in group.members]
        for i, box in enumerate(boxes):
            assert box[0] >= 0
            assert box[1] >= 0
            assert box[2] <= scene.width
            assert box[3] <= scene.height
            assert not any(overlap(box, other) for other in boxes[:i])


def test_a_scene_can_be_said_in_many_ways():
    texts = {captioned(11, 3, wording=wording)[1].text for wording in range(20)}
    assert len(texts) >= 18


def test_captions_say_each_stated_fact(rows):
    for _, caption in rows:
        for fact in caption.facts:
            assert _says(caption.text.lower(), fact), (caption.text, fact)


def test_captions_state_only_what_the_scene_holds(rows):
    for scene, caption in rows:
        for fact in caption.facts:
            assert _true(scene, fact), (caption.text, fact)


def test_reader_sees_what_was_stated(rows, readings):
    held, stated = Counter(), Counter()
    for (_, caption), reading in zip(rows, readings, strict=True):
        for fact in caption.facts:
            stated[fact.sort] += 1
            held[fact.sort] += reading.holds(fact)
    assert held.total() / stated.total() >= 0.99
    assert all(held[sort] / stated[sort] >= 0.98 for sort in stated), (held, stated)


def test_reader_does_not_see_what_another_picture_shows(rows, readings):
    wrong = [
        (fact, reading.holds(fact))
        for (scene, _), reading, (_, other) in zip(rows, readings, rows[1:] + rows[:1], strict=True)
        for fact in other.facts
        if not _true(scene, fact)
    ]
    assert len(wrong) > COUNT
    assert sum(seen for _, seen in wrong) / len(wrong) <= 0.01


def test_reader_bears_softness_and_noise(rows):
    rng = np.random.default_rng(0)
    held = stated = 0
    for scene, caption in rows[:60]:
        soft = np.asarray(Image.fromarray(draw(scene)).filter(ImageFilter.GaussianBlur(1)), np.float32)
        reading = read(np.clip(soft + rng.normal(0, 6, soft.shape), 0, 255).astype(np.uint8))
        stated += len(caption.facts)
        held += sum(reading.holds(fact) for fact in caption.facts)
    assert held / stated >= 0.97


def test_reader_makes_nothing_of_noise():
    noise = np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8)
    reading = read(noise)
    assert not reading.things
    assert reading.light is None


def _says(text: str, fact: Fact) -> bool:
    sort, subject, value = fact
    if sort == "time":
        return any(words in text for words in TIME_WORDS[value])
    if sort == "land":
        return any(words in text for words in (*LAND_WORDS[value], *LAND_NAMES[value]))
    if sort == "stars":
        return "star" in text
    if sort == "clouds":
        words = {"0": "no clouds|clear sky|cloudless", "1": r"\b(a|one|a single) cloud\b"}
        return bool(re.search(words.get(value, r"\b(two|three|a pair of) clouds\b"), text))
    if sort == "cloud":
        return bool(re.search(rf"\bcloud [a-z ]*{PLACE_PATTERNS.get(value, value)}", text))
    if sort == "moon":
        return f"{value} moon" in text
    if sort == "light":
        return subject in text
    nouns = "|".join(noun for pair in NOUNS[subject] for noun in pair)
    phrase = rf"(\b(?:a|an|one|a single|two|a pair of|three) (?:(?!pine|fir)[a-z]+ ){{0,2}})(?:{nouns})\b"
    found = re.search(phrase, text)
    assert found, (text, fact)
    words = found[1].split()
    if sort == "count":
        number = 2 if "pair" in words else {"two": 2, "three": 3}.get(words[0], 1)
        return number == int(value)
    if sort == "colour":
        return any(word in words for word in COLOUR_WORDS.get(value, (value,)))
    if sort == "size":
        return any(word in words for word in SIZE_WORDS[value])
    if sort == "place":
        return bool(re.search(PLACE_PATTERNS.get(value, value), text))
    return (
        sort.split()[0] in text
        or (sort == "above" and "over" in text)
        or (sort == "below" and "under" in text)
    )


def _true(scene: Scene, fact: Fact) -> bool:
    """Whether a fact is so, told straight from the scene's numbers."""
    sort, subject, value = fact
    if sort in ("time", "land"):
        return getattr(scene, sort) == value
    if sort == "stars":
        return scene.stars
    if sort == "clouds":
        return len(scene.clouds) == int(value)
    if sort == "cloud":
        return len(scene.clouds) == 1 and _third(scene.clouds[0][0] / scene.width) == value
    night = scene.time == "night"
    if sort == "moon":
        return night and scene.light is not None and scene.crescent == (value == "crescent")
    if sort == "light":
        if scene.light is None or night != (subject == "moon"):
            return False
        return not value or _third(scene.light[0] / scene.width) == value
    members = {group.kind: group.members for group in scene.groups}
    if subject not in members:
        return False
    first = members[subject][0]
    if sort == "count":
        return len(members[subject]) == int(value)
    if sort in ("colour", "size"):
        assert value in (*COLOURS, *SIZE_WORDS)
        return getattr(first, sort) == value
    middle = sum(member.x for member in members[subject]) / len(members[subject])
    if sort == "place":
        return _third(middle / scene.width) == value
    if value not in members or len(members[subject]) + len(members[value]) > 2:
        return False
    other = members[value][0]
    return {
        "left of": first.x < other.x - 8,
        "right of": first.x > other.x + 8,
        "above": first.y < other.y,
        "below": first.y > other.y,
        "in front of": first.y > other.y,
        "behind": first.y < other.y,
    }[sort]


def _third(share: float) -> str:
    return "left" if share < 0.4 else "right" if share > 0.6 else "centre"
