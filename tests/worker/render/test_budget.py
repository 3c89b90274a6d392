"""What a worker may use of memory: jobs refused before anything is loaded, and references within the rest."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pixelkiln.jobs import Kiln, RenderSpec, Settings, SpecError
from pixelkiln.jobs.storage.bucket import Bucket
from pixelkiln.jobs.storage.pictures import PIXEL, look
from pixelkiln.worker import engines
from pixelkiln.worker.engines.checkpoints.installed import Installed
from pixelkiln.worker.engines.hidream.convert import convert
from pixelkiln.worker.host import machine
from pixelkiln.worker.render.budget import GIB, HANDLED, Budget
from pixelkiln.worker.render.references import KEPT, References
from tests.tiny import TINY

KIND = "demo:bf16"
SERVED = {KIND: Installed("demo", "bf16", TINY)}


def spec(**fields: Any) -> RenderSpec:
    return RenderSpec.parse(
        {"prompt": "a fox", "model": "demo", "width": 64, "height": 64, **fields}
    ).with_seed()


@pytest.fixture
def folders() -> dict[str, Any]:
    """Settings that look nowhere else."""
    return {"models_dir": Path("none"), "cache_dir": Path("none")}


@pytest.fixture
def budget(folders: dict[str, Any]) -> Callable[[int], Budget]:
    """A budget with so many bytes for what is beside the process's own."""

    def make(bytes_left: int, served: dict[str, Installed] = SERVED) -> Budget:
        found = Budget(served, Settings(**folders, memory=2**40))
        found.total = found.total - found.model + bytes_left
        return found

    return make


def test_what_does_not_fit_is_refused_with_what_would(budget: Callable[[int], Budget]) -> None:
    engine = engines.estimate(TINY)
    large = spec(width=1024, height=1024)
    needed = engine.bytes_needed(large) + HANDLED * 2**20
    budget(needed).refuse(large)
    with pytest.raises(
        SpecError, match=r"at bf16 needs .*; 768 x 768, 512 x 512, 384 x 384 would fit$"
    ) as caught:
        budget(needed - 1).refuse(large)
    told = re.findall(r"([\d.]+) GiB", str(caught.value))
    assert len(told) == 2  # needed, and what it may use
    with pytest.raises(SpecError, match="nothing it has would fit"):
        budget(0).refuse(spec())


def test_the_quantizations_that_fit_are_named(budget: Callable[..., Budget], tmp_path: Path) -> None:
    convert(TINY, tmp_path / "q4", 4)
    served = SERVED | {"demo:q4": Installed("demo", "q4", tmp_path / "q4")}
    small = spec()
    needed = {
        kind: engines.estimate(one.folder, calibrations=tmp_path).bytes_needed(small)
        for kind, one in served.items()
    }
    assert needed["demo:q4"] < needed[KIND]
    with pytest.raises(SpecError, match=r"; q4 weights would fit$"):
        budget(needed[KIND] + HANDLED * 64 * 64 - 1, served).refuse(small)


def test_what_an_estimate_tells_is_never_more_than_the_loaded_engine(tmp_path: Path) -> None:
    estimate, engine = engines.estimate(TINY), engines.load(TINY)
    for fields in ({}, {"width": 512}, {"prompt": "word " * 300}):
        assert estimate.bytes_needed(spec(**fields)) <= engine.bytes_needed(spec(**fields))
    engine.close()


def test_the_largest_picture_of_each_kind(budget: Callable[..., Budget], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(TINY, broken)
    (broken / "model.safetensors").write_bytes(b"")
    served = SERVED | {"demo:q8": Installed("demo", "q8", broken)}
    assert budget(2 * GIB, served).largest() == {KIND: 2048, "demo:q8": 0}
    needed = engines.estimate(TINY).bytes_needed(spec(width=512, height=512))
    assert budget(needed + HANDLED * 512 * 512).largest() == {KIND: 512}
    assert budget(0).largest() == {KIND: 0}


def test_the_process_itself_is_counted(folders: dict[str, Any]) -> None:
    total = 2**30 + machine.resident_bytes()  # of a process that runs many tests
    found = Budget(SERVED, Settings(**folders, memory=total))
    assert found.total == total
    assert 0 < found.model < total - 100 * 2**20  # Python and MLX alone take more than that
    assert found.needed(spec()) > engines.estimate(TINY).bytes_needed(spec())


# --- references


@pytest.fixture
def upload(kiln: Kiln, tmp_path: Path) -> Callable[..., str]:
    def act(side: int, colour: str) -> str:
        out = io.BytesIO()
        Image.new("RGB", (side, side), colour).save(out, "PNG")
        path = tmp_path / f"{side}-{colour}.png"
        path.write_bytes(out.getvalue())
        return kiln.upload(path)

    return act


def edit(*names: str) -> RenderSpec:
    return RenderSpec.parse(
        {"prompt": "x", "model": "hidream-o1-dev", "references": list(names), "width": 64, "height": 64}
    )


def test_references_that_do_not_fit_are_refused_before_they_are_decoded(
    bucket: Bucket, upload: Callable[..., str], tmp_path: Path
) -> None:
    references, red = References(bucket), upload(256, "red")
    file = (tmp_path / "256-red.png").read_bytes()
    needed = look(file).bytes_needed
    for room in (-1, 0, len(file) - 1):
        with pytest.raises(SpecError, match=r"^references\.0: .*; the limit is \d+ .*KILN_MEMORY"):
            references.of(edit(red), room)
    for room in (len(file), needed - 1):
        with pytest.raises(SpecError, match=r"^references\.0: 256 x 256 is 65,536 pixels; .*KILN_MEMORY"):
            references.of(edit(red), room)
    assert references.of(edit(red), needed)[0].size == (256, 256)
    with pytest.raises(SpecError, match=r"take 262,144 bytes; this worker has room for 262,143"):
        references.of(edit(red), PIXEL * 256 * 256 - 1)  # decoded, it was kept


def test_what_is_kept_of_other_jobs_makes_room(
    bucket: Bucket, upload: Callable[..., str], tmp_path: Path
) -> None:
    references = References(bucket)
    red, blue = upload(256, "red"), upload(256, "blue")
    room = PIXEL * 256 * 256 + look((tmp_path / "256-red.png").read_bytes()).bytes_needed
    references.of(edit(red), 2 * KEPT)
    references.of(edit(blue), 2 * KEPT)
    assert len(references._kept) == 2
    references.of(edit(red, blue), room)
    references.of(edit(), PIXEL * 256 * 256)
    assert [key.rpartition("/")[2] for key in references._kept] == [blue]  # the one used last
    references.of(edit(), 0)
    assert not references._kept
