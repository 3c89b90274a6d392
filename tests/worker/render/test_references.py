"""References from a producer's disk to the picture: an edit, two pictures, a layout; and what is refused."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from pixelkiln.jobs import Kiln, Settings, SpecError, keys
from pixelkiln.worker.engines.hidream.checkpoint import digest
from pixelkiln.worker.service import Service

GOLDEN = Path(__file__).parents[2] / "golden"
MODEL = "hidream-o1-dev"


@pytest.fixture
def farm(settings: Settings, tmp_path: Path) -> Callable[[Kiln, list[str]], None]:
    """A worker that has the small golden model under a name whose jobs may refer to pictures."""
    folder = tmp_path / "models" / "tiny"
    shutil.copytree(GOLDEN / "tiny-hidream-o1", folder)
    facts = {"schema": 1, "model": MODEL, "recipe": "dev", "bits": 16, "source": "test", "revision": "0"}
    (folder / "kiln.json").write_text(json.dumps({**facts, "digest": digest(folder)}))

    def render(kiln: Kiln, ids: list[str]) -> None:
        def leave_when_done() -> None:
            kiln.wait(ids)
            os.kill(os.getpid(), signal.SIGTERM)

        service = Service(settings.model_copy(update={"models_dir": tmp_path / "models"}), [MODEL])
        waiter = threading.Thread(target=leave_when_done)
        waiter.start()
        service.run()
        waiter.join()

    return render


def png(size: tuple[int, int] = (64, 64), colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def test_an_edit_two_pictures_and_a_layout(
    farm: Callable[[Kiln, list[str]], None], kiln: Kiln, tmp_path: Path
) -> None:
    first, second = (GOLDEN / f"dev_refs2.ref{i}.png" for i in (0, 1))
    kind = {"model": MODEL, "quantization": "bf16"}
    both = {**kind, "references": [first, second], "width": 128, "height": 96, "seed": 3}
    boxes = [
        {"x1": 0.2, "x2": 0.44, "y1": 0.48, "y2": 0.75},
        {"x1": 0.57, "x2": 0.8, "y1": 0.08, "y2": 0.34},
    ]
    edit = {**both, "prompt": "remove the earphones", "references": [first]}
    jobs = [
        kiln.submit(**edit),
        kiln.submit(**{**edit, "references": [second]}),
        kiln.submit(**both, prompt="both toys on a shelf"),
        kiln.submit(**both, prompt="both toys on a shelf", layout=boxes),
    ]
    farm(kiln, [job.id for job in jobs])
    sidecars = [kiln.sidecar(job.id) for job in jobs]
    assert len({sidecar.png.sha256 for sidecar in sidecars}) == len(jobs)  # each condition counts
    assert {(s.png.width, s.png.height) for s in sidecars} == {(128, 96)}
    names = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, second)]
    assert sidecars[2].spec.references == tuple(names)
    assert all(kiln.bucket.head(keys.REFERENCE(kiln.settings.client, name)) for name in names)


def test_references_that_are_not_what_they_should_be_fail_their_job_alone(
    farm: Callable[[Kiln, list[str]], None], kiln: Kiln
) -> None:
    client = kiln.settings.client
    text, cut = b"not a picture", png()[:-30]
    stored = {hashlib.sha256(body).hexdigest(): body for body in (text, cut, png())}
    text_name, cut_name, good_name = stored
    for name, body in stored.items():
        kiln.bucket.put(keys.REFERENCE(client, name), body, "image/png")
    kiln.bucket.put(keys.REFERENCE(client, "e" * 64), png(colour="blue"), "image/png")  # under another's name
    wanted = {"model": MODEL, "quantization": "bf16", "prompt": "x", "width": 64, "height": 64}
    ids = [
        kiln.submit(**wanted, references=[name]).id
        for name in ("f" * 64, "e" * 64, text_name, cut_name, good_name)
    ]
    farm(kiln, ids)
    errors = [kiln.status(job_id).error for job_id in ids]
    for error, said in zip(
        errors[:4],
        ("not in the bucket", "not the file its name says", "not a picture", "cannot be read"),
        strict=True,
    ):
        assert error.startswith("references.0: ")
        assert said in error
    assert kiln.status(ids[4]).state == "finished"


def test_upload_refuses_what_is_no_picture_and_stores_nothing(kiln: Kiln, tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("a fox")
    with pytest.raises(SpecError, match="is not a picture"):
        kiln.submit(model=MODEL, prompt="x", references=[path])
    with pytest.raises(SpecError, match="No such file"):
        kiln.submit(model=MODEL, prompt="x", references=[tmp_path / "absent.png"])
    assert kiln.redis.keys("rq:job:*") == []
