"""Against the small hub of the first family's tests, which holds this one's release here."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pixelkiln.worker.engines.checkpoints.pull import PullError
from pixelkiln.worker.engines.engine import CheckpointError
from pixelkiln.worker.engines.flux2.engine import Flux2Engine
from pixelkiln.worker.engines.flux2.pull import pull
from pixelkiln.worker.engines.flux2.sources import SOURCES
from tests.worker.engines.flux2.folders import last, spec
from tests.worker.engines.hidream import test_pull as small

MODEL = "flux2-klein-4b"
TOP = "flux-2-klein-4b.safetensors"


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[small.Hub]:
    monkeypatch.setattr(small, "REPO", SOURCES[MODEL].repo_id)
    files = Path(shutil.copytree(tiny, tmp_path / "hub"))
    (files / TOP).write_bytes(b"the transformer once more")
    server = small.Hub(files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_pull_takes_the_parts_pins_and_goes_on(hub: small.Hub, tmp_path: Path) -> None:
    broken = "tokenizer/tokenizer.json"
    hub.broken = {broken}
    with pytest.raises(PullError, match="the same command goes on from there"):
        pull(MODEL, tmp_path / "klein", endpoint=hub.url)
    before, hub.broken = set(hub.fetched) - {broken}, set()
    hub.fetched.clear()
    made = pull(MODEL, tmp_path / "klein", endpoint=hub.url)
    assert not before & set(hub.fetched)
    assert TOP not in before | set(hub.fetched)
    assert (made.model, made.recipe, made.bits, made.revision) == (MODEL, "distilled", 16, small.COMMIT)
    facts = last(Flux2Engine.load(tmp_path / "klein"), spec()).facts
    assert facts is not None
    assert facts.revision == small.COMMIT


def test_weights_that_are_not_whole_are_no_model(hub: small.Hub, tmp_path: Path) -> None:
    (hub.folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        pull(MODEL, tmp_path / "klein", endpoint=hub.url)
    assert not (tmp_path / "klein").exists()
