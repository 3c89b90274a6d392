"""A rendered picture on its way to delivery, with what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pixelkiln.jobs.sidecar import Memory
from pixelkiln.jobs.spec import RenderSpec
from pixelkiln.worker.engines.engine import Facts, Pixels
from pixelkiln.worker.queue.claim import Claim


@dataclass(frozen=True, slots=True)
class Rendered:
    """A picture as the render thread hands it over, with what it measured."""

    claim: Claim
    spec: RenderSpec
    pixels: Pixels
    taken: float  # seconds since the epoch
    load: float  # seconds, as all below
    prefix: float
    steps: list[float]
    decode: float
    cost: float  # that its client pays for
    memory: Memory
    facts: Facts
    events: list[dict[str, Any]]
