"""What is said of float32, float16 and the weights themselves."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pixelkiln.jobs import Settings
from pixelkiln.jobs.lanes import Lane
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.worker import engines
from pixelkiln.worker.engines import check_digest
from pixelkiln.worker.engines.checkpoints import calibrate
from pixelkiln.worker.engines.checkpoints.installed import installed
from pixelkiln.worker.engines.engine import CheckpointError, NonFiniteError
from pixelkiln.worker.engines.family import Bench, Row
from pixelkiln.worker.engines.mlx import timing
from pixelkiln.worker.host import machine
from pixelkiln.worker.host.watchdog import Watchdog
from pixelkiln.worker.queue.claim import Claim
from pixelkiln.worker.render.references import References
from pixelkiln.worker.render.renderer import Renderer
from tests.tiny import TINY

GOLDEN = Path(__file__).parents[2] / "golden"


def test_goldens_are_replayed_in_full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLX's default rounds products to TF32 on M5, and no golden would hold there."""
    monkeypatch.setenv("MLX_ENABLE_TF32", "1")
    (case,) = engines.verify(TINY, GOLDEN, ["dev_t2i"])
    assert case.ok
    assert os.environ["MLX_ENABLE_TF32"] == "0"


def benched(seconds: float) -> Bench:
    row = Row(16, "dense", (64, 64), 1, (seconds,), 1, 1.0, 1, 1)
    return Bench("Apple M1", "0", "any", 1.0, (row,))


@pytest.mark.parametrize(
    ("bfloat16", "float16", "suits"),
    [
        (1.0, 0.5, "float16"),  # M1 and M2 emulate bfloat16
        (1.0, 1.01, "bfloat16"),
        (1.0, 0.97, "bfloat16"),  # within what varies
        (1.0, None, "bfloat16"),  # the model's numbers are too large
        (None, 1.0, "float16"),
    ],
)
def test_the_arithmetic_that_suits_is_told(
    monkeypatch: pytest.MonkeyPatch, bfloat16: float | None, float16: float | None, suits: str
) -> None:
    seconds = {"bfloat16": bfloat16, "float16": float16}

    def bench(folder: Path, sizes: object, steps: int, cache: object, arithmetic: str, told: object) -> Bench:
        taken = seconds[arithmetic]
        if taken is None:
            raise NonFiniteError(1)
        return benched(taken)

    monkeypatch.setattr(engines, "bench", bench)
    found = engines.compare(TINY, (64, 64), 1, None)
    assert (found.seconds, found.suits) == (seconds, suits)
    assert str(found).endswith(f"{suits} suits this chip")
    assert ("overflows" in str(found)) is (None in seconds.values())


def test_both_arithmetics_are_timed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "CPU_SIDE", 32)
    found = engines.compare(TINY, (64, 64), 1, None)
    assert found.seconds.keys() == {"bfloat16", "float16"}
    assert found.seconds["bfloat16"]


def test_a_calibration_is_of_one_build_of_mlx_and_one_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another wheel or another macOS brings other kernels: what was faster, and the bytes, may change."""
    import mlx.core as mx

    def path() -> Path:
        return calibrate._path(Path("cache"), mx.float32, "sha256:0")

    before = path()
    assert path() == before
    build = machine.build()
    assert build["mlx wheel"].startswith("cp")
    for other in ({**build, "macos": "26.0"}, {**build, "mlx-metal wheel": "py3-none-macosx_26_0_arm64"}):
        monkeypatch.setattr(machine, "build", lambda other=other: other)
        assert path() != before


def test_the_build_is_among_a_sidecars_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "mac", lambda: True)
    monkeypatch.setattr(machine.platform, "mac_ver", lambda: ("26.1", ("", "", ""), "arm64"))
    assert machine.versions()["macos"] == "26.1"
    assert "mlx wheel" in machine.versions()


@pytest.fixture
def swapped(tmp_path: Path) -> Path:
    """A checkpoint one byte of whose weights was changed after kiln.json was written."""
    folder = tmp_path / "swapped"
    shutil.copytree(TINY, folder)
    weights = next(folder.glob("*.safetensors"))
    body = bytearray(weights.read_bytes())
    body[-1] ^= 1
    weights.write_bytes(body)
    return folder


def test_changed_weights_are_named(swapped: Path) -> None:
    assert check_digest(TINY) == json.loads((TINY / "kiln.json").read_text())["digest"]
    with pytest.raises(CheckpointError, match=r"swapped: its weights have changed .* \(sha256:.*, expected"):
        check_digest(swapped)


def test_a_worker_that_is_told_to_looks_before_it_loads(
    swapped: Path, settings: Settings, bucket: Bucket
) -> None:
    models = settings.models_dir
    (models / "demo").unlink()
    swapped.rename(models / "demo")
    spec = RenderSpec.parse({"prompt": "a fox", "model": "demo", "width": 64, "height": 64, "seed": 1})

    def renderer(check: bool) -> Renderer:
        checking = settings.model_copy(update={"check_digest": check})
        return Renderer(installed(models), checking, References(bucket), Watchdog(900.0))

    served = installed(models)["demo:bf16"]
    renderer(False).residents.get(served, spec)
    with pytest.raises(CheckpointError, match="its weights have changed"):
        renderer(True).residents.get(served, spec)


def test_pictures_tell_the_weights_that_made_them(
    swapped: Path, settings: Settings, bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    (settings.models_dir / "demo").unlink()
    folder = swapped.rename(settings.models_dir / "demo")
    renderer = Renderer(installed(settings.models_dir), settings, References(bucket), Watchdog(900.0))
    spec = RenderSpec.parse({"prompt": "a fox", "model": "demo", "width": 64, "height": 64, "seed": 1})
    claim = Claim("job-1", "e1", Lane("demo", "bf16", "normal", "default"))
    said = json.loads((folder / "kiln.json").read_bytes())["digest"]
    made = renderer.render(claim, spec, 0.0, lambda step: True)
    assert made.facts.digest == engines.digest(folder, None) != said
    assert "its weights are not those that kiln.json names" in caplog.text

    # Some weights are read with each job, a tower's for one: by then they may be others.
    resident = renderer.residents.latest
    assert resident is not None
    assert resident.holds()
    shutil.copy(TINY / "model.safetensors", folder)
    assert not resident.holds()
    renderer.unload()
    assert renderer.render(claim, spec, 0.0, lambda step: True).facts.digest == said
    renderer.unload()


def test_weights_that_change_while_they_are_loaded_are_not_used(
    swapped: Path, settings: Settings, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.models_dir / "demo").unlink()
    folder = swapped.rename(settings.models_dir / "demo")
    real = engines.load

    def slow(*given: Any) -> Any:
        engine = real(*given)
        (folder / "model.safetensors").touch()
        return engine

    monkeypatch.setattr(engines, "load", slow)
    renderer = Renderer(installed(settings.models_dir), settings, References(bucket), Watchdog(900.0))
    spec = RenderSpec.parse({"prompt": "a fox", "model": "demo", "width": 64, "height": 64, "seed": 1})
    with pytest.raises(CheckpointError, match="its weights changed while they were loaded"):
        renderer.residents.get(installed(settings.models_dir)["demo:bf16"], spec)
    assert renderer.residents.kinds == ()
