from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.checkpoints import calibrate
from pixelkiln.worker.engines.hidream.calibrate import choose
from pixelkiln.worker.engines.hidream.config import Config
from pixelkiln.worker.engines.hidream.convert import convert
from pixelkiln.worker.engines.hidream.engine import HiDreamEngine
from pixelkiln.worker.engines.hidream.model import Model


@pytest.fixture
def six(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    convert(checkpoint("dev"), tmp_path / "six", 6)
    return tmp_path / "six"


def test_a_choice_is_made_once_and_kept(six: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "ROWS", (2, 4, 8))
    cache, config = tmp_path / "cache", Config.read(six)
    first = choose(cache, six, config, mx.float32, "a")
    (file,) = cache.iterdir()
    kept = json.loads(file.read_bytes())
    assert kept["digest"] == "a"
    assert set(kept["seconds"]) == {"2", "4", "8"}
    monkeypatch.setattr(calibrate, "measured", lambda *_: pytest.fail("measured again"))
    assert choose(cache, six, config, mx.float32, "a") == first
    file.write_text(json.dumps({**kept, "dequantize_from": 77}))
    assert choose(cache, six, config, mx.float32, "a") == (77, "dequantised from 77 rows")
    monkeypatch.undo()
    monkeypatch.setattr(calibrate, "ROWS", (2, 4, 8))
    file.write_text("{")
    choose(cache, six, config, mx.float32, "a")
    assert json.loads(file.read_bytes())["digest"] == "a"
    choose(cache, six, config, mx.float32, "b")
    choose(cache, six, config, mx.bfloat16, "a")
    assert len(list(cache.iterdir())) == 3


def linears(engine: HiDreamEngine) -> str:
    return engine.facts(RenderSpec(prompt="a hen")).linears


def test_an_engine_names_how_it_multiplies(
    six: Path, checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert linears(HiDreamEngine.load(checkpoint("dev"), calibrations=tmp_path / "none")) == "dense"
    assert not (tmp_path / "none").exists()
    assert linears(HiDreamEngine.load(six)) == "dequantised"
    monkeypatch.setattr(calibrate, "_timed", lambda layer, *_: [1.0, 2.0, 3.0])
    chosen = HiDreamEngine.load(six, calibrations=tmp_path / "cache")
    assert linears(chosen) == "dequantised"  # of equals, what needs no quantised kernel


def test_a_model_loads_within_a_tenth_of_its_weights(
    random_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    source = random_checkpoint(
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=10,
        rope_scaling={"mrope_section": [4, 2, 2]},
        vision={"hidden_size": 512, "intermediate_size": 2048, "depth": 4},
    )
    convert(source, tmp_path / "six", 6)
    for folder in (source, tmp_path / "six"):
        mx.clear_cache()
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        model = Model(folder, Config.read(folder), mx.bfloat16)
        held, peak = mx.get_active_memory() - before, mx.get_peak_memory() - before
        assert peak < 1.1 * held, (folder.name, peak / held)
        files = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        assert held < files - 4 * 3 * 2**20  # the vision tower is not among them
        del model
