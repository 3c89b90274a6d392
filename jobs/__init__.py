"""The contract and the client side of pixelkiln: say what to render, watch it, bring it home."""

from __future__ import annotations

from pixelkiln.jobs.client import Kiln, Submitted
from pixelkiln.jobs.errors import (
    JobFailedError,
    KilnError,
    NoSuchJobError,
    NotReadyError,
    SpecError,
    UsageError,
)
from pixelkiln.jobs.queue.status import JobStatus
from pixelkiln.jobs.settings import Settings
from pixelkiln.jobs.sidecar import Sidecar
from pixelkiln.jobs.spec import RenderSpec

__all__ = [
    "JobFailedError",
    "JobStatus",
    "Kiln",
    "KilnError",
    "NoSuchJobError",
    "NotReadyError",
    "RenderSpec",
    "Settings",
    "Sidecar",
    "SpecError",
    "Submitted",
    "UsageError",
]
