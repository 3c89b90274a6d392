"""The file says what made it, and two renders of one spec are one file."""

from __future__ import annotations

import io
import json
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from pixelkiln.jobs import RenderSpec
from pixelkiln.worker.deliver.png import encode
from tests.worker.pictures import FACTS, noise, spec_of

PROMPT = 'Ein Fuchs 🦊, "x" & <y>\nSteps: 99, Seed: 7 <|tms_token|>'


def opened(png: bytes) -> PngImageFile:
    image = Image.open(io.BytesIO(png))
    assert isinstance(image, PngImageFile)
    image.load()
    return image


def test_the_pixels_are_all_there() -> None:
    pixels = noise(96, 64)
    assert np.array_equal(np.asarray(opened(encode(pixels, spec_of(), FACTS, "1"))), pixels)


def test_three_blocks_say_what_made_it() -> None:
    spec = spec_of(prompt=PROMPT, seed=0)
    text = opened(encode(noise(), spec, FACTS, "1.2")).text
    assert set(text) == {"parameters", "pixelkiln", "XML:com.adobe.xmp"}
    prompt, _, settings = text["parameters"].rpartition("\n")
    assert prompt == PROMPT
    assert settings == (
        "Steps: 28, Sampler: flash, Seed: 0, Size: 64x64, Model: demo bf16, Version: pixelkiln 1.2"
    )
    about = json.loads(text["pixelkiln"])
    assert RenderSpec.parse(about["spec"]) == spec
    assert (about["engine"], about["version"]) == (FACTS, "1.2")
    (description,) = ElementTree.fromstring(text["XML:com.adobe.xmp"].encode("utf-8")).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    )
    source = description.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert source == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert description.get("{http://ns.adobe.com/xap/1.0/}CreatorTool") == "pixelkiln 1.2"


def test_one_spec_is_one_file() -> None:
    first, second = (encode(noise(), spec_of(), dict(FACTS), "1") for _ in range(2))
    assert first == second
    again = encode(noise(), RenderSpec.parse(spec_of().wire()), dict(reversed(FACTS.items())), "1")
    assert again == first


@pytest.mark.parametrize("fields", [{"seed": 2}, {"prompt": "another"}, {"labels": {"a": "b"}}])
def test_another_spec_is_another_file(fields: dict[str, object]) -> None:
    assert encode(noise(), spec_of(**fields), FACTS, "1") != encode(noise(), spec_of(), FACTS, "1")


def test_nothing_in_it_names_time_or_place() -> None:
    png = encode(noise(), spec_of(), FACTS, "1")
    chunks = []
    at = 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        chunks.append(png[at + 4 : at + 8])
        at += size + 12
    assert set(chunks) == {b"IHDR", b"iTXt", b"IDAT", b"IEND"}
