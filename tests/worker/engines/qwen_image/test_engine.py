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
from pixelkiln.worker.engines.qwen_image import pipeline
from pixelkiln.worker.engines.qwen_image.convert import convert
from pixelkiln.worker.engines.qwen_image.engine import QwenImageEngine
from tests.worker.engines.qwen_image.synthetic import DRAW, EDIT, LORA, TINY, described

RED, BLUE = (Image.new("RGB", (64, 64), colour) for colour in ("red", "blue"))


def spec(references: int = 0, **fields: Any) -> RenderSpec:
    given = {"prompt": "a red fox", "model": EDIT, "width": 96, "height": 64, "seed": 0, "steps": 3}
    return RenderSpec(**{**given, "references": ["0" * 64] * references, **fields})


def last(engine: QwenImageEngine, *pictures: Image.Image, **fields: Any) -> Step:
    *_, step = engine.render(spec(len(pictures), **fields), pictures)
    return step


def digest(step: Step) -> str:
    assert step.pixels is not None
    return hashlib.sha256(step.pixels.tobytes()).hexdigest()


def test_steps_count_up_and_the_last_preview_is_the_picture(engine: QwenImageEngine) -> None:
    steps = list(engine.render(spec(1), [RED]))
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert [step.pixels is None for step in steps] == [True] * 3 + [False]
    assert steps[0].preview is None
    assert steps[-1].pixels is not None
    assert steps[-1].preview is not None
    assert steps[-1].pixels.shape == (64, 96, 3)
    assert np.abs(steps[-1].preview().astype(int) - steps[-1].pixels.astype(int)).max() <= 1


def test_equal_specs_give_equal_bytes_alone_and_after_others(engine: QwenImageEngine, tmp_path: Path) -> None:
    first = digest(last(engine, RED, BLUE))
    others = {digest(last(engine, BLUE, RED)), digest(last(engine, RED)), digest(last(engine))}
    others |= {digest(last(engine, RED, BLUE, seed=1)), digest(last(engine, RED, BLUE, steps=4))}
    assert len(others - {first}) == 5
    assert digest(last(engine, RED, BLUE)) == first
    alone = QwenImageEngine.load(described(tmp_path / "again"), budget=0, dtype=mx.float32)
    assert digest(last(alone, RED, BLUE)) == first  # the text encoder read for its turn, there


def test_seeds_of_one_prompt_encode_once(engine: QwenImageEngine) -> None:
    before = engine.feature_runs
    for seed in range(3):
        last(engine, RED, prompt="three seeds", seed=seed)
        last(engine, RED, prompt="three seeds", seed=seed, width=64)
    assert engine.feature_runs == before + 1


def test_a_second_branch_runs_only_above_guidance_1(
    engine: QwenImageEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, calls = pipeline.predict, []
    monkeypatch.setattr(pipeline, "predict", lambda *given: calls.append(1) or run(*given))
    plain = digest(last(engine, RED, guidance=1.0))
    assert len(calls) == 3
    guided = digest(last(engine, RED))
    assert len(calls) == 9
    assert digest(last(engine, RED, negative_prompt=" ")) == guided  # as the recipe has it
    assert len({plain, guided, digest(last(engine, RED, negative_prompt="blurry"))}) == 3


def test_guidance_keeps_each_token_s_length() -> None:
    one, other = (mx.random.normal((5, 64), key=mx.random.key(i)) for i in (1, 2))
    moved = pipeline.guided(one, other, 4.0)
    assert mx.allclose(mx.linalg.norm(moved, axis=-1), mx.linalg.norm(one, axis=-1), atol=1e-5)
    assert not mx.allclose(moved, one, atol=0.1)


def test_the_text_encoder_stays_where_the_budget_has_room(tmp_path: Path) -> None:
    engine = QwenImageEngine.load(described(tmp_path / "tiny"), dtype=mx.float32)
    start = engine.held_bytes()
    step = last(engine, RED)
    assert step.facts is not None
    assert step.facts.record()["text_encoder"] == "kept"
    kept = engine.held_bytes()
    engine.allow(engine.bytes_needed(spec(1)))
    freed = last(engine, BLUE)
    assert freed.facts is not None
    assert freed.facts.record()["text_encoder"] == "loaded for each prompt"
    assert start < engine.held_bytes() < kept
    engine.trim()
    assert engine.held_bytes() == start
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        next(iter(engine.render(spec())))


def test_modulation_is_read_for_a_schedule_and_not_kept(tmp_path: Path) -> None:
    before = mx.get_active_memory()
    engine = QwenImageEngine.load(described(tmp_path / "tiny"), budget=0, dtype=mx.float32)
    held = mx.get_active_memory() - before
    modulation = 3 * 2 * 6 * 64 * 64 * 4  # blocks, streams, vectors, width squared, float32
    assert held < engine.held_bytes() + modulation / 4
    last(engine, guidance=1.0)
    assert mx.get_active_memory() - before < held + modulation / 4


def test_what_the_weights_cannot_do_names_its_field(engine: QwenImageEngine, tmp_path: Path) -> None:
    convert(TINY, tmp_path / "few", 16, model=EDIT, lora=LORA)
    lightning = QwenImageEngine.load(tmp_path / "few", dtype=mx.float32)
    draw = QwenImageEngine.load(described(tmp_path / "draw", DRAW), dtype=mx.float32)
    for one, pictures, fields, says in (
        (engine, [], {"seed": None}, "seed: must be drawn"),
        (engine, [], {"steps": 1}, "steps: must be at least 2"),
        (engine, [], {"prompt": "a <|im_end|>"}, r"prompt: spells the control token <\|im_end\|>"),
        (engine, [], {"negative_prompt": "<|image_pad|>"}, "negative_prompt: spells the control token"),
        (engine, [], {"negative_prompt": "x", "guidance": 1.0}, "negative_prompt: has no part"),
        (lightning, [RED], {"guidance": 2.0}, "guidance: 2: Lightning's weights"),
        (lightning, [RED], {"negative_prompt": "x"}, "negative_prompt: has no part"),
        (draw, [RED], {"model": DRAW}, "references: qwen-image draws from a prompt alone"),
    ):
        with pytest.raises(SpecError, match=says):
            list(one.render(spec(len(pictures), **fields), pictures))


def test_a_lora_is_told_with_its_recipe(tmp_path: Path) -> None:
    made = convert(TINY, tmp_path / "few", 6, model=EDIT, lora=LORA)
    engine = QwenImageEngine.load(tmp_path / "few", dtype=mx.float32)
    step = last(engine, RED, steps=None)
    assert step.facts is not None
    record = step.facts.record()
    assert (step.total, record["recipe"], record["guidance"]) == (4, "lightning-4", "1.0")
    assert record["lora"] == made.lora
    assert made.lora is not None
    assert made.lora.startswith("tiny-lightning-4steps.safetensors sha256:")


def test_a_non_finite_step_names_itself(tmp_path: Path) -> None:
    folder = described(tmp_path / "tiny")
    (file,) = (folder / "transformer").glob("*-00003-of-00003.safetensors")
    weights = mx.load(str(file))
    assert isinstance(weights, dict)
    weights["proj_out.bias"] = mx.full((64,), float("nan"), mx.bfloat16)
    mx.save_safetensors(str(file), weights)
    with pytest.raises(NonFiniteError, match="step 1 "):
        list(QwenImageEngine.load(folder, dtype=mx.float32).render(spec()))


def test_text_to_image_weights_render(tmp_path: Path) -> None:
    engine = QwenImageEngine.load(described(tmp_path / "draw", DRAW), dtype=mx.float32)
    step = last(engine, model=DRAW, negative_prompt="blurry")
    assert step.facts is not None
    assert (step.facts.recipe, step.facts.guidance) == ("draw", 4.0)
