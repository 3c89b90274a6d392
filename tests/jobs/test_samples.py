"""What earlier versions stored is read, shown and fetched as before. Their own code made the samples."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from pixelkiln import Kiln, Settings
from pixelkiln.testing import FakeKiln
from pixelkiln.worker.commands.app import main

SAMPLES = Path(__file__).parent / "samples"
JOB = "from-0-1"


@pytest.fixture(params=["real", "in memory"])
def door(request: pytest.FixtureRequest) -> Kiln:
    """A farm whose queue has forgotten the job; its picture and sidecar lie in the bucket."""
    door: Kiln = FakeKiln() if request.param == "in memory" else request.getfixturevalue("kiln")
    store(door)
    return door


def store(door: Kiln) -> None:
    for name, kind in (("image.png", "image/png"), ("sidecar.json", "application/json")):
        door.bucket.put(f"jobs/default/{JOB}/{name}", (SAMPLES / "v0.1" / name).read_bytes(), kind)


def test_a_sidecar_of_version_0_1(door: Kiln, tmp_path: Path) -> None:
    status = door.status(JOB)
    assert (status.state, status.attempt, status.worker) == ("finished", 1, "vm-866c73")
    assert status.lane == "kiln:demo:bf16:normal:default"
    assert door.wait([JOB]) == [status]
    sidecar = door.sidecar(JOB)
    assert (sidecar.spec.prompt, sidecar.spec.seed, sidecar.spec.labels) == ("a fox", 7, {"night": "1"})
    assert len(sidecar.timings.steps) == 28
    assert sidecar.model["recipe"] == "dev"
    path = door.fetch(JOB, tmp_path / "home")
    assert path.read_bytes() == (SAMPLES / "v0.1" / "image.png").read_bytes()
    written = json.loads((SAMPLES / "v0.1" / "sidecar.json").read_bytes())
    fetched = json.loads(path.with_suffix(".json").read_bytes())
    assert {name: fetched[name] for name in written} == written  # what came to it since is beside it


@pytest.mark.usefixtures("environment")
def test_commands_show_and_fetch_it(
    kiln: Kiln, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store(kiln)
    for arguments in (["status", JOB], ["watch", JOB], ["fetch", JOB, "-o", str(tmp_path / "home")]):
        monkeypatch.setattr(sys, "argv", ["kiln", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
    shown = capsys.readouterr().out
    assert f"{JOB}  finished  jobs/default/{JOB}/image.png" in shown
    assert (tmp_path / "home" / f"{JOB}.png").exists()


def test_settings_of_the_sample_are_not_needed() -> None:
    """Another client looks elsewhere, and finds nothing."""
    other = FakeKiln(Settings.model_construct(client="other", admin_key=SecretStr("x" * 16)))
    store(other)
    assert other.statuses([JOB]) == {JOB: None}
