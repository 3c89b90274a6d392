"""What a chip may compute by: each way timed as it says, what is advised, and what is kept of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import pytest

from pixelkiln.worker import engines
from pixelkiln.worker.engines.checkpoints import calibrate
from pixelkiln.worker.engines.engine import NonFiniteError
from pixelkiln.worker.engines.explore import Exploration, Way, explore, kept
from pixelkiln.worker.engines.family import Bench, Picture, Row, Share
from pixelkiln.worker.engines.hidream import bench as benching
from pixelkiln.worker.engines.hidream.convert import convert
from pixelkiln.worker.engines.mlx import elementwise, timing
from pixelkiln.worker.engines.mlx.pacing import Pace
from tests.tiny import TINY

STEP = {("float32", 1): 1.0, ("float32", 0): 2.0, ("float32", 2): 0.9, ("float32", 4): 0.97}
HALVES = {"bfloat16": None, "float16": 0.5}


def benched(
    folder: Path,
    sizes: Sequence[tuple[int, int]],
    steps: int,
    cache: Path,
    arithmetic: str | None = None,
    told: object = None,
    shares: Sequence[Share] = (),
) -> Bench:
    """A chip on which float16 and two layers ahead are faster, and bfloat16 overflows."""
    taken = HALVES[arithmetic] if arithmetic in HALVES else STEP["float32", Pace().ahead]
    if taken is None:
        raise NonFiniteError(1)
    row = Row(16, "dense", sizes[0], 1, (taken,), 1, 1.0, 1, 1)
    pictures = [Picture(16, sizes[0], *share, (float(share[0] - share[1]),)) for share in shares]
    return Bench("a chip", "0.1", arithmetic or "float32", 1.0, (row,), tuple(pictures))


def test_each_way_is_timed_and_the_faster_ones_advised(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engines, "bench", benched)
    found = explore(TINY, (512, 512), 4, tmp_path, None)
    assert [(one.thing, one.way, one.seconds) for one in found.ways] == [
        ("arithmetic", "float32", 1.0),
        ("arithmetic", "bfloat16", None),
        ("arithmetic", "float16", 0.5),
        ("layers ahead", "1", 1.0),
        ("layers ahead", "0", 2.0),
        ("layers ahead", "2", 0.9),
        ("layers ahead", "4", 0.97),
        ("a picture", "in full", 28.0),
        ("a picture", "--fast", 7.0),
        ("a picture", "--draft", 4.0),
    ]
    assert found.advice() == [
        'arithmetic float16: 0.50 of the time; in kiln.toml: arithmetic = "float16"',
        "layers ahead 2: 0.90 of the time; no setting chooses it: please say so in an issue, with"
        " `kiln doctor --report`",
        "a picture --draft: 0.14 of the time; where what it changes may be (docs/quality.md): kiln submit"
        " --draft",
    ]
    assert kept(tmp_path, found.digest, "a chip") == found


def test_what_is_in_force_stays_where_nothing_is_faster_by_more_than_chance() -> None:
    ways = (Way("arithmetic", "bfloat16", 1.0), Way("arithmetic", "float16", 0.96))
    slower = (Way("layers ahead", "1", 1.0), Way("layers ahead", "4", 1.2))
    found = Exploration("a chip", "0.1", 16, "sha256:0", (64, 64), ways + slower)
    assert found.advice() == ["nothing here is faster than what is in force"]


def test_another_chips_and_a_damaged_exploration_are_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(engines, "bench", benched)
    digest = explore(TINY, (64, 64), 4, tmp_path, None).digest
    assert kept(tmp_path, digest, "another chip") is None
    assert kept(tmp_path, "sha256:" + "1" * 64, "a chip") is None
    (file,) = tmp_path.glob("explored-*.json")
    whole = json.loads(file.read_bytes())
    for damaged in ("", "[]", json.dumps({**whole, "ways": [{}]}), json.dumps({**whole, "size": 3})):
        file.write_text(damaged)
        assert kept(tmp_path, digest, "a chip") is None


def test_a_quantised_checkpoint_is_explored_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(timing, "CPU_SIDE", 32)
    monkeypatch.setattr(timing, "WARM_UP", 1)
    monkeypatch.setattr(calibrate, "ROWS", (2, 4))
    monkeypatch.setattr(benching, "PROMPT", 4)
    monkeypatch.setattr(benching, "PICTURES", 1)
    shutil.copytree(TINY, tmp_path / "tiny")
    convert(tmp_path / "tiny", tmp_path / "six", 6)
    found = explore(tmp_path / "six", (64, 64), 1, tmp_path / "cache", None)
    things = list(dict.fromkeys(one.thing for one in found.ways))
    assert things == ["arithmetic", "a layer, 2 rows", "a layer, 4 rows", "layers ahead", "a picture"]
    assert found.bits == 6
    assert all(one.seconds is None or one.seconds > 0 for one in found.ways)


def test_chains_are_separate_kernels_within_and_fused_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx, "compile", lambda function, shapeless: lambda: "one kernel")
    monkeypatch.setattr(mx, "default_device", lambda: mx.Device(mx.gpu))
    chain = elementwise.fused(lambda: "separate kernels")
    with elementwise.separate():
        assert chain() == "separate kernels"
    assert chain() == "one kernel"
