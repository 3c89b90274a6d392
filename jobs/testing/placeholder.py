"""What the worker in memory makes: a placeholder of the right size, and a true sidecar beside it."""

from __future__ import annotations

import hashlib
import io
import json
import math
from datetime import datetime
from importlib.metadata import version

from PIL import Image, ImageStat

from pixelkiln.jobs import keys
from pixelkiln.jobs.catalogue import CATALOGUE
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.sidecar import Checks, JobFacts, Memory, Png, Sidecar, Timings
from pixelkiln.jobs.spec import RenderSpec

REC_709 = (0.2126, 0.7152, 0.0722, 0.0)


def picture(spec: RenderSpec, reference: Image.Image | None = None) -> Image.Image:
    """A gradient between four colours that depend on the spec alone, seed included.

    As large as the spec says; where the aspect is kept, of the proportions of the `reference`.
    """
    size = (spec.width, spec.height)
    if spec.keep_aspect and reference is not None:
        model = CATALOGUE[spec.model]
        scale = math.sqrt(model.max_pixels / (reference.width * reference.height))
        width, height = (max(1, round(side * scale) // model.grid) * model.grid for side in reference.size)
        size = width, height
    digest = hashlib.sha256(json.dumps(spec.wire(), sort_keys=True).encode()).digest()
    corners = bytes(64 + byte // 2 for byte in digest[:12])  # none so dark that a check would warn
    return Image.frombytes("RGB", (2, 2), corners).resize(size, Image.Resampling.BILINEAR)


def png_of(image: Image.Image) -> bytes:
    """The picture as a file; without the text blocks that a worker writes into one."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def sidecar_of(status: JobStatus, spec: RenderSpec, image: Image.Image, png: bytes, steps: int) -> Sidecar:
    """The record of a job that a worker in memory rendered in so many steps, each of a second."""
    started, ended = (datetime.fromisoformat(text) for text in (status.started_at, status.ended_at))
    waited = (started - datetime.fromisoformat(status.submitted_at)).total_seconds()
    total = (ended - started).total_seconds()
    quick = dict.fromkeys(("load", "prefix", "decode", "checks", "encode", "upload"), 0.0)
    luma = ImageStat.Stat(image.convert("L", REC_709))
    return Sidecar(
        job=JobFacts(
            id=status.id,
            client=spec.client,
            attempt=status.attempt,
            execution=hashlib.sha256(f"{status.id} {status.attempt}".encode()).hexdigest()[:32],
            submitted_at=status.submitted_at,
            started_at=status.started_at,
            rendered_at=status.ended_at,
        ),
        spec=spec,
        model={"engine": "placeholder", "quantization": spec.quantization},
        versions={"pixelkiln": version("pixelkiln")},
        host={"name": "fake", "worker": status.worker},
        timings=Timings(queue_wait=waited, steps=[1.0] * steps, other=total - steps, total=total, **quick),
        memory=Memory(peak_mlx=0, peak_resident=0, swap_ins=0),
        png=Png(
            key=keys.PICTURE(spec.client, status.id),
            sha256=hashlib.sha256(png).hexdigest(),
            bytes=len(png),
            width=image.width,
            height=image.height,
        ),
        checks=Checks(
            luma_mean=round(luma.mean[0], 3),
            luma_spread=round(luma.stddev[0], 3),
            seam_score=1.0,  # it was not made in patches
        ),
    )
