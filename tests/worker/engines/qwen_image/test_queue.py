"""Real Redis, real bucket, a real worker that serves all three models on the tiny weights."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from pixelkiln.jobs import Kiln, Settings
from pixelkiln.worker.engines.qwen_image.convert import convert
from pixelkiln.worker.service import Service
from tests.worker.engines.qwen_image.synthetic import DRAW, EDIT, LORA, OLDER, TINY, described
from tests.worker.working import working


def test_every_kind_of_job_renders_through_the_queue(settings: Settings, kiln: Kiln, tmp_path: Path) -> None:
    models = settings.models_dir
    models.mkdir(parents=True, exist_ok=True)
    described(models / "draw", DRAW)
    described(models / "older", OLDER)
    convert(TINY, models / "lightning", 6, model=EDIT, lora=LORA)
    pictures = []
    for colour in ("red", "green", "blue"):
        pictures.append(tmp_path / f"{colour}.png")
        Image.new("RGB", (96, 64), colour).save(pictures[-1])
    small = {"width": 96, "height": 64, "seed": 1}
    bf16, q6 = {**small, "quantization": "bf16", "steps": 2}, {**small, "quantization": "q6"}
    jobs = kiln.submit_many(
        [
            {"prompt": "a fox", "model": DRAW, "negative_prompt": "blurry", "guidance": 3.0, **bf16},
            {"prompt": "blue", "model": OLDER, "references": pictures[:1], **bf16},
            {"prompt": "all on one shelf", "model": OLDER, "references": pictures, **bf16},
            {"prompt": "a woodcut", "model": EDIT, "references": pictures[:1], **q6},
            {"prompt": "a woodcut", "model": EDIT, "references": pictures[:1], "guidance": 4.0, **q6},
        ]
    )
    working(Service(settings), lambda: all(kiln.status(job.id).ended for job in jobs))
    *well, refused = (kiln.status(job.id) for job in jobs)
    assert [one.state for one in well] == ["finished"] * 4, [one.error for one in well]
    assert refused.error is not None
    assert refused.error.startswith("guidance: 4: Lightning's weights")
    told = [kiln.sidecar(job.id).model for job in jobs[:-1]]
    assert [(one["engine"], one["steps"], one["guidance"]) for one in told] == [
        ("qwen_image", "2", "3.0"),
        ("qwen_image", "2", "4.0"),
        ("qwen_image", "2", "4.0"),
        ("qwen_image", "4", "1.0"),
    ]
    assert told[3]["recipe"] == "lightning-4"
    assert told[3]["lora"].startswith(f"{LORA.name} sha256:")
    assert kiln.sidecar(jobs[0].id).spec.negative_prompt == "blurry"
    for job in jobs[:-1]:
        with Image.open(kiln.fetch(job.id, tmp_path / "out")) as picture:
            assert picture.size == (96, 64)
