from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.engine import EngineError, NonFiniteError, Step
from pixelkiln.worker.engines.z_image.engine import ZImageEngine
from pixelkiln.worker.engines.z_image.references import fitted


def spec(**fields: Any) -> RenderSpec:
    wanted = {"prompt": "a red fox", "model": "z-image-turbo", "width": 96, "height": 64, "seed": 0}
    return RenderSpec(**{**wanted, **fields})


def last(engine: ZImageEngine, job: RenderSpec, *references: Image.Image) -> Step:
    *_, step = engine.render(job, references)
    return step


def digest(step: Step) -> str:
    assert step.pixels is not None
    return hashlib.sha256(step.pixels.tobytes()).hexdigest()


def test_steps_count_up_and_only_the_last_has_pixels(engine: ZImageEngine) -> None:
    steps = list(engine.render(spec()))
    assert [step.index for step in steps] == list(range(9))
    assert {step.total for step in steps} == {8}
    assert [step.pixels is None for step in steps] == [True] * 8 + [False]
    assert steps[-1].pixels is not None
    assert steps[-1].pixels.shape == (64, 96, 3)
    assert steps[0].preview is None
    assert all(step.preview is not None for step in steps[1:])
    assert steps[-1].preview is not None
    assert np.abs(steps[-1].preview().astype(int) - steps[-1].pixels).max() <= 1  # small enough to be whole


def test_equal_specs_give_equal_bytes_alone_and_after_others(engine: ZImageEngine, checkpoint: Path) -> None:
    first = digest(last(engine, spec()))
    others = {digest(last(engine, spec(seed=1))), digest(last(engine, spec(prompt="a hen")))}
    assert first not in others
    assert len(others) == 2
    for step in engine.render(spec()):
        if step.preview is not None:
            step.preview()  # which changes nothing
    assert digest(step) == first
    assert digest(last(ZImageEngine.load(checkpoint, 0, mx.float32), spec())) == first


def test_one_prompt_runs_once_and_the_encoder_stays_only_where_there_is_room(checkpoint: Path) -> None:
    engine = ZImageEngine.load(checkpoint, None, mx.float32)
    for seed in range(3):
        step = last(engine, spec(seed=seed, width=64))
    assert engine.prompt_runs == 1
    assert step.facts is not None
    assert step.facts.record()["text_encoder"] == "kept"
    held = engine.held_bytes()
    engine.allow(engine.bytes_needed(spec(prompt="a hen")))
    step = last(engine, spec(prompt="a hen"))
    assert step.facts is not None
    assert step.facts.record()["text_encoder"] == "loaded for each prompt"
    assert engine.held_bytes() < held
    engine.trim()
    assert engine.held_bytes() < held


def test_a_prompt_that_is_cut_is_told(engine: ZImageEngine) -> None:
    facts = last(engine, spec(prompt="word " * 700, steps=1)).facts
    assert facts is not None
    assert facts.record()["prompt"].startswith("cut to 512 of ")
    facts = last(engine, spec(steps=1)).facts
    assert facts is not None
    assert "prompt" not in facts.record()


def test_a_picture_gives_the_beginning_and_strength_says_how_much_of_it(engine: ZImageEngine) -> None:
    red, blue = (Image.new("RGB", (96, 64), colour) for colour in ("red", "blue"))

    def begun(picture: Image.Image, strength: float) -> Step:
        return last(engine, spec(references=["0" * 64], strength=strength), picture)

    half = begun(red, 0.5)
    assert (half.index, half.total) == (4, 4)
    assert half.facts is not None
    assert half.facts.record()["strength"] == "0.5, the last 4 steps"
    assert half.facts.steps == 8
    assert digest(begun(red, 0.5)) == digest(half) != digest(begun(blue, 0.5))
    assert digest(begun(red, 1.0)) == digest(begun(blue, 1.0)) == digest(last(engine, spec()))
    assert begun(red, 0.01).total == 1


def test_a_picture_of_another_size_is_cut_not_stretched() -> None:
    wide = Image.new("RGB", (400, 100), "red")
    wide.paste("blue", (120, 0, 280, 100))
    assert not np.asarray(fitted(wide, (64, 64)))[..., 0].any()  # its red sides are cut away
    assert fitted(wide, (400, 100)) is wide


def test_what_goes_together_is_asked_together(engine: ZImageEngine) -> None:
    with pytest.raises(SpecError, match="strength"):
        last(engine, spec(), Image.new("RGB", (96, 64)))
    with pytest.raises(SpecError, match="seed"):
        last(engine, spec(seed=None))


def test_a_step_that_is_not_finite_ends_the_render(checkpoint: Path) -> None:
    engine = ZImageEngine.load(checkpoint, dtype=mx.float32)
    model = engine._loaded()
    model.transformer.x_pad = model.transformer.x_pad * float("nan")
    with pytest.raises(NonFiniteError, match="step 1"):
        last(engine, spec(width=48, height=48))
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        last(engine, spec())
