from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from pixelkiln.jobs.errors import SpecError
from pixelkiln.jobs.spec import Box, RenderSpec
from pixelkiln.worker.engines.engine import CheckpointError, EngineError, NonFiniteError, Step
from pixelkiln.worker.engines.hidream.engine import HiDreamEngine
from tests.worker.engines.held import held


def spec(**fields: Any) -> RenderSpec:
    return RenderSpec(**{"prompt": "a red fox", "width": 96, "height": 64, "seed": 0, **fields})


def last(engine: HiDreamEngine, job: RenderSpec) -> Step:
    *_, step = engine.render(job)
    return step


def digest(step: Step) -> str:
    assert step.pixels is not None
    return hashlib.sha256(step.pixels.tobytes()).hexdigest()


def test_steps_count_up_and_only_the_last_has_pixels(engine: HiDreamEngine) -> None:
    steps = list(engine.render(spec()))
    assert [step.index for step in steps] == list(range(29))
    assert {step.total for step in steps} == {28}
    assert [step.pixels is None for step in steps] == [True] * 28 + [False]
    assert steps[-1].pixels is not None
    assert steps[-1].pixels.shape == (64, 96, 3)
    assert steps[-1].pixels.dtype == np.uint8
    assert steps[0].preview is None
    assert all(step.preview is not None for step in steps[1:])


def test_the_last_preview_is_the_picture(engine: HiDreamEngine) -> None:
    step = last(engine, spec())
    assert step.preview is not None
    assert step.pixels is not None
    # At the last step the flash sampler's state is its prediction, but for one rounding.
    assert np.abs(step.preview().astype(int) - step.pixels.astype(int)).max() <= 1


def test_equal_specs_give_equal_bytes_alone_and_after_others(
    engine: HiDreamEngine, checkpoint: Callable[[str], Path]
) -> None:
    first = digest(last(engine, spec()))
    others = {digest(last(engine, spec(seed=1))), digest(last(engine, spec(prompt="a hen")))}
    assert first not in others
    assert len(others) == 2
    assert digest(last(engine, spec())) == first
    assert digest(last(HiDreamEngine.load(checkpoint("dev"), dtype=mx.float32), spec())) == first


def test_previews_do_not_change_the_picture(engine: HiDreamEngine) -> None:
    for step in engine.render(spec()):
        if step.preview is not None:
            step.preview()
    assert digest(step) == digest(last(engine, spec()))


def test_seeds_and_sizes_of_one_prompt_run_the_prefix_once(engine: HiDreamEngine) -> None:
    before = engine.prefix_runs
    for seed in range(4):
        list(engine.render(spec(prompt="eight seeds", seed=seed)))
        list(engine.render(spec(prompt="eight seeds", seed=seed, width=64)))
    assert engine.prefix_runs == before + 1


def test_a_guided_model_runs_two_prefixes(checkpoint: Callable[[str], Path]) -> None:
    engine = HiDreamEngine.load(checkpoint("full"), dtype=mx.float32)
    job = spec(model="hidream-o1-full", steps=4)
    assert last(engine, job).total == 4
    assert engine.prefix_runs == 2
    assert digest(last(engine, job)) != digest(last(engine, job.model_copy(update={"guidance": 1.0})))
    assert engine.prefix_runs == 2


def test_an_edit_follows_its_reference_and_repeats(engine: HiDreamEngine) -> None:
    red, blue = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")

    def edit(*references: Image.Image, **fields: Any) -> Step:
        *_, step = engine.render(spec(steps=3, references=["0" * 64] * len(references), **fields), references)
        return step

    runs = engine.prefix_runs
    first = digest(edit(red))
    assert digest(edit(red)) == first
    assert engine.prefix_runs == runs + 1
    assert digest(edit(blue)) != first
    assert digest(edit(red, blue)) not in (first, digest(edit(blue, red)))
    boxes = [Box(x1=0.1, x2=0.5, y1=0.1, y2=0.5)]
    assert digest(edit(red, layout=boxes)) != first


def test_seams_are_blended_where_asked(engine: HiDreamEngine) -> None:
    plain, blended = last(engine, spec()).pixels, last(engine, spec(blend_seams=2)).pixels
    assert plain is not None
    assert blended is not None
    assert np.array_equal(plain[2:30, 2:30], blended[2:30, 2:30])
    assert not np.array_equal(plain, blended)


@pytest.mark.parametrize("field", [{"keep_aspect": True}, {"layout": [Box(x1=0, x2=1, y1=0, y2=1)]}])
def test_what_needs_references_says_so(engine: HiDreamEngine, field: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="needs reference pictures"):
        next(iter(engine.render(spec(**field))))


def test_closing_a_render_stops_it(engine: HiDreamEngine) -> None:
    steps = engine.render(spec())
    next(steps)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert list(steps) == []


def test_a_non_finite_step_names_itself(checkpoint: Callable[[str], Path]) -> None:
    folder = checkpoint("dev")
    file = str(folder / "model.safetensors")
    weights = mx.load(file)
    assert isinstance(weights, dict)
    weights["model.final_layer2.linear.bias"] = mx.full((3072,), float("nan"), mx.bfloat16)
    mx.save_safetensors(file, weights)
    with pytest.raises(NonFiniteError, match="step 1 "):
        list(HiDreamEngine.load(folder, dtype=mx.float32).render(spec()))


def test_what_the_model_cannot_do_is_a_spec_error(engine: HiDreamEngine) -> None:
    with pytest.raises(SpecError, match="seed: must"):
        next(iter(engine.render(spec(seed=None))))


def test_a_folder_without_kiln_json_says_what_to_run(tiny: Path) -> None:
    with pytest.raises(CheckpointError, match="kiln models convert"):
        HiDreamEngine.load(tiny)


def test_a_recipe_that_is_not_hidreams_is_named(copied: Path) -> None:
    path = copied / "kiln.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"recipe": "turbo"}))
    with pytest.raises(CheckpointError, match=r"kiln\.json: recipe: 'turbo'; there are dev, dev-2604, full$"):
        HiDreamEngine.load(copied)


def test_a_closed_engine_says_so(checkpoint: Callable[[str], Path]) -> None:
    engine = HiDreamEngine.load(checkpoint("dev"))
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        next(iter(engine.render(spec())))


def test_the_last_step_tells_what_ran(checkpoint: Callable[[str], Path]) -> None:
    reference = Image.new("RGB", (64, 64), "red")
    dev, full = (HiDreamEngine.load(checkpoint(recipe), dtype=mx.float32) for recipe in ("dev", "full"))

    def ran(engine: HiDreamEngine, references: int = 0, **fields: Any) -> tuple[int, float, str]:
        job = spec(references=["0" * 64] * references, **fields)
        *before, last = engine.render(job, [reference] * references)
        assert all(step.facts is None for step in before)
        assert last.facts == engine.facts(job)
        assert last.facts is not None
        assert last.facts.steps == len(before) == last.total
        return last.facts.steps, last.facts.guidance, last.facts.scheduler

    assert ran(dev) == (28, 0.0, "flash")
    assert ran(dev, 1) == (28, 0.0, "flow_match")
    assert ran(dev, steps=3) == (3, 0.0, "flash")
    assert ran(full, steps=4) == (4, 5.0, "unipc")
    assert ran(full, steps=5, guidance=1.0) == (5, 1.0, "unipc")


def test_facts_are_text_in_a_record(engine: HiDreamEngine) -> None:
    facts = engine.facts(spec())
    record = facts.record()
    assert (facts.recipe, facts.arithmetic, facts.bits) == ("dev", "float32", 16)
    assert all(isinstance(value, str) and value for value in record.values())
    assert list(record) == [
        *("engine", "model", "recipe", "bits", "source", "revision", "digest", "device", "arithmetic"),
        *("linears", "steps", "guidance", "scheduler", "mlx", "tokenizers"),
    ]


def test_memory_is_flat(engine: HiDreamEngine) -> None:
    def rendered() -> int:
        last(engine, spec(seed=7))
        return held()

    list(engine.render(spec(seed=6)))
    assert len({rendered() for _ in range(5)}) == 1


def test_what_it_holds_is_told_and_given_back(checkpoint: Callable[[str], Path]) -> None:
    before = mx.get_active_memory()
    engine = HiDreamEngine.load(checkpoint("dev"), dtype=mx.float32)
    loaded = engine.held_bytes()
    assert loaded == pytest.approx(mx.get_active_memory() - before, rel=0.01)
    list(engine.render(spec(steps=2)))
    assert engine.held_bytes() > loaded  # the prompt is kept
    assert engine.held_bytes() == pytest.approx(mx.get_active_memory() - before, rel=0.01)
    engine.trim()
    assert engine.held_bytes() == loaded
    engine.close()
    del engine
    assert mx.get_active_memory() == before


def test_the_vision_tower_is_not_kept(checkpoint: Callable[[str], Path]) -> None:
    engine = HiDreamEngine.load(checkpoint("dev"), dtype=mx.float32, prefix_cache_bytes=0)
    loaded = held()
    list(engine.render(spec(references=["0" * 64]), [Image.new("RGB", (64, 64), "red")]))
    assert held() == loaded
