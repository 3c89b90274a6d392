"""Through a real queue, bucket and worker."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixelkiln.jobs import Kiln, Settings, SpecError
from pixelkiln.worker.service import Service
from tests.worker.engines.flux2.folders import MODELS, described
from tests.worker.working import working

REFERENCES = ((80, 64), (64, 96), (150, 93))


def test_text_edits_and_guidance_through_the_queue(
    tiny: Path, settings: Settings, kiln: Kiln, tmp_path: Path
) -> None:
    for recipe, model in MODELS.items():
        described(Path(shutil.copytree(tiny, settings.models_dir / model)), recipe)
    noise = np.random.default_rng(0)
    pictures = []
    for i, (width, height) in enumerate(REFERENCES):
        pictures.append(tmp_path / f"{i}.png")
        Image.fromarray(noise.integers(0, 256, (height, width, 3), np.uint8)).save(pictures[-1])
    given = {"prompt": "a fox", "quantization": "bf16", "width": 96, "height": 64, "seed": 1, "steps": 2}
    klein, base = ({**given, "model": model} for model in MODELS.values())
    with pytest.raises(SpecError, match="guidance: "):
        kiln.submit(**klein, guidance=4.0)
    with pytest.raises(SpecError, match="references: flux2-klein-4b takes at most 4"):
        kiln.submit(**klein, references=["0" * 64] * 5)
    jobs = [
        kiln.submit(**klein),
        kiln.submit(**klein, references=pictures[:1]),
        kiln.submit(**klein, references=pictures),
        kiln.submit(**base),
        kiln.submit(**base, guidance=1.0),
        kiln.submit(**klein, references=pictures),
    ]
    working(Service(settings), lambda: all(kiln.status(job.id).ended for job in jobs))
    assert [kiln.status(job.id).error for job in jobs] == [""] * len(jobs)
    seen = []
    for job in jobs:
        picture = Image.open(io.BytesIO(kiln.fetch(job.id, tmp_path / job.id).read_bytes()))
        sidecar = kiln.sidecar(job.id)
        assert picture.size == (96, 64)
        told = picture.info["parameters"].splitlines()[1]
        assert told.startswith("Steps: 2, Sampler: flow_match, ")
        assert ("CFG scale: 4," in told) == (job == jobs[3])
        assert (sidecar.model["engine"], sidecar.model["steps"]) == ("flux2", "2")
        assert sidecar.model["text_encoder"] == "kept"
        seen.append((picture.tobytes(), sidecar.model["recipe"], sidecar.model["guidance"]))
    assert [one[1:] for one in seen] == [
        *[("distilled", "1.0")] * 3,
        *(("base", "4.0"), ("base", "1.0"), ("distilled", "1.0")),
    ]
    assert seen[2] == seen[5]
    assert seen[0][0] == seen[4][0]  # the same weights, unguided
    assert len({one[0] for one in seen}) == 4
