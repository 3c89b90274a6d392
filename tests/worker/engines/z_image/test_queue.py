"""Real Redis, real bucket, a real worker: a picture of a prompt, and one that begins from a picture."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.worker.service import Service
from tests.worker.working import working


def test_jobs_render_through_the_queue(
    checkpoint: Path, settings: Settings, kiln: Kiln, tmp_path: Path
) -> None:
    (settings.models_dir / "z").symlink_to(checkpoint)
    Image.new("RGB", (96, 64), "red").save(tmp_path / "red.png")
    common = {"prompt": "a fox", "model": "z-image-turbo", "quantization": "bf16"}
    plain = kiln.submit({**common, "width": 96, "height": 64, "seed": 1})
    begun = kiln.submit(
        {
            **common,
            "width": 96,
            "height": 64,
            "seed": 1,
            "strength": 0.5,
            "references": [tmp_path / "red.png"],
        }
    )
    working(Service(settings), lambda: all(kiln.status(job.id).ended for job in (plain, begun)))
    for job, steps in ((plain, 8), (begun, 4)):
        assert kiln.status(job.id).state == "finished"
        picture = Image.open(io.BytesIO(kiln.fetch(job.id, tmp_path / "out").read_bytes()))
        assert picture.size == (96, 64)
        assert picture.info["parameters"].startswith("a fox\nSteps: 8, Sampler: flow_match, Seed: 1")
        sidecar = kiln.sidecar(job.id)
        assert (sidecar.model["engine"], sidecar.model["text_encoder"]) == ("z_image", "kept")
        assert len(sidecar.timings.steps) == steps
    assert kiln.sidecar(begun.id).model["strength"] == "0.5, the last 4 steps"
    assert "strength" not in kiln.sidecar(plain.id).model
