"""Pictures and what goes with them, for tests that do not render."""

from __future__ import annotations

from typing import Any

import numpy as np

from pixelkiln.jobs import RenderSpec
from pixelkiln.jobs.sidecar import Memory
from pixelkiln.worker.engines.engine import Facts, Pixels
from pixelkiln.worker.queue.claim import Claim
from pixelkiln.worker.render.rendered import Rendered

FACTS = Facts(
    engine="test",
    model="demo",
    recipe="dev",
    bits=16,
    source="test",
    revision="0",
    digest="sha256:0",
    versions={},
    device="none",
    arithmetic="none",
    linears="dense",
    steps=2,
    guidance=0.0,
    scheduler="none",
)


def noise(width: int = 64, height: int = 64, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def spec_of(**fields: Any) -> RenderSpec:
    return RenderSpec.parse(
        {"prompt": "a fox", "model": "demo", "width": 64, "height": 64, "seed": 1, **fields}
    )


def rendered(claim: Claim, pixels: Pixels | None = None, taken: float = 1.0, **fields: Any) -> Rendered:
    return Rendered(
        claim=claim,
        spec=spec_of(client=claim.lane.client, **fields),
        pixels=noise() if pixels is None else pixels,
        taken=taken,
        load=0.0,
        prefix=0.1,
        steps=[0.1, 0.2],
        decode=0.01,
        cost=0.5,
        memory=Memory(peak_mlx=1, peak_resident=2, swap_ins=0),
        facts=FACTS,
        events=[],
    )
