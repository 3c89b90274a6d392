from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.worker.engines.engine import CheckpointError, EngineError
from pixelkiln.worker.engines.flux2.engine import Flux2Engine
from tests.worker.engines.flux2.folders import described, last, spec


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(noise)


def pixels(engine: Flux2Engine, *references: Image.Image, **fields: Any) -> bytes:
    made = last(engine, spec(references=["0" * 64] * len(references), **fields), references).pixels
    assert made is not None
    return made.tobytes()


def test_steps_count_up_and_the_last_has_the_picture(engine: Flux2Engine) -> None:
    steps = list(engine.render(spec(steps=None)))
    assert [step.index for step in steps] == list(range(5))
    assert {step.total for step in steps} == {4}
    assert [step.pixels is None for step in steps] == [True] * 4 + [False]
    assert steps[-1].pixels is not None
    assert (steps[-1].pixels.shape, steps[-1].pixels.dtype) == ((64, 96, 3), np.uint8)
    assert steps[-1].preview is not None
    # The last sigma is 0: the state is the prediction. So small, a preview is decoded whole.
    assert np.abs(steps[-1].preview().astype(int) - steps[-1].pixels.astype(int)).max() <= 1
    assert steps[0].preview is None


def test_equal_specs_give_equal_bytes_alone_and_after_others(
    engine: Flux2Engine, checkpoint: Callable[[str], Path]
) -> None:
    first = pixels(engine)
    others = {pixels(engine, seed=1), pixels(engine, prompt="a hen"), pixels(engine, picture(64, 80))}
    assert first not in others
    assert len(others) == 3
    assert pixels(engine) == first
    anew = Flux2Engine.load(checkpoint("distilled"), budget=0, dtype=mx.float32)
    assert pixels(anew) == first  # nor does it matter whether the text encoder is kept


def test_a_prompt_is_encoded_once(engine: Flux2Engine) -> None:
    before = engine.prompt_runs
    for seed in range(3):
        pixels(engine, prompt="three seeds", seed=seed)
        pixels(engine, picture(64, 64), prompt="three seeds", seed=seed, width=64)
    assert engine.prompt_runs == before + 1


def test_each_reference_counts_and_so_does_their_order(engine: Flux2Engine) -> None:
    one, other, third, fourth = (picture(64 + 16 * i, 80, i) for i in range(4))
    made = [
        pixels(engine, *references)
        for references in ((), (one,), (one, other), (other, one), (one, other, third), (one,) * 4)
    ]
    assert len(set(made)) == len(made)
    assert pixels(engine, one, other, third, fourth) != pixels(engine, one, other, fourth, third)


def test_a_reference_too_small_is_refused(engine: Flux2Engine) -> None:
    with pytest.raises(SpecError, match="references: 60 x 64 is too small"):
        pixels(engine, picture(60, 64))


def test_guidance_runs_the_empty_prompt_too(checkpoint: Callable[[str], Path]) -> None:
    engine = Flux2Engine.load(checkpoint("base"), dtype=mx.float32)
    given: dict[str, Any] = {"model": "flux2-klein-base-4b"}
    guided = pixels(engine, **given)
    assert engine.prompt_runs == 2
    assert pixels(engine, **given, guidance=1.0) != guided
    assert pixels(engine, picture(64, 64), **given) != guided
    facts = last(engine, spec(**given, steps=3, guidance=2.5)).facts
    assert facts is not None
    assert (facts.recipe, facts.steps, facts.guidance) == ("base", 3, 2.5)


def test_the_last_step_tells_what_ran(engine: Flux2Engine, checkpoint: Callable[[str], Path]) -> None:
    facts = last(engine, spec()).facts
    assert facts is not None
    record = facts.record()
    assert all(isinstance(value, str) and value for value in record.values())
    assert (record["engine"], record["model"], record["guidance"]) == ("flux2", "flux2-klein-4b", "1.0")
    assert (record["text_encoder"], "prompt" in record) == ("kept", False)
    tight = Flux2Engine.load(checkpoint("distilled"), budget=0, dtype=mx.float32)
    facts = last(tight, spec(prompt="word " * 600)).facts
    assert facts is not None
    assert facts.told["text_encoder"] == "loaded for each prompt"
    assert facts.told["prompt"].endswith("tokens of it and its template were cut: 512 is the most")


def test_what_is_kept_follows_what_is_allowed(checkpoint: Callable[[str], Path]) -> None:
    engine, job = Flux2Engine.load(checkpoint("distilled"), dtype=mx.float32), spec()
    bare = engine.held_bytes()
    last(engine, job)
    assert engine.held_bytes() > bare + 2**20
    engine.allow(engine.bytes_needed(job))
    last(engine, job)
    assert bare < engine.held_bytes() < bare + 2**20  # the prompt's features alone
    engine.trim()
    assert engine.held_bytes() == bare
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        next(iter(engine.render(job)))


def test_memory_is_flat(engine: Flux2Engine) -> None:
    def held() -> int:
        pixels(engine, picture(64, 64), seed=7)
        return mx.get_active_memory()

    held()
    assert len({held() for _ in range(4)}) == 1


def test_closing_a_render_stops_it(engine: Flux2Engine) -> None:
    steps = engine.render(spec())
    next(steps)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert list(steps) == []


def test_the_recipe_must_be_that_of_the_weights(copied: Path) -> None:
    described(copied, "base")
    index = copied / "model_index.json"
    index.write_text(index.read_text().replace('"is_distilled": false', '"is_distilled": true'))
    with pytest.raises(CheckpointError, match=r"says recipe 'base', model_index\.json is_distilled True"):
        Flux2Engine.load(copied)
    (copied / "kiln.json").write_text((copied / "kiln.json").read_text().replace('"base"', '"turbo"'))
    with pytest.raises(CheckpointError, match=r"recipe: 'turbo'; there are distilled, base$"):
        Flux2Engine.load(copied)
