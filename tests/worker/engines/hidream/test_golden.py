from __future__ import annotations

import shutil
from pathlib import Path

import mlx.core as mx
import pytest

from pixelkiln.worker.engines.family import GoldenError
from pixelkiln.worker.engines.hidream.golden import replay

CASES = ["dev_t2i", "full_t2i", "dev_edit_flow_match", "dev_refs2", "dev_layout"]


@pytest.mark.parametrize("name", CASES)
def test_every_case_agrees_with_the_recording(tiny: Path, golden: Path, name: str) -> None:
    (result,) = replay(tiny, golden, [name])
    assert result.ok, result
    assert set(result.errors) == {"x_pred", "z", "image"}
    assert (
        result.errors["x_pred"] < 2e-5
    )  # a tenth of what is asked: the arithmetic is the same but for its order


def test_an_unknown_case_is_named(tiny: Path, golden: Path) -> None:
    with pytest.raises(GoldenError, match="no case 'nope'"):
        replay(tiny, golden, ["nope"])


def test_a_changed_recording_is_told(tiny: Path, golden: Path, tmp_path: Path) -> None:
    shutil.copy(golden / "cases.json", tmp_path)
    record = mx.load(str(golden / "dev_t2i.safetensors"))
    assert isinstance(record, dict)
    record["position_ids"] = record["position_ids"] + 1
    mx.save_safetensors(str(tmp_path / "dev_t2i.safetensors"), record)
    (result,) = replay(tiny, tmp_path, ["dev_t2i"])
    assert not result.ok
    assert result.fault == "position_ids differs from what was recorded, first at [0, 0]"
