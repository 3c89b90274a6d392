"""The file says what made it, as the engine tells it, and two renders of one spec are one file."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from pixelkiln.jobs import RenderSpec
from pixelkiln.worker import engines
from pixelkiln.worker.deliver.png import encode
from pixelkiln.worker.engines.engine import Facts, Pixels
from pixelkiln.worker.engines.hidream.checkpoint import digest
from tests.tiny import TINY
from tests.worker.pictures import noise, spec_of

PROMPT = 'Ein Fuchs 🦊, "x" & <y>\nSteps: 99, Seed: 7 <|tms_token|>'
GOLDEN = Path(__file__).parents[2] / "golden" / "tiny-hidream-o1"
# As AUTOMATIC1111's web UI reads its own files (modules/infotext_utils.py).
SETTING = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def rendered(folder: Path, spec: RenderSpec) -> tuple[Pixels, Facts]:
    """What a real engine makes of a spec."""
    engine = engines.load(folder)
    *_, last = engine.render(spec)
    engine.close()
    assert last.pixels is not None
    assert last.facts is not None
    return last.pixels, last.facts


@pytest.fixture(scope="module")
def facts() -> Facts:
    """Of the small model that tests render with."""
    return rendered(TINY, spec_of())[1]


def opened(png: bytes) -> PngImageFile:
    image = Image.open(io.BytesIO(png))
    assert isinstance(image, PngImageFile)
    image.load()
    return image


def read(parameters: str) -> tuple[str, dict[str, str]]:
    """Prompt and settings as picture tools take them apart."""
    *prompt, settings = parameters.split("\n")
    found = {key: json.loads(value) if value[0] == '"' else value for key, value in SETTING.findall(settings)}
    return "\n".join(prompt), found


def test_the_pixels_are_all_there(facts: Facts) -> None:
    pixels = noise(96, 64)
    assert np.array_equal(np.asarray(opened(encode(pixels, spec_of(), facts, "1"))), pixels)


def test_three_blocks_say_what_made_it() -> None:
    spec = spec_of(prompt=PROMPT, seed=0)
    pixels, facts = rendered(TINY, spec)
    text = opened(encode(pixels, spec, facts, "1.2")).text
    assert set(text) == {"parameters", "pixelkiln", "XML:com.adobe.xmp"}
    assert text["parameters"] == (
        f"{PROMPT}\nSteps: 28, Sampler: flash, Seed: 0, Size: 64x64, Model: demo bf16, Version: pixelkiln 1.2"
    )
    prompt, settings = read(text["parameters"])
    assert prompt == PROMPT
    assert list(settings) == ["Steps", "Sampler", "Seed", "Size", "Model", "Version"]
    about = json.loads(text["pixelkiln"])
    assert RenderSpec.parse(about["spec"]) == spec
    assert (about["engine"], about["version"]) == (facts.record(), "1.2")
    assert about["engine"]["steps"] == "28"
    (description,) = ElementTree.fromstring(text["XML:com.adobe.xmp"].encode("utf-8")).iter(
        "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
    )
    source = description.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert source == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    assert description.get("{http://ns.adobe.com/xap/1.0/}CreatorTool") == "pixelkiln 1.2"


def test_a_negative_prompt_and_a_strength_stand_where_picture_tools_look(facts: Facts) -> None:
    fields = {"model": "qwen-image", "negative_prompt": "a hat,\nSteps: 99", "seed": 1}
    spec = RenderSpec.parse({"prompt": "a fox", "width": 64, "height": 64, **fields})
    text = opened(encode(noise(64, 64), spec, facts, "1")).text
    assert text["parameters"].startswith("a fox\nNegative prompt: a hat,\nSteps: 99\nSteps: 28, ")
    assert read(text["parameters"])[1]["Steps"] == "28"
    assert json.loads(text["pixelkiln"])["spec"]["negative_prompt"] == fields["negative_prompt"]
    fields = {"model": "z-image-turbo", "references": ["0" * 64], "strength": 0.5, "seed": 1}
    spec = RenderSpec.parse({"prompt": "a fox", "width": 64, "height": 64, **fields})
    text = opened(encode(noise(64, 64), spec, facts, "1")).text
    assert read(text["parameters"])[1]["Denoising strength"] == "0.5"
    assert "Negative prompt" not in text["parameters"]


def test_guidance_is_told_where_it_ran(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN, tmp_path / "full"))
    about = {"schema": 1, "model": "hidream-o1-full", "recipe": "full", "bits": 16, "source": "test"}
    about |= {"revision": "0", "digest": digest(folder)}
    (folder / "kiln.json").write_text(json.dumps(about))
    told = []
    for fields in ({"steps": 4}, {"steps": 5, "guidance": 2.5}, {"steps": 4, "guidance": 1.0}):
        spec = spec_of(model="hidream-o1-full", **fields)
        pixels, facts = rendered(folder, spec)
        text = opened(encode(pixels, spec, facts, "1")).text
        settings = read(text["parameters"])[1]
        told.append((settings["Steps"], settings["Sampler"], settings.get("CFG scale")))
    assert told == [("4", "unipc", "5"), ("5", "unipc", "2.5"), ("4", "unipc", None)]


def test_values_with_separators_are_quoted(facts: Facts) -> None:
    odd = replace(facts, scheduler='a, "b": c')
    text = opened(encode(noise(), spec_of(), odd, "1")).text["parameters"]
    assert read(text)[1]["Sampler"] == 'a, "b": c'
    assert read(text)[1]["Seed"] == "1"


def test_the_size_is_the_pictures(facts: Facts) -> None:
    text = opened(encode(noise(96, 64), spec_of(), facts, "1")).text["parameters"]
    assert read(text)[1]["Size"] == "96x64"  # a kept aspect makes another than the spec's


def test_one_spec_is_one_file() -> None:
    spec = spec_of()
    (pixels, facts), (others, theirs) = (rendered(TINY, spec) for _ in range(2))
    first = encode(pixels, spec, facts, "1")
    assert encode(others, spec, theirs, "1") == first
    turned = replace(facts, versions=dict(reversed(facts.versions.items())))
    assert encode(pixels, RenderSpec.parse(spec.wire()), turned, "1") == first


@pytest.mark.parametrize("fields", [{"seed": 2}, {"prompt": "another"}, {"labels": {"a": "b"}}])
def test_another_spec_is_another_file(fields: dict[str, object], facts: Facts) -> None:
    assert encode(noise(), spec_of(**fields), facts, "1") != encode(noise(), spec_of(), facts, "1")


def test_nothing_in_it_names_time_or_place(facts: Facts) -> None:
    png = encode(noise(), spec_of(), facts, "1")
    chunks = []
    at = 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        chunks.append(png[at + 4 : at + 8])
        at += size + 12
    assert set(chunks) == {b"IHDR", b"iTXt", b"IDAT", b"IEND"}
