"""Which checkpoints are here, and what machine this is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pixelkiln.worker.engines.checkpoints.installed import demo_folder, installed
from pixelkiln.worker.host import machine


def describe(folder: Path, **changes: object) -> Path:
    folder.mkdir(parents=True)
    facts = {"model": "hidream-o1-dev", "recipe": "dev", "bits": 16} | changes
    (folder / "kiln.json").write_text(json.dumps(facts))
    return folder


def test_the_demo_is_always_there(tmp_path: Path) -> None:
    for models in (tmp_path, tmp_path / "nothing"):
        assert list(installed(models)) == ["demo:bf16"]
    assert (demo_folder() / "config.json").exists()


def test_kinds_are_named_as_lanes_name_them(tmp_path: Path) -> None:
    folders = [describe(tmp_path / f"m{bits}", bits=bits) for bits in (16, 8, 6, 5, 4)]
    found = installed(tmp_path)
    kinds = [f"hidream-o1-dev:{name}" for name in ("bf16", "q8", "q6", "q5", "q4")]
    assert set(found) == {*kinds, "demo:bf16"}
    assert found["hidream-o1-dev:q6"].folder == folders[2]


def test_of_two_alike_the_first_by_name(tmp_path: Path) -> None:
    second = describe(tmp_path / "b")
    first = describe(tmp_path / "a")
    assert installed(tmp_path)["hidream-o1-dev:bf16"].folder == first != second


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"model": "demo"}', '{"model": "demo", "bits": 3}', '{"bits": [16]}', "\xff"],
)
def test_what_is_no_checkpoint_is_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "kiln.json").write_text(content, encoding="latin-1")
    describe(tmp_path / "unknown", model="dall-e")
    describe(tmp_path / "odd", model=["hidream-o1-dev"])
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    assert list(installed(tmp_path)) == ["demo:bf16"]


def test_the_budget_is_a_share_unless_it_is_set() -> None:
    assert machine.budget(123) == 123
    assert machine.budget(None) == int(machine.memory_bytes() * machine.SHARE)
